//! The logits that a session keeps for its next token.

use std::ops::Deref;
use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use crate::cuda::LogitsOnDevice;
#[cfg(feature = "cuda")]
use crate::device::CudaError;
use crate::draw::Draw;

/// The logits for a session's next token; none before its first.
///
/// Those of a GPU stay there until somebody looks at them: a session that takes the greatest, which is found beside the
/// pass, never does.
#[derive(Debug, Default)]
pub struct KeptLogits {
    host: OnceLock<Vec<f32>>,
    greatest: Option<u32>,
    drawn: Option<(Draw, u32)>,
    #[cfg(feature = "cuda")]
    device: Option<LogitsOnDevice>,
}

impl KeptLogits {
    /// None, with room for `count`.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self::from(Vec::with_capacity(count))
    }

    /// The token with the greatest, the lowest among equals, where it is known without looking at them.
    #[must_use]
    pub fn greatest(&self) -> Option<u32> {
        self.greatest
    }

    /// The token that was drawn from them beside the pass, and how, if one was.
    #[must_use]
    pub fn drawn(&self) -> Option<(Draw, u32)> {
        self.drawn
    }

    /// Keeps a copy of `logits`.
    pub(crate) fn set(&mut self, logits: &[f32]) {
        let mut host = self.host.take().unwrap_or_default();
        host.clear();
        host.extend_from_slice(logits);
        self.host = OnceLock::from(host);
        self.greatest = None;
        self.drawn = None;
    }

    /// Lets `room` say where on the GPU logits will be put by a pass, which [`KeptLogits::found`] ends.
    ///
    /// # Errors
    /// What `room` says.
    #[cfg(feature = "cuda")]
    pub(crate) fn begin_on_device(
        &mut self,
        room: impl FnOnce(Option<LogitsOnDevice>) -> Result<LogitsOnDevice, CudaError>,
    ) -> Result<&mut LogitsOnDevice, CudaError> {
        self.host = OnceLock::new();
        (self.greatest, self.drawn) = (None, None);
        let device = room(self.device.take())?;
        Ok(self.device.insert(device))
    }

    /// Where on the GPU they are.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(&self) -> Option<&LogitsOnDevice> {
        self.device.as_ref()
    }

    /// Where on the GPU those after the next token are put by a pass that is begun ahead, if these are there.
    #[cfg(feature = "cuda")]
    pub(crate) fn make_spare(&mut self) -> Option<Result<u64, CudaError>> {
        self.device.as_mut().map(LogitsOnDevice::make_spare)
    }

    /// The logits after the next token are there already, in the other of the two places.
    #[cfg(feature = "cuda")]
    pub(crate) fn turn(&mut self) {
        self.host = OnceLock::new();
        (self.greatest, self.drawn) = (None, None);
        if let Some(device) = &mut self.device {
            device.turn();
        }
    }

    /// Takes note of what a pass has found in the logits that it put on the GPU.
    #[cfg(feature = "cuda")]
    pub(crate) fn found(&mut self, greatest: u32, drawn: Option<(Draw, u32)>) {
        self.greatest = Some(greatest);
        self.drawn = drawn;
    }
}

impl From<Vec<f32>> for KeptLogits {
    fn from(logits: Vec<f32>) -> Self {
        Self {
            host: OnceLock::from(logits),
            ..Self::default()
        }
    }
}

impl Deref for KeptLogits {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.host.get_or_init(|| {
            #[cfg(feature = "cuda")]
            if let Some(device) = &self.device {
                return device.fetch();
            }
            Vec::new()
        })
    }
}
