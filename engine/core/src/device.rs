//! Keys and values in the memory of an accelerator.
//!
//! The engine moves keys and values between slabs, snapshots and prefixes; where they lie is a matter of whoever computes
//! with them. This is what such a place can do.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use crate::slab::{KvStorage, SlabShape};

/// The elements of a slab in the memory of an accelerator, in the order of any other slab of the shape.
///
/// Ranges are of elements, and begin and end with a block ([`KvElement::BLOCK`](crate::KvElement::BLOCK)); the scales of
/// their blocks go with them. When a call returns, what it copied is there. A device that fails does so for good: whoever
/// computes with it says so, and what is read from it after that is worth nothing.
pub trait DeviceKv: Debug + Send + Sync {
    /// Its shape.
    fn shape(&self) -> SlabShape;

    /// Copies from memory of the host, which has the same shape.
    fn upload(&mut self, from: &KvStorage, elements: &[Range<usize>]);

    /// Copies to memory of the host, which has the same shape.
    fn download(&self, to: &mut KvStorage, elements: &[Range<usize>]);

    /// Copies from another of the same shape. False where that is on another device, and nothing was copied.
    #[must_use]
    fn copy_from(&mut self, from: &dyn DeviceKv, elements: &[Range<usize>]) -> bool;

    /// For whoever made it, to find what it is.
    fn as_any(&self) -> &dyn Any;
}
