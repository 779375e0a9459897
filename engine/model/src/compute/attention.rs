//! The attention half of a block: queries, keys and values, the cache, and the weighted sums.

use kakeya_core::KvStorage;

use super::scratch::Shared;
use super::{Compute, SequenceInput};
use crate::config::SEGMENT;
use crate::kernels::attention::{Attention, KvElem, QUERY_TILE};
use crate::kernels::elementwise::{PackedRow, segment_sums};
use crate::kernels::linear::Product;
use crate::kv::KvLayout;
use crate::llama::Model;
use crate::rope::rotate;

/// The entry point of the attention kernel for one element type.
type AttendKernel<E> = unsafe fn(&Attention<'_, E>, usize, usize, *mut f32);

/// Where one session's rows lie in the batch.
struct SessionRows<'a> {
    layout: &'a KvLayout,
    start: u64,
    count: usize,
    layer: usize,
    first_row: usize,
    batch_rows: usize,
}

impl Compute {
    /// Normalises, attends over each session's cache, and adds the result to the residual stream. Writes the keys and
    /// values of the new positions.
    pub(super) fn attention_block(
        &mut self,
        model: &Model,
        batch: &mut [SequenceInput<'_>],
        layer: usize,
        rows: usize,
    ) {
        let weights = &model.layers[layer];
        let config = model.config();
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        self.normalise(&weights.attention_norm, config.norm_epsilon, rows);
        let x = self.packed(rows);
        let s = &mut self.scratch;
        let product = |matrix, out: &mut Vec<f32>, stride| Product {
            matrix,
            x,
            out: out.as_mut_ptr(),
            stride,
            accumulate: false,
        };
        let products = [
            product(&weights.query, &mut s.queries, queries),
            product(&weights.key, &mut s.keys, keys),
            product(&weights.value, &mut s.values, keys),
        ];
        self.multiply(&products);
        let mut first_row = 0;
        for sequence in batch.iter_mut() {
            let part = SessionRows {
                layout: sequence.layout,
                start: sequence.start,
                count: sequence.tokens.len(),
                layer,
                first_row,
                batch_rows: rows,
            };
            match &mut *sequence.storage {
                KvStorage::F16(all) => {
                    self.rotate_and_store(model, &part, Shared(all.as_mut_ptr()));
                    self.attend(model, &part, all.as_ptr(), self.kernels.attend_f16);
                }
                KvStorage::F32(all) => {
                    self.rotate_and_store(model, &part, Shared(all.as_mut_ptr()));
                    self.attend(model, &part, all.as_ptr(), self.kernels.attend_f32);
                }
            }
            sequence.lengths.keys[layer] = sequence.start + sequence.tokens.len() as u64;
            sequence.lengths.values[layer] = sequence.start + sequence.tokens.len() as u64;
            first_row += sequence.tokens.len();
        }
        let packed = Shared(self.scratch.packed.as_mut_ptr());
        let sums = Shared(self.scratch.sums.as_mut_ptr());
        self.pool.run(rows, &|_, row| {
            let row = PackedRow {
                values: packed.at(0),
                sums: sums.at(0),
                rows,
                row,
            };
            // SAFETY: attention wrote every segment of every row; a task writes its own row's sums.
            unsafe { segment_sums(queries / SEGMENT, row) }
        });
        self.add_to_residual(&weights.attention_out, self.packed(rows), config.hidden);
    }

    /// Rotates queries and keys, and writes the keys and values of the new positions into the slab.
    fn rotate_and_store<E: KvElem>(
        &mut self,
        model: &Model,
        part: &SessionRows<'_>,
        storage: Shared<E>,
    ) {
        let SessionRows {
            layout,
            start,
            count,
            layer,
            first_row,
            ..
        } = *part;
        let config = model.config();
        let (dim, heads, kv_heads) = (config.head_dim, config.heads, config.kv_heads);
        let s = &mut self.scratch;
        let (angles, sink_angles, queries, keys, values) =
            (&s.angles, &s.sink_angles, &s.queries, &s.keys, &s.values);
        let window_queries = Shared(s.window_queries.as_mut_ptr());
        let sink_queries = Shared(s.sink_queries.as_mut_ptr());
        self.pool.run(count, &|_, offset| {
            let row = first_row + offset;
            let position = start + offset as u64;
            let (angles, sink_angles) = (
                &angles[row * dim..][..dim],
                &sink_angles[row * dim..][..dim],
            );
            for head in 0..heads {
                let at = (row * heads + head) * dim;
                let query = &queries[at..][..dim];
                // SAFETY: the buffers hold every row (`reserve`), and a task writes its own row.
                let (window, sink) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(window_queries.at(at), dim),
                        std::slice::from_raw_parts_mut(sink_queries.at(at), dim),
                    )
                };
                rotate(query, angles, window);
                rotate(query, sink_angles, sink);
            }
            for head in 0..kv_heads {
                let at = (row * kv_heads + head) * dim;
                let mut pair = [0.0; 2];
                for d in (0..dim).step_by(2) {
                    rotate(&keys[at + d..at + d + 2], &angles[d..d + 2], &mut pair);
                    for (i, value) in pair.into_iter().enumerate() {
                        // SAFETY: the slab's size was checked against the layout; positions of one chunk
                        // have slots of their own.
                        unsafe {
                            storage
                                .at(layout.key_index(layer, head, position, d + i))
                                .write(E::store(value))
                        };
                    }
                }
                for d in 0..dim {
                    // SAFETY: as above.
                    unsafe {
                        storage
                            .at(layout.value_index(layer, head, position, d))
                            .write(E::store(values[at + d]))
                    };
                }
            }
        });
    }

    /// Attention of one session's rows over its cache.
    fn attend<E: KvElem>(
        &mut self,
        model: &Model,
        part: &SessionRows<'_>,
        storage: *const E,
        kernel: AttendKernel<E>,
    ) {
        let config = model.config();
        let (layout, group) = (part.layout, config.group());
        let queries = part.count * group;
        let tiles = queries.div_ceil(QUERY_TILE);
        let scores = Shared(self.scratch.scores.as_mut_ptr());
        let score_room = QUERY_TILE * layout.score_stride();
        let out = self.scratch.packed.as_mut_ptr();
        let heads: Vec<Attention<'_, E>> = (0..config.kv_heads)
            .map(|kv_head| Attention {
                layout,
                keys: storage.wrapping_add(layout.keys_at(part.layer, kv_head)),
                values: storage.wrapping_add(layout.values_at(part.layer, kv_head)),
                queries: self.scratch.window_queries.as_ptr(),
                sink_queries: self.scratch.sink_queries.as_ptr(),
                heads: config.heads,
                group,
                kv_head,
                first_row: part.first_row,
                start: part.start,
                batch_rows: part.batch_rows,
                out,
            })
            .collect();
        self.pool.run(tiles * config.kv_heads, &|thread, task| {
            let first = task / config.kv_heads * QUERY_TILE;
            let count = (queries - first).min(QUERY_TILE);
            // SAFETY: the instructions were checked in `new`; the buffers were sized in `reserve`, the scores
            // for each thread; tasks are disjoint queries.
            unsafe {
                kernel(
                    &heads[task % config.kv_heads],
                    first,
                    count,
                    scores.at(thread * score_room),
                )
            };
        });
    }
}
