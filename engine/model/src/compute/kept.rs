//! The logits that a session keeps for its next token.

use std::cell::OnceCell;
use std::ops::Deref;

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
    host: OnceCell<Vec<f32>>,
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
        self.host = OnceCell::from(host);
        self.greatest = None;
        self.drawn = None;
    }

    /// Lets `fill` put logits in their place on the GPU, of which `greatest` is the greatest, and from which a token may have been
    /// `drawn`.
    ///
    /// # Errors
    /// What `fill` says: there are none then.
    #[cfg(feature = "cuda")]
    pub(crate) fn set_on_device(
        &mut self,
        greatest: u32,
        drawn: Option<(Draw, u32)>,
        fill: impl FnOnce(&mut Option<LogitsOnDevice>) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        self.host = OnceCell::new();
        self.greatest = Some(greatest);
        self.drawn = drawn;
        fill(&mut self.device)
    }
}

impl From<Vec<f32>> for KeptLogits {
    fn from(logits: Vec<f32>) -> Self {
        Self {
            host: OnceCell::from(logits),
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
