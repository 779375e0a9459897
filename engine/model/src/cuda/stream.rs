//! The order in which the device works, and what a session keeps there.

use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::CUstream;

use super::context::Device;
use super::memory::Buffer;
use crate::device::CudaError;

/// A stream of the device's work.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) device: Arc<Device>,
    pub(super) stream: CUstream,
}

// SAFETY: the driver's streams are used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.bind()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Self {
            device: Arc::clone(device),
            stream: device.check("making a stream", stream)?,
        })
    }

    pub(super) fn wait(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the stream is ours.
        let waited = unsafe { result::stream::synchronize(self.stream) };
        self.device.check("a pass", waited)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: the stream is ours, and nobody uses it any more.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}

/// The logits for a session's next token, on the device.
#[derive(Debug)]
pub(crate) struct LogitsOnDevice {
    pub(super) logits: Buffer<f32>,
    pub(super) stream: Arc<Stream>,
}

impl LogitsOnDevice {
    /// A copy of them on the host; zeros where the device has failed, which whoever computes with it has said.
    pub(crate) fn fetch(&self) -> Vec<f32> {
        let mut host = vec![0.0; self.logits.len()];
        let _ = self.stream.wait();
        let _ = self.logits.read(0, &mut host);
        host
    }
}
