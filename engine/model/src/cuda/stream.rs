//! The order in which the device works, marks in it, and what a session keeps on the device.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUevent, CUevent_flags, CUstream};

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

/// A mark in the order of a stream.
#[derive(Debug)]
pub(super) struct Event {
    device: Arc<Device>,
    event: CUevent,
}

// SAFETY: the driver's events are used from any thread.
unsafe impl Send for Event {}

impl Event {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.bind()?;
        let made = result::event::create(CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Self {
            device: Arc::clone(device),
            event: device.check("making an event", made)?,
        })
    }

    /// Puts the mark behind what the stream was told so far.
    pub(super) fn record(&self, stream: CUstream) -> Result<(), CudaError> {
        // SAFETY: the event is ours, and the stream is the caller's.
        let marked = unsafe { result::event::record(self.event, stream) };
        self.device.check("marking a place in a stream", marked)
    }

    /// Returns when the stream has come to the mark, at once where there is none.
    pub(super) fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: the event is ours.
        let waited = unsafe { result::event::synchronize(self.event) };
        self.device.check("a pass", waited)
    }

    /// How long the stream took from here to a later mark. Both were waited for.
    pub(super) fn until(&self, later: &Self) -> Result<Duration, CudaError> {
        // SAFETY: both events are ours, and were recorded on one stream.
        let milliseconds = unsafe { result::event::elapsed(self.event, later.event) };
        let milliseconds = self
            .device
            .check("reading the time of a pass", milliseconds)?;
        Ok(Duration::from_secs_f32(milliseconds / 1e3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: it is ours, and nobody uses it any more.
            let _ = unsafe { result::event::destroy(self.event) };
        }
    }
}

/// The logits for a session's next token, on the device, and a place for those after it.
#[derive(Debug)]
pub(crate) struct LogitsOnDevice {
    pub(super) logits: Buffer<f32>,
    /// Made when a pass is first begun ahead.
    spare: Option<Buffer<f32>>,
    pub(super) stream: Arc<Stream>,
}

impl LogitsOnDevice {
    pub(super) fn new(stream: &Arc<Stream>, vocabulary: usize) -> Result<Self, CudaError> {
        Ok(Self {
            logits: Buffer::new(&stream.device, vocabulary)?,
            spare: None,
            stream: Arc::clone(stream),
        })
    }

    /// A copy of them on the host; zeros where the device has failed, which whoever computes with it has said.
    pub(crate) fn fetch(&self) -> Vec<f32> {
        let mut host = vec![0.0; self.logits.len()];
        let _ = self.stream.wait();
        let _ = self.logits.read(0, &mut host);
        host
    }

    /// Where those after the next token are put by a pass that is begun ahead.
    pub(crate) fn make_spare(&mut self) -> Result<CUdeviceptr, CudaError> {
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => Buffer::new(&self.stream.device, self.logits.len())?,
        };
        Ok(self.spare.insert(spare).pointer())
    }

    /// Whether that is where a pass has put them.
    pub(super) fn has_spare_at(&self, place: CUdeviceptr) -> bool {
        self.spare
            .as_ref()
            .is_some_and(|spare| spare.pointer() == place)
    }

    /// They are the ones from now on.
    pub(crate) fn turn(&mut self) {
        if let Some(spare) = &mut self.spare {
            std::mem::swap(spare, &mut self.logits);
        }
    }
}
