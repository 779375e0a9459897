use kakeya_core::{KvElement, KvStorage, RejectReason, SlabError, SlabPool, SlabShape};

const SHAPE: SlabShape = SlabShape {
    kv_heads: 2,
    head_dim: 4,
    slots: 3 * 5,
    element: KvElement::F16,
};

#[test]
fn a_slab_holds_keys_and_values_of_every_layer_head_slot_and_dimension() {
    assert_eq!(SHAPE.elements(), Ok(3 * 2 * 2 * 5 * 4));
    assert_eq!(SHAPE.bytes(), Ok(3 * 2 * 2 * 5 * 4 * 2));
    assert_eq!(SHAPE.pool_bytes(7), Ok(3 * 2 * 2 * 5 * 4 * 2 * 7));
    let wide = SlabShape {
        element: KvElement::F32,
        ..SHAPE
    };
    assert_eq!(wide.elements(), SHAPE.elements());
    assert_eq!(wide.bytes(), Ok(3 * 2 * 2 * 5 * 4 * 4));
    let blocks = SlabShape {
        element: KvElement::Int8,
        ..SHAPE
    };
    assert_eq!(blocks.elements(), SHAPE.elements());
    assert_eq!(blocks.bytes(), Ok(3 * 2 * 2 * 5 * (4 + 2)));
}

#[test]
fn slabs_come_zeroed_with_the_elements_of_their_shape() {
    let mut pool = SlabPool::new(SHAPE, 1).unwrap();
    let slab = pool.acquire().unwrap();
    assert_eq!(slab.shape(), &SHAPE);
    assert!(matches!(slab.storage(), KvStorage::F16(bits) if **bits == [0; 240]));

    let mut pool = SlabPool::new(
        SlabShape {
            element: KvElement::F32,
            ..SHAPE
        },
        1,
    )
    .unwrap();
    let slab = pool.acquire().unwrap();
    assert!(matches!(slab.storage(), KvStorage::F32(values) if **values == [0.0; 240]));

    let shape = SlabShape {
        element: KvElement::Int8,
        head_dim: 64,
        ..SHAPE
    };
    let slab = SlabPool::new(shape, 1).unwrap().acquire().unwrap();
    let KvStorage::Int8(blocks) = slab.storage() else {
        unreachable!("the pool is of int8")
    };
    assert_eq!(*blocks.quants, [0; 60 * 64]);
    assert_eq!(*blocks.scales, [0; 60 * 2]);
}

#[test]
fn running_out_is_an_answer_and_a_release_makes_room_again() {
    let mut pool = SlabPool::new(SHAPE, 2).unwrap();
    assert_eq!(
        (pool.available(), pool.capacity(), pool.shape()),
        (2, 2, &SHAPE)
    );
    let first = pool.acquire().unwrap();
    let _second = pool.acquire().unwrap();
    assert_eq!(pool.available(), 0);
    assert_eq!(
        pool.acquire().unwrap_err(),
        SlabError::Exhausted { capacity: 2 }
    );
    pool.release(first).unwrap();
    assert_eq!(pool.available(), 1);
    assert!(pool.acquire().is_ok());
}

#[test]
fn the_slab_released_last_is_handed_out_first() {
    let mut pool = SlabPool::new(SHAPE, 3).unwrap();
    let mut slab = pool.acquire().unwrap();
    let KvStorage::F16(bits) = slab.storage_mut() else {
        unreachable!("the pool is of f16")
    };
    bits[17] = 0x3c00;
    pool.release(slab).unwrap();
    let again = pool.acquire().unwrap();
    assert!(matches!(again.storage(), KvStorage::F16(bits) if bits[17] == 0x3c00));
}

#[test]
fn a_slab_of_another_pool_is_rejected_and_handed_back_even_when_the_shapes_agree() {
    let mut home = SlabPool::new(SHAPE, 1).unwrap();
    let mut other = SlabPool::new(SHAPE, 1).unwrap();
    let rejected = other.release(home.acquire().unwrap()).unwrap_err();
    assert_eq!(rejected.reason, RejectReason::Foreign);
    assert_eq!(rejected.to_string(), "the slab belongs to another pool");
    assert_eq!(other.available(), 1);
    home.release(rejected.slab).unwrap();
    assert_eq!(home.available(), 1);
}

#[test]
fn refuses_a_pool_that_holds_nothing() {
    let empty = [
        (
            SlabShape {
                kv_heads: 0,
                ..SHAPE
            },
            1,
        ),
        (
            SlabShape {
                head_dim: 0,
                ..SHAPE
            },
            1,
        ),
        (SlabShape { slots: 0, ..SHAPE }, 1),
        (SHAPE, 0),
        // Beside a zero, an overflow is not what is wrong.
        (
            SlabShape {
                head_dim: usize::MAX,
                kv_heads: usize::MAX,
                slots: 0,
                ..SHAPE
            },
            1,
        ),
    ];
    for (shape, capacity) in empty {
        let error = SlabPool::new(shape, capacity).unwrap_err();
        assert_eq!(error, SlabError::Empty { shape, capacity });
    }
}

#[test]
fn refuses_a_slab_or_a_pool_beyond_the_address_space_before_allocating() {
    // Times any other factor here it wraps to 0, which an unchecked product would take.
    let huge = 1 << (usize::BITS - 3);
    let too_large = [
        (
            SlabShape {
                kv_heads: huge,
                ..SHAPE
            },
            1,
        ),
        (
            SlabShape {
                head_dim: huge,
                ..SHAPE
            },
            1,
        ),
        (
            SlabShape {
                slots: huge,
                ..SHAPE
            },
            1,
        ),
        (SHAPE, huge),
    ];
    for (shape, capacity) in too_large {
        let error = SlabPool::new(shape, capacity).unwrap_err();
        assert_eq!(error, SlabError::TooLarge { shape, capacity });
    }
    // No multiplication overflows here, yet no allocation can be this large.
    let unit = SlabShape {
        kv_heads: 1,
        head_dim: 1,
        slots: 1,
        element: KvElement::F16,
    };
    let half = SlabShape {
        slots: isize::MAX as usize / 4 + 1,
        ..unit
    };
    assert_eq!(
        half.bytes(),
        Err(SlabError::TooLarge {
            shape: half,
            capacity: 1
        })
    );
    assert!(half.elements().is_err());
}

