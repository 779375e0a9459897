//! Rotary embedding of a row's queries and keys, and its place in the cache.

use super::attention::KvCache;
use crate::config::SEGMENT;
use crate::kv::LayerLayout;
use crate::simd::{LANES, Vector};

/// One row of a layer: what is rotated and where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a, C> {
    pub(crate) layout: &'a LayerLayout,
    pub(crate) position: u64,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// This row's query, key and value vectors, head after head.
    pub(crate) queries: *const f32,
    pub(crate) keys: *const f32,
    pub(crate) values: *const f32,
    /// For each dimension the cosine and then for each the signed sine (see [`crate::rope::Rope::angles`]): at
    /// the row's position, and for sinks.
    pub(crate) angles: *const f32,
    pub(crate) sink_angles: *const f32,
    /// Rotated queries; the second are made only where the layout has sinks.
    pub(crate) window_queries: *mut f32,
    pub(crate) sink_queries: *mut f32,
    /// The session's slab.
    pub(crate) storage: C,
}

/// Rotates the queries, and writes the rotated keys and the values into the row's slot.
///
/// # Safety
/// The processor has the instructions of `V`; the pointers are good for the shapes; no other thread writes this
/// row's slot or outputs.
#[inline(always)]
pub(crate) unsafe fn rotate_and_store<V: Vector, C: KvCache>(row: &Row<'_, C>) {
    let dim = row.layout.head_dim();
    // SAFETY: by the contract above; `dim` is a multiple of 32.
    unsafe {
        for head in 0..row.heads {
            let at = head * dim;
            rotate::<V>(
                row.queries.add(at),
                row.angles,
                row.window_queries.add(at),
                dim,
            );
            if row.layout.sink() > 0 {
                rotate::<V>(
                    row.queries.add(at),
                    row.sink_angles,
                    row.sink_queries.add(at),
                    dim,
                );
            }
        }
        for head in 0..row.kv_heads {
            let keys = row.layout.key_index(head, row.position, 0);
            let values = row.layout.value_index(head, row.position, 0);
            for d in (0..dim).step_by(SEGMENT) {
                let at = head * dim + d;
                let key = |d| turned::<V>(row.keys.add(head * dim + d), row.angles.add(d), dim);
                row.storage
                    .write_key(keys + d * LANES, [key(d), key(d + LANES)]);
                let value = row.values.add(at);
                let value = [V::load(value), V::load(value.add(LANES))];
                row.storage.write_value(values + d, value);
            }
        }
    }
}

/// # Safety
/// `from` and `to` are good for `dim` elements, `angles` for twice as many.
#[inline(always)]
unsafe fn rotate<V: Vector>(from: *const f32, angles: *const f32, to: *mut f32, dim: usize) {
    for d in (0..dim).step_by(LANES) {
        // SAFETY: by the caller.
        unsafe { turned::<V>(from.add(d), angles.add(d), dim).store(to.add(d)) }
    }
}

/// `(a cos - b sin, a sin + b cos)` for eight pairs, each product and sum rounded on its own.
///
/// # Safety
/// `from` and `angles` are good for 16 elements, and `angles` for as many `dim` elements on.
#[inline(always)]
unsafe fn turned<V: Vector>(from: *const f32, angles: *const f32, dim: usize) -> V {
    // SAFETY: by the caller.
    unsafe {
        let x = V::load(from);
        let (cos, sin) = (V::load(angles), V::load(angles.add(dim)));
        x.mul(cos).add(x.swap_pairs().mul(sin))
    }
}
