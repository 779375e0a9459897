//! Slabs that lie in the memory of a device: whatever is copied between them, the host and packed prefixes arrives in its place.

use std::any::Any;
use std::ops::Range;

use kakeya_core::{DeviceKv, KvElement, KvStorage, PackedKv, SlabError, SlabPool, SlabShape};

/// A place of the protocol, in memory of the host. Two of one `number` can copy from each other.
#[derive(Debug)]
struct Place {
    number: u32,
    shape: SlabShape,
    storage: KvStorage,
}

impl Place {
    fn storage(number: u32, shape: SlabShape) -> KvStorage {
        KvStorage::Device(Box::new(Self {
            number,
            shape,
            storage: KvStorage::new(shape).unwrap(),
        }))
    }
}

impl DeviceKv for Place {
    fn shape(&self) -> SlabShape {
        self.shape
    }

    fn upload(&mut self, from: &KvStorage, elements: &[Range<usize>]) {
        self.storage.copy_from(from, elements.iter().cloned());
    }

    fn download(&self, to: &mut KvStorage, elements: &[Range<usize>]) {
        to.copy_from(&self.storage, elements.iter().cloned());
    }

    fn copy_from(&mut self, from: &dyn DeviceKv, elements: &[Range<usize>]) -> bool {
        let from = from.as_any().downcast_ref::<Self>().unwrap();
        let near = from.number == self.number;
        if near {
            self.storage
                .copy_from(&from.storage, elements.iter().cloned());
        }
        near
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

const ELEMENTS: [KvElement; 3] = [KvElement::F16, KvElement::F32, KvElement::Int8];
const COPIED: [Range<usize>; 2] = [32..96, 128..160];

fn shape(element: KvElement) -> SlabShape {
    SlabShape {
        kv_heads: 1,
        head_dim: 32,
        slots: 4,
        element,
    }
}

/// Storage of the host whose elements are numbered from `first`.
fn numbered(element: KvElement, first: u8) -> KvStorage {
    let mut storage = KvStorage::new(shape(element)).unwrap();
    let numbers = u16::from(first)..;
    match &mut storage {
        KvStorage::F16(all) => (all.iter_mut().zip(numbers)).for_each(|(to, n)| *to = n),
        KvStorage::F32(all) => (all.iter_mut().zip(numbers)).for_each(|(to, n)| *to = n.into()),
        KvStorage::Int8(all) => {
            (all.scales.iter_mut().zip(1..)).for_each(|(to, n)| *to = n);
            (all.quants.iter_mut().zip(numbers)).for_each(|(to, n)| *to = (n % 128) as i8);
        }
        KvStorage::Device(_) => unreachable!("it was made on the host"),
    }
    storage
}

/// Every element, and every scale, as text: wherever they lie.
fn contents(storage: &KvStorage) -> String {
    match &*storage.on_host(std::iter::once(0..256)) {
        KvStorage::F16(all) => format!("{:?}", &all[..]),
        KvStorage::F32(all) => format!("{:?}", &all[..]),
        KvStorage::Int8(all) => format!("{:?} {:?}", &all.quants[..], &all.scales[..]),
        KvStorage::Device(_) => unreachable!("it was copied to the host"),
    }
}

#[test]
fn a_copy_from_anywhere_to_anywhere_is_that_of_the_host() {
    for element in ELEMENTS {
        let whole = || std::iter::once(0..128);
        let from = numbered(element, 7);
        let mut expected = KvStorage::new(shape(element)).unwrap();
        expected.copy_from(&from, COPIED[..1].iter().cloned());
        let expected = contents(&expected);
        let on = |number| {
            let mut place = Place::storage(number, shape(element));
            place.copy_from(&from, whole());
            place
        };
        for (source, mut target) in [
            (on(1), Place::storage(1, shape(element))),
            (on(1), Place::storage(2, shape(element))),
            (on(1), KvStorage::new(shape(element)).unwrap()),
            (numbered(element, 7), Place::storage(1, shape(element))),
        ] {
            target.copy_from(&source, COPIED[..1].iter().cloned());
            assert_eq!(contents(&target), expected, "{element}");
        }
        assert_ne!(contents(&on(1)), expected, "{element}");
    }
}

#[test]
fn what_is_on_the_host_is_not_copied_to_be_looked_at() {
    let host = numbered(KvElement::F16, 1);
    let looked_at = host.on_host(std::iter::empty());
    assert!(std::ptr::eq(&*looked_at, &raw const host));
}

#[test]
fn a_prefix_is_packed_from_a_device_and_unpacked_to_one() {
    for element in ELEMENTS {
        let mut source = Place::storage(1, shape(element));
        source.copy_from(&numbered(element, 3), std::iter::once(0..128));
        let packed = PackedKv::pack(&source, std::iter::once(32..96)).unwrap();
        let on_host = PackedKv::pack(&numbered(element, 3), std::iter::once(32..96)).unwrap();
        assert_eq!(packed.bytes(), on_host.bytes());
        let mut target = Place::storage(1, shape(element));
        let mut expected = KvStorage::new(shape(element)).unwrap();
        packed.unpack(&mut target, std::iter::once((32..96, 32..64)));
        on_host.unpack(&mut expected, std::iter::once((32..96, 32..64)));
        assert_eq!(contents(&target), contents(&expected), "{element}");
    }
}

#[test]
fn a_pool_of_slabs_is_made_wherever_they_are_to_lie() {
    let shape = shape(KvElement::F16);
    let mut pool = SlabPool::of(shape, 2, || Ok(Place::storage(1, shape))).unwrap();
    let mut slab = pool.acquire().unwrap();
    let KvStorage::Device(device) = slab.storage_mut() else {
        panic!("it lies elsewhere");
    };
    assert!(device.as_any().is::<Place>());
    assert_eq!(device.shape(), shape);
    pool.release(slab).unwrap();
    let refused = SlabError::Refused { shape, bytes: 1 };
    assert_eq!(
        SlabPool::of(shape, 2, || Err(refused)).unwrap_err(),
        refused
    );
    let empty = SlabPool::of(shape, 0, || Ok(Place::storage(1, shape)));
    assert!(matches!(empty, Err(SlabError::Empty { .. })));
}
