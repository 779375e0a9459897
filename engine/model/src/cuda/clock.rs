//! How long the device is at work on passes.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::result;
use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream};

use super::context::Device;
use crate::compute::count_device_time;
use crate::device::CudaError;

/// Two marks in the order of a stream.
#[derive(Debug)]
pub(super) struct Clock {
    device: Arc<Device>,
    begun: CUevent,
    ended: CUevent,
}

// SAFETY: the driver's events are used from any thread.
unsafe impl Send for Clock {}

impl Clock {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.bind()?;
        let event = || {
            let made = result::event::create(CUevent_flags::CU_EVENT_DEFAULT);
            device.check("making an event", made)
        };
        Ok(Self {
            device: Arc::clone(device),
            begun: event()?,
            ended: event()?,
        })
    }

    /// Marks where the kernels of a pass begin.
    pub(super) fn begin(&self, stream: CUstream) -> Result<(), CudaError> {
        self.mark(self.begun, stream)
    }

    /// Marks where they end.
    pub(super) fn end(&self, stream: CUstream) -> Result<(), CudaError> {
        self.mark(self.ended, stream)
    }

    /// Counts the time between the marks, once the stream was waited for.
    pub(super) fn count(&self) -> Result<(), CudaError> {
        // SAFETY: both events are ours, and were recorded on one stream.
        let milliseconds = unsafe { result::event::elapsed(self.begun, self.ended) };
        let milliseconds = self
            .device
            .check("reading the time of a pass", milliseconds)?;
        count_device_time(Duration::from_secs_f32(milliseconds / 1e3));
        Ok(())
    }

    fn mark(&self, event: CUevent, stream: CUstream) -> Result<(), CudaError> {
        // SAFETY: the event is ours, and the stream is the caller's.
        let marked = unsafe { result::event::record(event, stream) };
        self.device.check("marking the time of a pass", marked)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: they are ours, and nobody uses them any more.
            unsafe {
                let _ = result::event::destroy(self.begun);
                let _ = result::event::destroy(self.ended);
            }
        }
    }
}
