//! The cached keys and values of a session as bytes, wherever in a slab they lie: layer by layer, positions ascending,
//! for each position the keys of all heads and then their values. A block of `int8` has its scale before it.
//!
//! Digests and snapshots are of these bytes, so they know nothing of slots, of the ring's length or of blocks of keys.

use kakeya_core::{KvElement, KvStorage};
use kakeya_model::{KvLayout, LayerLayout, ModelConfig, key_scale};

/// A key or value of one head.
struct Vector {
    /// Of its first element, and from one to the next.
    first: usize,
    step: usize,
    /// The same for its scales.
    scale: usize,
    scale_step: usize,
}

/// Calls `out` with the bytes of each key and value that is cached after `committed` tokens.
pub fn write_kv(
    config: &ModelConfig,
    layout: &KvLayout,
    storage: &KvStorage,
    committed: u64,
    mut out: impl FnMut(&[u8]),
) {
    let dims = config.head_dim;
    let mut bytes = Vec::with_capacity(4 * dims);
    let written = layout
        .layers()
        .iter()
        .flat_map(|layer| layer.written(committed));
    let storage = storage.on_host(written);
    for vector in vectors(config, layout, committed) {
        bytes.clear();
        match &*storage {
            KvStorage::F16(all) => {
                for at in vector.elements(dims) {
                    bytes.extend_from_slice(&all[at].to_le_bytes());
                }
            }
            KvStorage::F32(all) => {
                for at in vector.elements(dims) {
                    bytes.extend_from_slice(&all[at].to_le_bytes());
                }
            }
            KvStorage::Int8(all) => {
                for (dim, at) in vector.elements(dims).enumerate() {
                    if let Some(scale) = vector.scale_before(dim) {
                        bytes.extend_from_slice(&all.scales[scale].to_le_bytes());
                    }
                    bytes.extend_from_slice(&all.quants[at].to_le_bytes());
                }
            }
            KvStorage::Device(_) => unreachable!("it was copied to the host"),
        }
        out(&bytes);
    }
}

/// The inverse of [`write_kv`].
///
/// # Panics
/// When there are not as many bytes as [`kv_bytes`] says, or the storage is not in memory of the host.
pub fn read_kv(
    config: &ModelConfig,
    layout: &KvLayout,
    storage: &mut KvStorage,
    committed: u64,
    mut bytes: &[u8],
) {
    let dims = config.head_dim;
    for vector in vectors(config, layout, committed) {
        match storage {
            KvStorage::F16(all) => {
                for at in vector.elements(dims) {
                    all[at] = u16::from_le_bytes(next(&mut bytes));
                }
            }
            KvStorage::F32(all) => {
                for at in vector.elements(dims) {
                    all[at] = f32::from_le_bytes(next(&mut bytes));
                }
            }
            KvStorage::Int8(all) => {
                for (dim, at) in vector.elements(dims).enumerate() {
                    if let Some(scale) = vector.scale_before(dim) {
                        all.scales[scale] = u16::from_le_bytes(next(&mut bytes));
                    }
                    all.quants[at] = i8::from_le_bytes(next(&mut bytes));
                }
            }
            KvStorage::Device(_) => panic!("keys and values are read into memory of the host"),
        }
    }
    assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
}

/// Bytes of the keys and values that are cached after `committed` tokens; `None` when they cannot be counted.
pub fn kv_bytes(
    config: &ModelConfig,
    layout: &KvLayout,
    element: KvElement,
    committed: u64,
) -> Option<u64> {
    let vector = element.vector_bytes(config.head_dim)? as u64;
    layout
        .cached_positions(committed)
        .checked_mul(2 * config.kv_heads as u64 * vector)
}

fn vectors<'a>(
    config: &'a ModelConfig,
    layout: &'a KvLayout,
    committed: u64,
) -> impl Iterator<Item = Vector> + 'a {
    let heads = config.kv_heads;
    let of_layer = move |layer: &'a LayerLayout| {
        layer.cached(committed).flat_map(move |position| {
            let keys = (0..heads).map(move |head| Vector::key(layer, head, position));
            keys.chain((0..heads).map(move |head| Vector::value(layer, head, position)))
        })
    };
    layout.layers().iter().flat_map(of_layer)
}

impl Vector {
    fn key(layer: &LayerLayout, head: usize, position: u64) -> Self {
        let at = |dim| layer.key_index(head, position, dim);
        Self {
            first: at(0),
            step: at(1) - at(0),
            scale: key_scale(at(0)),
            scale_step: key_scale(at(KvElement::BLOCK)) - key_scale(at(0)),
        }
    }

    fn value(layer: &LayerLayout, head: usize, position: u64) -> Self {
        let first = layer.value_index(head, position, 0);
        Self {
            first,
            step: 1,
            scale: first / KvElement::BLOCK,
            scale_step: 1,
        }
    }

    fn elements(&self, dims: usize) -> impl Iterator<Item = usize> + use<> {
        (self.first..).step_by(self.step).take(dims)
    }

    /// The scale of the block that begins at `dim`, if one does.
    fn scale_before(&self, dim: usize) -> Option<usize> {
        let blocks = dim / KvElement::BLOCK;
        dim.is_multiple_of(KvElement::BLOCK)
            .then_some(self.scale + blocks * self.scale_step)
    }
}

fn next<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes
        .split_first_chunk()
        .expect("as many bytes as the cached positions take");
    *bytes = rest;
    *head
}
