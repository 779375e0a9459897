//! Memory of the device, and memory of the host that the device copies from and to.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUstream};

use super::context::Device;
use crate::device::CudaError;

/// Memory of the device.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    device: Arc<Device>,
    pointer: CUdeviceptr,
    length: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// Room for `length` elements, which hold anything. Of none there is a null pointer.
    pub(crate) fn new(device: &Arc<Device>, length: usize) -> Result<Self, CudaError> {
        device.bind()?;
        let bytes = length * size_of::<T>();
        let pointer = match bytes {
            0 => 0,
            // SAFETY: the context is this thread's.
            bytes => unsafe { result::malloc_sync(bytes) }
                // Not a fault of the device: another process may have taken the memory.
                .map_err(|error| super::context::failed("taking memory", error))?,
        };
        Ok(Self {
            device: Arc::clone(device),
            pointer,
            length,
            of: PhantomData,
        })
    }

    /// The same with these elements.
    pub(crate) fn of(device: &Arc<Device>, elements: &[T]) -> Result<Self, CudaError> {
        let buffer = Self::new(device, elements.len())?;
        buffer.write(0, elements)?;
        Ok(buffer)
    }

    pub(crate) fn pointer(&self) -> CUdeviceptr {
        self.pointer
    }

    /// The address of an element.
    pub(crate) fn at(&self, element: usize) -> CUdeviceptr {
        debug_assert!(element <= self.length);
        self.pointer + (element * size_of::<T>()) as CUdeviceptr
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Copies from the host, and returns when it is done.
    pub(crate) fn write(&self, at: usize, elements: &[T]) -> Result<(), CudaError> {
        assert!(at + elements.len() <= self.length, "beyond the buffer");
        self.device.bind()?;
        if elements.is_empty() {
            return Ok(());
        }
        // SAFETY: the range lies in the buffer.
        let copied = unsafe { result::memcpy_htod_sync(self.at(at), elements) };
        self.device.check("copying to the device", copied)
    }

    /// Copies to the host, and returns when it is done.
    pub(crate) fn read(&self, at: usize, elements: &mut [T]) -> Result<(), CudaError> {
        assert!(at + elements.len() <= self.length, "beyond the buffer");
        self.device.bind()?;
        if elements.is_empty() {
            return Ok(());
        }
        // SAFETY: the range lies in the buffer.
        let copied = unsafe { result::memcpy_dtoh_sync(elements, self.at(at)) };
        self.device.check("copying from the device", copied)
    }

    /// Copies a range of another buffer of the same device. It is done in the order of the stream.
    pub(crate) fn copy(
        &self,
        at: usize,
        from: &Self,
        from_at: usize,
        count: usize,
        stream: CUstream,
    ) -> Result<(), CudaError> {
        assert!(
            at + count <= self.length && from_at + count <= from.length,
            "beyond the buffer"
        );
        self.device.bind()?;
        let bytes = count * size_of::<T>();
        // SAFETY: both ranges lie in their buffers.
        let copied =
            unsafe { result::memcpy_dtod_async(self.at(at), from.at(from_at), bytes, stream) };
        self.device.check("copying on the device", copied)
    }

    /// Sets every byte, in the order of the stream.
    pub(crate) fn fill(&self, byte: u8, stream: CUstream) -> Result<(), CudaError> {
        self.device.bind()?;
        if self.length == 0 {
            return Ok(());
        }
        let bytes = self.length * size_of::<T>();
        // SAFETY: it is the whole buffer.
        let filled = unsafe { result::memset_d8_async(self.pointer, byte, bytes, stream) };
        self.device.check("filling memory", filled)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // A pass that was begun ahead may be at work on it.
        if self.pointer != 0 && self.device.rest().is_ok() {
            // SAFETY: it is ours, and the device is at rest.
            let freed = unsafe { result::free_sync(self.pointer) };
            let _ = self.device.check("giving memory back", freed);
        }
    }
}

/// Memory of the host that the device reads and writes without a copy between.
#[derive(Debug)]
pub(crate) struct Pinned<T> {
    device: Arc<Device>,
    pointer: *mut T,
    length: usize,
}

// SAFETY: it is memory, and it is ours.
unsafe impl<T: Send> Send for Pinned<T> {}

impl<T: Pod> Pinned<T> {
    /// Room for `length` elements, zero at first.
    pub(crate) fn new(device: &Arc<Device>, length: usize) -> Result<Self, CudaError> {
        device.bind()?;
        let bytes = length.max(1) * size_of::<T>();
        // SAFETY: the context is this thread's.
        let pointer = unsafe { result::malloc_host(bytes, 0) };
        let pointer = pointer
            .map_err(|error| super::context::failed("taking memory of the host", error))?
            .cast::<T>();
        // SAFETY: so many bytes were just taken.
        unsafe { pointer.cast::<u8>().write_bytes(0, bytes) };
        Ok(Self {
            device: Arc::clone(device),
            pointer,
            length,
        })
    }
}

impl<T> Deref for Pinned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many elements were taken, and zeroed.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

impl<T> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.length) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: it is ours, and nothing copies to it any more.
            let freed = unsafe { result::free_host(self.pointer.cast()) };
            let _ = self.device.check("giving memory of the host back", freed);
        }
    }
}
