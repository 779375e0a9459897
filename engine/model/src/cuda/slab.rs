//! Slabs in the memory of the device.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys::CUdeviceptr;
use kakeya_core::{DeviceKv, KvElement, KvStorage, SlabError, SlabShape};

use super::context::Device;
use super::memory::Buffer;
use crate::device::CudaError;

/// One session's keys and values on the device, in the order that they have on the host.
#[derive(Debug)]
pub(crate) struct SlabOnDevice {
    device: Arc<Device>,
    shape: SlabShape,
    elements: Buffer<u8>,
    /// Those of int8's blocks.
    scales: Buffer<u16>,
    /// How often it was filled with what no pass has made.
    filled: u64,
}

impl SlabOnDevice {
    /// A slab, zero at first.
    pub(crate) fn new(device: &Arc<Device>, shape: SlabShape) -> Result<Self, SlabError> {
        let (count, bytes) = (shape.elements()?, shape.bytes()?);
        let blocks = match shape.element {
            KvElement::Int8 => count / KvElement::BLOCK,
            _ => 0,
        };
        let make = || -> Result<Self, CudaError> {
            let slab = Self {
                device: Arc::clone(device),
                shape,
                elements: Buffer::new(device, count * width(shape.element))?,
                scales: Buffer::new(device, blocks)?,
                filled: 0,
            };
            // The default stream, which is waited for.
            slab.elements.fill(0, std::ptr::null_mut())?;
            slab.scales.fill(0, std::ptr::null_mut())?;
            slab.settle()?;
            Ok(slab)
        };
        make().map_err(|error| {
            tracing::error!(%error, "no slab on the device");
            SlabError::Refused { shape, bytes }
        })
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Where its elements and their scales are.
    pub(crate) fn pointers(&self) -> (CUdeviceptr, CUdeviceptr) {
        (self.elements.pointer(), self.scales.pointer())
    }

    /// How often it was filled from elsewhere: what a pass was told of it before is of another session then.
    pub(crate) fn filled(&self) -> u64 {
        self.filled
    }

    /// Returns when the device is at rest: passes that were begun ahead are waited for, too.
    fn settle(&self) -> Result<(), CudaError> {
        self.device.rest()
    }

    fn put(&self, from: &KvStorage, elements: &[Range<usize>]) -> Result<(), CudaError> {
        self.settle()?;
        self.put_now(from, elements)?;
        // A copy from memory that is not pinned may return before it has arrived.
        self.settle()
    }

    fn put_now(&self, from: &KvStorage, elements: &[Range<usize>]) -> Result<(), CudaError> {
        match from {
            KvStorage::F16(from) => self.put_all(from, elements),
            KvStorage::F32(from) => self.put_all(from, elements),
            KvStorage::Int8(from) => {
                for range in elements {
                    let blocks = blocks(range);
                    self.scales.write(blocks.start, &from.scales[blocks])?;
                }
                self.put_all(&from.quants, elements)
            }
            KvStorage::Device(_) => unreachable!("it is memory of the host, by the contract"),
        }
    }

    fn put_all<T: Pod>(&self, from: &[T], elements: &[Range<usize>]) -> Result<(), CudaError> {
        elements.iter().try_for_each(|range| {
            let bytes = bytemuck::cast_slice(&from[range.clone()]);
            self.elements.write(range.start * size_of::<T>(), bytes)
        })
    }

    fn get(&self, to: &mut KvStorage, elements: &[Range<usize>]) -> Result<(), CudaError> {
        self.settle()?;
        match to {
            KvStorage::F16(to) => self.get_all(to, elements),
            KvStorage::F32(to) => self.get_all(to, elements),
            KvStorage::Int8(to) => {
                for range in elements {
                    let blocks = blocks(range);
                    self.scales.read(blocks.start, &mut to.scales[blocks])?;
                }
                self.get_all(&mut to.quants, elements)
            }
            KvStorage::Device(_) => unreachable!("it is memory of the host, by the contract"),
        }
    }

    fn get_all<T: Pod>(&self, to: &mut [T], elements: &[Range<usize>]) -> Result<(), CudaError> {
        elements.iter().try_for_each(|range| {
            let bytes = bytemuck::cast_slice_mut(&mut to[range.clone()]);
            self.elements.read(range.start * size_of::<T>(), bytes)
        })
    }

    fn take_over(&self, from: &Self, elements: &[Range<usize>]) -> Result<(), CudaError> {
        self.settle()?;
        let (width, stream) = (width(self.shape.element), std::ptr::null_mut());
        for range in elements {
            let (at, count) = (range.start * width, range.len() * width);
            self.elements.copy(at, &from.elements, at, count, stream)?;
            if self.shape.element == KvElement::Int8 {
                let blocks = blocks(range);
                let (at, count) = (blocks.start, blocks.len());
                self.scales.copy(at, &from.scales, at, count, stream)?;
            }
        }
        self.settle()
    }
}

// What fails has been logged, and the device's fault fails whatever is computed with the slab.
impl DeviceKv for SlabOnDevice {
    fn shape(&self) -> SlabShape {
        self.shape
    }

    fn upload(&mut self, from: &KvStorage, elements: &[Range<usize>]) {
        self.filled += 1;
        let _ = self.put(from, elements);
    }

    fn download(&self, to: &mut KvStorage, elements: &[Range<usize>]) {
        let _ = self.get(to, elements);
    }

    fn copy_from(&mut self, from: &dyn DeviceKv, elements: &[Range<usize>]) -> bool {
        let Some(from) = from.as_any().downcast_ref::<Self>() else {
            return false;
        };
        if !Arc::ptr_eq(&self.device, &from.device) {
            return false;
        }
        self.filled += 1;
        let _ = self.take_over(from, elements);
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn width(element: KvElement) -> usize {
    match element {
        KvElement::F16 => 2,
        KvElement::F32 => 4,
        KvElement::Int8 => 1,
    }
}

fn blocks(range: &Range<usize>) -> Range<usize> {
    range.start / KvElement::BLOCK..range.end / KvElement::BLOCK
}
