//! The memory of a slab.
//!
//! A decoded token reads every key and value of its session. With pages of 4 KiB that is a miss of the address
//! translation for each of them, so a slab is a mapping of its own, for which Linux is asked for huge pages.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};

/// A fixed number of elements, zero at first. Memory is taken as they are written, 2 MiB at a time where there are huge
/// pages.
#[derive(Debug)]
pub struct Elements<T> {
    mapping: MmapMut,
    of: PhantomData<T>,
}

impl<T: Pod> Elements<T> {
    /// `count` elements, at least 1; `None` when the system refuses the address space.
    pub(crate) fn zeroed(count: usize) -> Option<Self> {
        let mapping = MmapOptions::new()
            .len(count * size_of::<T>())
            .map_anon()
            .ok()?;
        // A system without huge pages refuses, and ordinary ones do.
        #[cfg(target_os = "linux")]
        drop(mapping.advise(memmap2::Advice::HugePage));
        Some(Self {
            mapping,
            of: PhantomData,
        })
    }
}

impl<T: Pod> Deref for Elements<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.mapping)
    }
}

impl<T: Pod> DerefMut for Elements<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.mapping)
    }
}
