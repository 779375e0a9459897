//! KV slabs: one fixed-shape block of memory per session, all taken at start.
//!
//! A server that grows a cache per turn fails late and under load. A pool of slabs fails at start or not at
//! all: `acquire` and `release` only move a slab in and out of a list, and running out is an answer
//! ([`SlabError::Exhausted`]), not an allocation.
//!
//! The memory comes zeroed from the system, so a slab that no session has touched costs address space and
//! no resident memory. The free list is a stack for the same reason: a slab that is already resident is
//! handed out again before a fresh one. A released slab keeps its old contents; a position that was never
//! written in this session is masked, and a masked key contributes nothing whatever its slot holds.

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::KvElement;
use crate::device::DeviceKv;
use crate::elements::Elements;

/// The largest object Rust can allocate, in bytes.
const LARGEST: usize = isize::MAX as usize;

static NEXT_POOL: AtomicU64 = AtomicU64::new(0);

/// The shape of one slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlabShape {
    /// Key/value heads of each layer.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Slots of all layers together. A slot holds one position of one layer; a layer has slots for the positions that
    /// it keeps and for the chunk in flight.
    pub slots: usize,
    /// Element type.
    pub element: KvElement,
}

impl SlabShape {
    /// Elements of one slab: `2 * kv_heads * slots * head_dim`, keys and values both.
    ///
    /// # Errors
    /// [`SlabError::Empty`] when a dimension is 0, [`SlabError::TooLarge`] when the slab is beyond what can be
    /// addressed.
    pub fn elements(&self) -> Result<usize, SlabError> {
        self.pool_bytes(1)?;
        // No element has less than a byte, so what has so many bytes has elements that can be counted.
        Ok(self.vectors() * self.head_dim)
    }

    /// Bytes of one slab.
    ///
    /// # Errors
    /// As [`SlabShape::elements`].
    pub fn bytes(&self) -> Result<usize, SlabError> {
        self.pool_bytes(1)
    }

    /// Bytes of a pool of `capacity` slabs: what a host must have room for before the pool is made.
    ///
    /// # Errors
    /// As [`SlabShape::elements`], for the pool as a whole.
    pub fn pool_bytes(&self, capacity: usize) -> Result<usize, SlabError> {
        let factors = [self.kv_heads, self.slots, self.head_dim, capacity];
        let vector = self.element.vector_bytes(self.head_dim);
        let total = vector.and_then(|vector| {
            [2, self.kv_heads, self.slots, capacity]
                .into_iter()
                .try_fold(vector, usize::checked_mul)
        });
        match total {
            // A zero among the factors hides an overflow beside it, so it is looked for in the factors.
            _ if factors.contains(&0) => Err(SlabError::Empty {
                shape: *self,
                capacity,
            }),
            Some(bytes) if bytes <= LARGEST => Ok(bytes),
            _ => Err(SlabError::TooLarge {
                shape: *self,
                capacity,
            }),
        }
    }

    /// Key and value vectors of one slab, where they can be counted.
    fn vectors(&self) -> usize {
        2 * self.kv_heads * self.slots
    }
}

impl std::fmt::Display for SlabShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kv_heads,
            head_dim,
            slots,
            element,
        } = self;
        write!(
            f,
            "2 x {kv_heads} kv heads x {slots} slots x {head_dim} head dim of {element}"
        )
    }
}

/// Why a pool cannot be made, or has no slab to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlabError {
    /// Every slab is in use.
    #[error("all {capacity} KV slabs are in use")]
    Exhausted {
        /// Slabs of the pool.
        capacity: usize,
    },
    /// A dimension or the capacity is 0.
    #[error("a KV pool of {capacity} slabs of {shape} holds nothing")]
    Empty {
        /// The shape asked for.
        shape: SlabShape,
        /// Slabs asked for.
        capacity: usize,
    },
    /// More bytes than an address space has.
    #[error("a KV pool of {capacity} slabs of {shape} is larger than the address space")]
    TooLarge {
        /// The shape asked for.
        shape: SlabShape,
        /// Slabs asked for.
        capacity: usize,
    },
    /// The system would not map so much.
    #[error("the system refused the {bytes} bytes of a KV slab of {shape}")]
    Refused {
        /// The shape asked for.
        shape: SlabShape,
        /// Bytes of one slab.
        bytes: usize,
    },
}

