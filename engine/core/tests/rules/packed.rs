use std::ops::Range;

use kakeya_core::{KvElement, KvStorage, PackedKv, SlabShape};

/// Two vectors of 64 elements for each of 4 slots of keys, and of values.
const fn shape(element: KvElement) -> SlabShape {
    SlabShape {
        kv_heads: 1,
        head_dim: 64,
        slots: 4,
        element,
    }
}

const WAS: [Range<usize>; 2] = [64..192, 320..448];
/// The beginnings of both.
const CUT: [Range<usize>; 2] = [64..128, 320..384];

/// A slab in which every element is another, and every scale.
fn slab(element: KvElement) -> KvStorage {
    let mut slab = KvStorage::new(shape(element)).unwrap();
    match &mut slab {
        KvStorage::F16(all) => (1..)
            .zip(all.iter_mut())
            .for_each(|(value, to)| *to = value),
        KvStorage::F32(all) => (1u16..)
            .zip(all.iter_mut())
            .for_each(|(value, to)| *to = value.into()),
        KvStorage::Int8(all) => {
            (0..512)
                .zip(all.quants.iter_mut())
                .for_each(|(value, to)| *to = (value % 100 + 1) as i8);
            (1..)
                .zip(all.scales.iter_mut())
                .for_each(|(value, to)| *to = value);
        }
        KvStorage::Device(_) => unreachable!("it was made on the host"),
    }
    slab
}

/// Every element, and every scale, as a number.
fn contents(slab: &KvStorage) -> (Vec<i64>, Vec<i64>) {
    match slab {
        KvStorage::F16(all) => (all.iter().map(|value| i64::from(*value)).collect(), vec![]),
        KvStorage::F32(all) => (all.iter().map(|value| *value as i64).collect(), vec![]),
        KvStorage::Int8(all) => (
            all.quants.iter().map(|value| i64::from(*value)).collect(),
            all.scales.iter().map(|value| i64::from(*value)).collect(),
        ),
        KvStorage::Device(_) => unreachable!("it was made on the host"),
    }
}

#[test]
fn what_was_packed_comes_back_to_its_place_and_nothing_else_is_touched() {
    for element in [KvElement::F16, KvElement::F32, KvElement::Int8] {
        let from = slab(element);
        let packed = PackedKv::pack(&from, WAS.into_iter()).unwrap();
        assert_eq!(packed.bytes(), PackedKv::bytes_of(element, 256));
        for wanted in [WAS, CUT] {
            let mut to = KvStorage::new(shape(element)).unwrap();
            packed.unpack(&mut to, WAS.into_iter().zip(wanted.clone()));
            let inside = |at: usize| wanted.iter().any(|range| range.contains(&at));
            let kept = |all: Vec<i64>, block: usize| -> Vec<i64> {
                let all = all.into_iter().enumerate();
                all.map(|(at, value)| if inside(at * block) { value } else { 0 })
                    .collect()
            };
            let (elements, scales) = contents(&from);
            assert_eq!(
                contents(&to),
                (kept(elements, 1), kept(scales, KvElement::BLOCK)),
                "{element}, {wanted:?}"
            );
        }
    }
}

#[test]
fn packed_bytes_are_those_of_elements_and_scales() {
    assert_eq!(PackedKv::bytes_of(KvElement::F16, 64), 128);
    assert_eq!(PackedKv::bytes_of(KvElement::F32, 64), 256);
    assert_eq!(PackedKv::bytes_of(KvElement::Int8, 64), 64 + 2 * 2);
}

#[test]
#[should_panic(expected = "of one element type are unpacked to another")]
fn one_element_type_is_not_unpacked_to_another() {
    let packed = PackedKv::pack(&slab(KvElement::F16), WAS.into_iter()).unwrap();
    let mut to = slab(KvElement::Int8);
    packed.unpack(&mut to, WAS.into_iter().zip(WAS));
}
