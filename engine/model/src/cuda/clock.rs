//! How long the device is at work on passes.

use std::sync::Arc;

use cudarc::driver::sys::CUstream;

use super::context::Device;
use super::stream::Event;
use crate::compute::count_device_time;
use crate::device::CudaError;

/// Two marks in the order of a stream.
#[derive(Debug)]
pub(super) struct Clock {
    begun: Event,
    ended: Event,
}

impl Clock {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        Ok(Self {
            begun: Event::new(device)?,
            ended: Event::new(device)?,
        })
    }

    /// Marks where the kernels of a pass begin.
    pub(super) fn begin(&self, stream: CUstream) -> Result<(), CudaError> {
        self.begun.record(stream)
    }

    /// Marks where they end.
    pub(super) fn end(&self, stream: CUstream) -> Result<(), CudaError> {
        self.ended.record(stream)
    }

    /// Counts the time between the marks, once the pass was waited for.
    pub(super) fn count(&self) -> Result<(), CudaError> {
        count_device_time(self.begun.until(&self.ended)?);
        Ok(())
    }
}