/// The raw elements of a slab, `2 * kv_heads * slots * head_dim` of them. Their order is the model's
/// business.
#[derive(Debug)]
pub enum KvStorage {
    /// IEEE binary16, as bits.
    F16(Elements<u16>),
    /// IEEE binary32.
    F32(Elements<f32>),
    /// Integers, and the scale of each block of them.
    Int8(Int8Elements),
    /// Any of these in the memory of an accelerator.
    Device(Box<dyn DeviceKv>),
}

/// The elements of a slab of [`KvElement::Int8`]: an element is its integer times its block's scale, a product that f32
/// holds exactly.
#[derive(Debug)]
pub struct Int8Elements {
    /// `2 * kv_heads * slots * head_dim` integers.
    pub quants: Elements<i8>,
    /// bfloat16 bits, one for each block of a vector.
    pub scales: Elements<u16>,
}

impl KvStorage {
    /// Storage of this shape that belongs to no pool, zero at first. Memory is taken as it is written.
    ///
    /// # Errors
    /// As [`SlabPool::new`].
    pub fn new(shape: SlabShape) -> Result<Self, SlabError> {
        Self::zeroed(shape, shape.bytes()?)
    }

    /// Copies elements, and the scales of their blocks, to where `from` has them. Ranges begin and end with a block.
    ///
    /// # Panics
    /// When the two are not of one shape, or have no such elements; when the system has no memory for a copy from one
    /// device to another.
    pub fn copy_from(&mut self, from: &Self, elements: impl Iterator<Item = Range<usize>>) {
        match (&mut *self, from) {
            (Self::Device(to), Self::Device(from)) => {
                let elements: Vec<_> = elements.collect();
                if !to.copy_from(&**from, &elements) {
                    to.upload(&download(&**from, &elements), &elements);
                }
            }
            (Self::Device(to), from) => to.upload(from, &elements.collect::<Vec<_>>()),
            (to, Self::Device(from)) => from.download(to, &elements.collect::<Vec<_>>()),
            (to, from) => elements.for_each(|range| to.copy_range(from, range)),
        }
    }

    fn copy_range(&mut self, from: &Self, range: Range<usize>) {
        match (self, from) {
            (Self::F16(to), Self::F16(from)) => copy(to, from, range),
            (Self::F32(to), Self::F32(from)) => copy(to, from, range),
            (Self::Int8(to), Self::Int8(from)) => {
                let blocks = range.start / KvElement::BLOCK..range.end / KvElement::BLOCK;
                copy(&mut to.quants, &from.quants, range);
                copy(&mut to.scales, &from.scales, blocks);
            }
            _ => panic!("storage of one element type is copied to that of another"),
        }
    }

    /// The same elements in memory of the host: themselves where they are there, or a copy of `elements`, the others 0.
    ///
    /// # Panics
    /// When the system has no memory for the copy.
    pub fn on_host(&self, elements: impl Iterator<Item = Range<usize>>) -> HostKv<'_> {
        match self {
            Self::Device(device) => {
                HostKv::Copy(download(&**device, &elements.collect::<Vec<_>>()))
            }
            host => HostKv::Itself(host),
        }
    }

    fn zeroed(shape: SlabShape, bytes: usize) -> Result<Self, SlabError> {
        let count = shape.vectors() * shape.head_dim;
        match shape.element {
            KvElement::F16 => Elements::zeroed(count).map(Self::F16),
            KvElement::F32 => Elements::zeroed(count).map(Self::F32),
            KvElement::Int8 => {
                let blocks = shape.vectors() * shape.head_dim.div_ceil(KvElement::BLOCK);
                Elements::zeroed(count)
                    .zip(Elements::zeroed(blocks))
                    .map(|(quants, scales)| Self::Int8(Int8Elements { quants, scales }))
            }
        }
        .ok_or(SlabError::Refused { shape, bytes })
    }
}

/// Elements in memory of the host: see [`KvStorage::on_host`].
#[derive(Debug)]
pub enum HostKv<'a> {
    /// They are there.
    Itself(&'a KvStorage),
    /// A copy of those on a device.
    Copy(KvStorage),
}

impl Deref for HostKv<'_> {
    type Target = KvStorage;

    fn deref(&self) -> &KvStorage {
        match self {
            Self::Itself(host) => host,
            Self::Copy(host) => host,
        }
    }
}

fn download(device: &dyn DeviceKv, elements: &[Range<usize>]) -> KvStorage {
    let mut host = KvStorage::new(device.shape()).expect("memory for a copy of a slab");
    device.download(&mut host, elements);
    host
}

fn copy<T: Copy>(to: &mut [T], from: &[T], range: Range<usize>) {
    to[range.clone()].copy_from_slice(&from[range]);
}