#[test]
fn more_than_the_system_maps_is_refused_by_name() {
    for element in [KvElement::F16, KvElement::F32, KvElement::Int8] {
        // A quarter of all addresses, of which no processor has so many.
        let shape = SlabShape {
            kv_heads: 1,
            head_dim: 1,
            slots: isize::MAX as usize / 4 / element.vector_bytes(1).unwrap(),
            element,
        };
        let bytes = shape.bytes().unwrap();
        let refused = SlabError::Refused { shape, bytes };
        assert_eq!(SlabPool::new(shape, 1).unwrap_err(), refused);
        assert_eq!(
            refused.to_string(),
            format!("the system refused the {bytes} bytes of a KV slab of {shape}")
        );
    }
}

#[test]
fn errors_show_the_arithmetic() {
    let shape = "2 x 2 kv heads x 15 slots x 4 head dim of f16";
    let too_large = SlabError::TooLarge {
        shape: SHAPE,
        capacity: 9,
    };
    assert_eq!(
        too_large.to_string(),
        format!("a KV pool of 9 slabs of {shape} is larger than the address space")
    );
    let empty = SlabError::Empty {
        shape: SHAPE,
        capacity: 0,
    };
    assert_eq!(
        empty.to_string(),
        format!("a KV pool of 0 slabs of {shape} holds nothing")
    );
    let exhausted = SlabError::Exhausted { capacity: 2 };
    assert_eq!(exhausted.to_string(), "all 2 KV slabs are in use");
}

#[cfg(target_os = "linux")]
#[test]
fn untouched_slabs_cost_no_resident_memory() {
    fn resident_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim()
            .trim_end_matches(" kB")
            .parse::<usize>()
            .unwrap()
            * 1024
    }

    const MIB: usize = 1024 * 1024;
    for element in [KvElement::F16, KvElement::F32, KvElement::Int8] {
        let shape = SlabShape {
            kv_heads: 1,
            head_dim: 64,
            slots: MIB,
            element,
        };
        let before = resident_bytes();
        let mut pool = SlabPool::new(shape, 4).unwrap();
        assert!(shape.pool_bytes(4).unwrap() >= 512 * MIB);
        let slab = pool.acquire().unwrap();
        pool.release(slab).unwrap();
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB, "{element}: {grown} bytes became resident");
    }
}

/// Storage of each element type whose elements are numbered from `first`.
fn numbered(element: KvElement, first: u8) -> KvStorage {
    let shape = SlabShape {
        kv_heads: 1,
        head_dim: 32,
        slots: 2,
        element,
    };
    let mut storage = KvStorage::new(shape).unwrap();
    let numbers = (first..).take(128);
    match &mut storage {
        KvStorage::F16(all) => (all.iter_mut().zip(numbers)).for_each(|(to, n)| *to = n.into()),
        KvStorage::F32(all) => (all.iter_mut().zip(numbers)).for_each(|(to, n)| *to = n.into()),
        KvStorage::Int8(all) => {
            all.scales.copy_from_slice(&[first.into(); 4]);
            (all.quants.iter_mut().zip(numbers)).for_each(|(to, n)| *to = (n % 128) as i8);
        }
        KvStorage::Device(_) => unreachable!("it was made on the host"),
    }
    storage
}

#[test]
fn a_copy_takes_the_elements_it_is_told_of_with_their_scales_and_no_others() {
    for element in [KvElement::F16, KvElement::F32, KvElement::Int8] {
        let (mut to, from) = (numbered(element, 0), numbered(element, 100));
        to.copy_from(&from, [0..32, 96..128].into_iter());
        let differ: Vec<usize> = match (&to, &from, &numbered(element, 0)) {
            (KvStorage::F16(to), KvStorage::F16(from), KvStorage::F16(old)) => (0..128)
                .filter(|at| to[*at] == from[*at] && to[*at] != old[*at])
                .collect(),
            (KvStorage::F32(to), KvStorage::F32(from), KvStorage::F32(old)) => (0..128)
                .filter(|at| to[*at] == from[*at] && to[*at] != old[*at])
                .collect(),
            (KvStorage::Int8(to), KvStorage::Int8(from), KvStorage::Int8(old)) => {
                assert_eq!(*to.scales, [100, 0, 0, 100]);
                (0..128)
                    .filter(|at| to.quants[*at] == from.quants[*at])
                    .filter(|at| to.quants[*at] != old.quants[*at])
                    .collect()
            }
            _ => unreachable!("all three are of one element type"),
        };
        let copied: Vec<usize> = (0..32).chain(96..128).collect();
        assert_eq!(differ, copied, "{element:?}");
    }
}

#[test]
fn storage_beyond_the_address_space_is_refused() {
    let endless = SlabShape {
        slots: usize::MAX,
        ..SHAPE
    };
    assert_eq!(
        KvStorage::new(endless).unwrap_err(),
        SlabPool::new(endless, 1).unwrap_err()
    );
}

#[test]
#[should_panic(expected = "storage of one element type is copied to that of another")]
fn storage_of_another_element_type_is_not_copied() {
    numbered(KvElement::F16, 0)
        .copy_from(&numbered(KvElement::F32, 0), [0..32, 32..64].into_iter());
}
