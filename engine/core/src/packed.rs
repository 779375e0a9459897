//! Keys and values outside a slab, in as much memory as they take.

use std::ops::Range;

use bytemuck::Pod;

use crate::config::KvElement;
use crate::device::DeviceKv;
use crate::elements::Elements;
use crate::slab::KvStorage;

/// Ranges of elements of a slab, one after the other, in memory of their own. It remembers nothing of where they lay:
/// whoever packs and unpacks says so.
#[derive(Debug)]
pub struct PackedKv {
    elements: Packed,
    bytes: u64,
}

#[derive(Debug)]
enum Packed {
    F16(Elements<u16>),
    F32(Elements<f32>),
    Int8 {
        quants: Elements<i8>,
        scales: Elements<u16>,
    },
}

impl PackedKv {
    /// Bytes that so many elements of this type take packed.
    pub fn bytes_of(element: KvElement, elements: usize) -> u64 {
        let elements = elements as u64;
        match element {
            KvElement::F16 => 2 * elements,
            KvElement::F32 => 4 * elements,
            KvElement::Int8 => elements + 2 * (elements / KvElement::BLOCK as u64),
        }
    }

    /// Copies `ranges` of `from` out. They begin and end with a block, and hold an element at least; `None` when the
    /// system refuses the memory.
    ///
    /// # Panics
    /// When there are no such elements.
    pub fn pack(from: &KvStorage, ranges: impl Iterator<Item = Range<usize>>) -> Option<Self> {
        Self::pack_all(from, &ranges.collect::<Vec<_>>())
    }

    fn pack_all(from: &KvStorage, ranges: &[Range<usize>]) -> Option<Self> {
        let count: usize = ranges.iter().map(|range| range.len()).sum();
        let (all, scaled) = (ranges.iter().cloned(), ranges.iter().cloned().map(blocks));
        let (elements, element) = match from {
            KvStorage::F16(from) => (Packed::F16(gather(from, all, count)?), KvElement::F16),
            KvStorage::F32(from) => (Packed::F32(gather(from, all, count)?), KvElement::F32),
            KvStorage::Int8(from) => {
                let quants = gather(&from.quants, all, count)?;
                let scales = gather(&from.scales, scaled, count / KvElement::BLOCK)?;
                (Packed::Int8 { quants, scales }, KvElement::Int8)
            }
            KvStorage::Device(_) => return Self::pack_all(&from.on_host(all), ranges),
        };
        let bytes = Self::bytes_of(element, count);
        Some(Self { elements, bytes })
    }

    /// Copies the beginning of each packed range to `to`. `ranges` are those that were packed, each with the range of
    /// `to` that its beginning goes to, which begins and ends with a block as well.
    ///
    /// # Panics
    /// When `to` has no such elements or is of another type, or when less was packed.
    pub fn unpack(
        &self,
        to: &mut KvStorage,
        ranges: impl Iterator<Item = (Range<usize>, Range<usize>)>,
    ) {
        self.unpack_all(to, &ranges.collect::<Vec<_>>());
    }

    fn unpack_all(&self, to: &mut KvStorage, ranges: &[(Range<usize>, Range<usize>)]) {
        let all = ranges.iter().cloned();
        match (&self.elements, to) {
            (_, KvStorage::Device(to)) => self.unpack_to(&mut **to, ranges),
            (Packed::F16(from), KvStorage::F16(to)) => scatter(from, to, all),
            (Packed::F32(from), KvStorage::F32(to)) => scatter(from, to, all),
            (Packed::Int8 { quants, scales }, KvStorage::Int8(to)) => {
                scatter(quants, &mut to.quants, all.clone());
                let of_scales = all.map(|(packed, to)| (blocks(packed), blocks(to)));
                scatter(scales, &mut to.scales, of_scales);
            }
            _ => panic!("keys and values of one element type are unpacked to another"),
        }
    }

    /// The same to a device, by way of the host.
    fn unpack_to(&self, device: &mut dyn DeviceKv, ranges: &[(Range<usize>, Range<usize>)]) {
        let mut host = KvStorage::new(device.shape()).expect("memory for a copy of a slab");
        self.unpack_all(&mut host, ranges);
        let to: Vec<_> = ranges.iter().map(|(_, to)| to.clone()).collect();
        device.upload(&host, &to);
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The blocks of a range of elements.
fn blocks(range: Range<usize>) -> Range<usize> {
    range.start / KvElement::BLOCK..range.end / KvElement::BLOCK
}

fn gather<T: Pod>(
    from: &[T],
    ranges: impl Iterator<Item = Range<usize>>,
    count: usize,
) -> Option<Elements<T>> {
    let mut packed = Elements::zeroed(count)?;
    let mut at = 0;
    for range in ranges {
        let next = at + range.len();
        packed[at..next].copy_from_slice(&from[range]);
        at = next;
    }
    Some(packed)
}

fn scatter<T: Copy>(
    packed: &[T],
    to: &mut [T],
    ranges: impl Iterator<Item = (Range<usize>, Range<usize>)>,
) {
    let mut at = 0;
    for (was, range) in ranges {
        to[range.clone()].copy_from_slice(&packed[at..][..range.len()]);
        at += was.len();
    }
}