/// One session's keys and values. It is owned, so it cannot be released twice:
///
/// ```compile_fail,E0382
/// # use kakeya_core::{KvElement, SlabPool, SlabShape};
/// # let shape = SlabShape { kv_heads: 1, head_dim: 1, slots: 1, element: KvElement::F16 };
/// let mut pool = SlabPool::new(shape, 1).unwrap();
/// let slab = pool.acquire().unwrap();
/// pool.release(slab).unwrap();
/// pool.release(slab).unwrap(); // use of moved value
/// ```
///
/// nor copied and released by its copy:
///
/// ```compile_fail,E0599
/// # use kakeya_core::{KvElement, SlabPool, SlabShape};
/// # let shape = SlabShape { kv_heads: 1, head_dim: 1, slots: 1, element: KvElement::F16 };
/// let mut pool = SlabPool::new(shape, 1).unwrap();
/// let slab = pool.acquire().unwrap();
/// let copy = slab.clone(); // no method `clone`
/// ```
#[derive(Debug)]
#[must_use = "a slab that is dropped instead of released is lost to its pool"]
pub struct KVSlab {
    pool: u64,
    shape: SlabShape,
    storage: KvStorage,
}

impl KVSlab {
    /// The shape every slab of the pool has.
    pub fn shape(&self) -> &SlabShape {
        &self.shape
    }

    /// The raw elements.
    pub fn storage(&self) -> &KvStorage {
        &self.storage
    }

    /// The raw elements, to write.
    pub fn storage_mut(&mut self) -> &mut KvStorage {
        &mut self.storage
    }
}

/// Why a slab was not taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// Another pool made it.
    Foreign,
}

/// A slab that was not taken back, with the slab itself, so that nothing is lost by the mistake.
#[derive(Debug, thiserror::Error)]
#[error("the slab belongs to another pool")]
pub struct RejectedSlab {
    /// The slab, unchanged.
    pub slab: KVSlab,
    /// Why.
    pub reason: RejectReason,
}

/// A fixed number of slabs of one shape.
#[derive(Debug)]
pub struct SlabPool {
    id: u64,
    shape: SlabShape,
    capacity: usize,
    free: Vec<KVSlab>,
}

impl SlabPool {
    /// Takes the address space of every slab. Whether the host has the memory is for the caller to ask first
    /// ([`SlabShape::pool_bytes`]): a system that has promised too much ends a process when it runs out.
    ///
    /// # Errors
    /// [`SlabError::Empty`] or [`SlabError::TooLarge`], before anything is taken, and [`SlabError::Refused`].
    pub fn new(shape: SlabShape, capacity: usize) -> Result<Self, SlabError> {
        let bytes = shape.pool_bytes(capacity)? / capacity;
        Self::of(shape, capacity, || KvStorage::zeroed(shape, bytes))
    }

    /// The same, of storage that `make` makes: in the memory of an accelerator, for one.
    ///
    /// # Errors
    /// As [`SlabPool::new`], or what `make` says.
    pub fn of(
        shape: SlabShape,
        capacity: usize,
        mut make: impl FnMut() -> Result<KvStorage, SlabError>,
    ) -> Result<Self, SlabError> {
        shape.pool_bytes(capacity)?;
        let id = NEXT_POOL.fetch_add(1, Ordering::Relaxed);
        let free = (0..capacity)
            .map(|_| {
                Ok(KVSlab {
                    pool: id,
                    shape,
                    storage: make()?,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            id,
            shape,
            capacity,
            free,
        })
    }

    /// Hands out a slab, in constant time.
    ///
    /// # Errors
    /// [`SlabError::Exhausted`] when all are in use.
    pub fn acquire(&mut self) -> Result<KVSlab, SlabError> {
        self.free.pop().ok_or(SlabError::Exhausted {
            capacity: self.capacity,
        })
    }

    /// Takes a slab back, in constant time.
    ///
    /// # Errors
    /// [`RejectedSlab`], with the slab, when another pool made it.
    pub fn release(&mut self, slab: KVSlab) -> Result<(), RejectedSlab> {
        if slab.pool != self.id {
            return Err(RejectedSlab {
                slab,
                reason: RejectReason::Foreign,
            });
        }
        self.free.push(slab);
        Ok(())
    }

    /// Slabs that `acquire` can hand out now.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Slabs of the pool, in use or not.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The shape of every slab.
    pub fn shape(&self) -> &SlabShape {
        &self.shape
    }
}
