//! The attention half of a block: queries, keys and values, the cache, and the weighted sums.

use super::plan::{Part, Storage, TileOf, with_cache};
use super::processor::{Processor, add};
use super::scratch::Shared;
use super::{Phase, SequenceInput};
use crate::kernels::CacheKernels;
use crate::kernels::attention::{Attention, Int8, KvCache, Tile, TileRoom};
use crate::kernels::linear::Product;
use crate::kernels::rotate::Row;
use crate::model::{Model, Projection};

impl Processor {
    /// Normalises, attends over each session's cache, and adds the result to the residual stream. Writes the keys and
    /// values of the new positions.
    pub(super) fn attention_block(
        &mut self,
        model: &Model,
        batch: &mut [SequenceInput<'_>],
        layer: usize,
    ) {
        let weights = &model.layers[layer];
        let config = model.config();
        let rows = self.plan.rows;
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        self.normalise(&weights.attention_norm, config.norm_epsilon, rows);
        self.clock.lap(Phase::Norm);
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
            product(&weights.key.matrix, &mut s.keys, keys),
            product(&weights.value.matrix, &mut s.values, keys),
            product(&weights.query.matrix, &mut s.queries, queries),
        ];
        // Of the last layer's output only the rows that make logits are read; the others leave their keys and values.
        let narrows = layer + 1 == config.layers && self.plan.logits < rows;
        self.multiply(&products[..if narrows { 2 } else { 3 }]);
        self.clock.lap(Phase::QueryKeyValue);
        self.rotate(model, layer, if narrows { Heads::Keys } else { Heads::All });
        for sequence in batch {
            let end = sequence.start + sequence.tokens.len() as u64;
            sequence.lengths.keys[layer] = end;
            sequence.lengths.values[layer] = end;
        }
        self.clock.lap(Phase::Rotate);
        if narrows {
            self.narrow(model);
            let rows = self.plan.rows;
            if rows == 0 {
                return;
            }
            self.normalise(&weights.attention_norm, config.norm_epsilon, rows);
            self.clock.lap(Phase::Norm);
            self.multiply(&[Product {
                x: self.packed(rows),
                ..products[2]
            }]);
            self.clock.lap(Phase::QueryKeyValue);
            self.rotate(model, layer, Heads::Queries);
            self.clock.lap(Phase::Rotate);
        }
        let rows = self.plan.rows;
        if self.plan.pieces > 1 {
            self.attend_together(model, layer);
        } else {
            self.attend_apart(model, layer);
        }
        self.clock.lap(Phase::Attention);
        let out = &weights.attention_out;
        let norm = weights.post_attention_norm.as_deref();
        self.add_to_residual(
            model,
            &out.matrix,
            self.packed(rows),
            out.bias.as_deref(),
            norm,
        );
        self.clock.lap(Phase::AttentionOut);
    }

    /// Goes on with the rows that make logits only.
    fn narrow(&mut self, model: &Model) {
        let config = model.config();
        for part in &self.plan.parts {
            // Wanted rows move together at the front: they never move back.
            let (from, to) = (part.first_row + part.rows - part.logits, part.first_logits);
            for (buffer, width) in [
                (&mut self.scratch.residual, config.hidden),
                (
                    &mut self.scratch.angles,
                    config.ropes.len() * 2 * config.head_dim,
                ),
                (&mut self.scratch.sink_angles, 2 * config.head_dim),
            ] {
                buffer.copy_within(from * width..(from + part.logits) * width, to * width);
            }
        }
        self.plan
            .narrow(config, self.kernels.query_tile, self.pool.threads());
        self.make_room(model);
    }

    /// Rotates queries and keys, and writes the keys and values of the new positions into the slabs.
    fn rotate(&mut self, model: &Model, layer: usize, heads: Heads) {
        let pass = LayerPass {
            query_heads: if heads == Heads::Keys {
                0
            } else {
                model.config().heads
            },
            kv_heads: if heads == Heads::Queries {
                0
            } else {
                model.config().kv_heads
            },
            ..self.layer_pass(model, layer)
        };
        let (plan, kernels) = (&self.plan, &self.kernels);
        self.pool.run(plan.rows, &|_, row| {
            let part = &plan.parts[plan.part_of[row]];
            // SAFETY: the instructions were checked in `new`; the buffers hold every row (`reserve`), the slab's
            // size was checked against the layout, and positions of one chunk have slots of their own.
            unsafe {
                pass.finish_projections(row, kernels.norm_heads);
                with_cache!(kernels, part.storage, |of, cache| (of.rotate_and_store)(
                    &pass.row(part, cache, row)
                ));
            }
        });
    }

    /// Each thread takes whole tiles.
    fn attend_apart(&mut self, model: &Model, layer: usize) {
        let pass = self.layer_pass(model, layer);
        let (plan, kernels) = (&self.plan, &self.kernels);
        self.pool.run(plan.tiles.len(), &|thread, index| {
            let of = &plan.tiles[index];
            let part = &plan.parts[of.part];
            let tile = pass.tile(of, part, 1, thread * plan.tile_scratch);
            // SAFETY: the instructions were checked in `new`; the buffers were sized in `reserve`, the scratch for
            // each thread; tiles are disjoint queries.
            unsafe {
                with_cache!(kernels, part.storage, |kernels, cache| {
                    (kernels.attend)(&pass.attention(of, part, cache), &tile)
                });
            }
        });
    }

    /// The threads share each tile: there are too few for each to have its own.
    fn attend_together(&mut self, model: &Model, layer: usize) {
        let pass = self.layer_pass(model, layer);
        let (plan, kernels) = (&self.plan, &self.kernels);
        for (index, of) in plan.tiles.iter().enumerate() {
            let part = &plan.parts[of.part];
            let tile = pass.tile(of, part, plan.pieces, index * plan.tile_scratch);
            // SAFETY: as below; no thread is at work yet.
            unsafe {
                with_cache!(kernels, part.storage, |kernels, cache| {
                    (kernels.pack)(&pass.attention(of, part, cache), &tile)
                });
            }
        }
        for step in [Step::Score, Step::Mix, Step::Fold] {
            let pieces = if step == Step::Fold { 1 } else { plan.pieces };
            self.pool.run(plan.tiles.len() * pieces, &|_, task| {
                let (index, piece) = (task / pieces, task % pieces);
                let of = &plan.tiles[index];
                let part = &plan.parts[of.part];
                let tile = pass.tile(of, part, plan.pieces, index * plan.tile_scratch);
                // SAFETY: the instructions were checked in `new`; the buffers were sized in `reserve`, the scratch
                // for each tile; the pieces of a step write disjoint scores and chains, and `run` ends one step
                // before the next begins.
                unsafe {
                    with_cache!(kernels, part.storage, |kernels, cache| {
                        let args = pass.attention(of, part, cache);
                        take_step(kernels, &args, &tile, step, (piece, pieces));
                    });
                }
            });
        }
    }

    /// Where the buffers of a layer's attention lie.
    fn layer_pass<'a>(&mut self, model: &'a Model, layer: usize) -> LayerPass<'a> {
        let s = &mut self.scratch;
        LayerPass {
            model,
            layer,
            rows: self.plan.rows,
            query_heads: model.config().heads,
            kv_heads: model.config().kv_heads,
            queries: Shared(s.queries.as_mut_ptr()),
            keys: Shared(s.keys.as_mut_ptr()),
            values: Shared(s.values.as_mut_ptr()),
            angles: Shared(s.angles.as_mut_ptr()),
            sink_angles: Shared(s.sink_angles.as_mut_ptr()),
            window_queries: Shared(s.window_queries.as_mut_ptr()),
            sink_queries: Shared(s.sink_queries.as_mut_ptr()),
            tiles: Shared(s.attention.as_mut_ptr()),
            out: Shared(s.packed.as_mut_ptr()),
            sums: Shared(s.sums.as_mut_ptr()),
        }
    }
}

/// What is rotated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heads {
    All,
    Keys,
    Queries,
}

/// A step of a tile that threads share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Score,
    Mix,
    Fold,
}

/// A piece of one step, given as its number and how many there are.
///
/// # Safety
/// Those of the kernels; the queries were packed, and the steps before it are done.
unsafe fn take_step<C: KvCache>(
    kernels: &CacheKernels<C>,
    args: &Attention<'_, C>,
    tile: &Tile,
    step: Step,
    (piece, pieces): (usize, usize),
) {
    let units = args.units(tile);
    let (first, end) = (units * piece / pieces, units * (piece + 1) / pieces);
    // SAFETY: passed on from the caller.
    unsafe {
        match step {
            Step::Score => (kernels.score)(args, tile, piece, first, end),
            Step::Mix => {
                (kernels.weigh)(args, tile, first, end);
                (kernels.mix_units)(args, tile, first, end);
            }
            Step::Fold => (kernels.fold)(args, tile),
        }
    }
}

/// The buffers of one layer's attention. Every task takes its own part of them.
#[derive(Clone, Copy)]
struct LayerPass<'a> {
    model: &'a Model,
    layer: usize,
    rows: usize,
    /// Heads to be rotated.
    query_heads: usize,
    kv_heads: usize,
    queries: Shared<f32>,
    keys: Shared<f32>,
    values: Shared<f32>,
    angles: Shared<f32>,
    sink_angles: Shared<f32>,
    window_queries: Shared<f32>,
    sink_queries: Shared<f32>,
    tiles: Shared<f32>,
    out: Shared<f32>,
    sums: Shared<f32>,
}

impl LayerPass<'_> {
    /// Adds the biases of a row's queries, keys and values, and normalises their heads, where the model does so.
    ///
    /// # Safety
    /// The row's products are there, and nobody else is at them; the instructions of `norm` were checked.
    unsafe fn finish_projections(&self, row: usize, norm: unsafe fn(&mut [f32], &[f32], f32)) {
        let config = self.model.config();
        let weights = &self.model.layers[self.layer];
        let finish = |projection: &Projection, values: Shared<f32>, heads: usize, of: usize| {
            let width = of * config.head_dim;
            // SAFETY: the buffer holds every row, and this one is ours, by the caller.
            let values = unsafe {
                std::slice::from_raw_parts_mut(values.at(row * width), heads * config.head_dim)
            };
            if let Some(bias) = &projection.bias {
                add(values, bias);
            }
            if let Some(weights) = &projection.norm {
                // SAFETY: whole heads, and the instructions were checked, by the caller.
                unsafe { norm(values, weights, config.norm_epsilon) };
            }
        };
        finish(&weights.query, self.queries, self.query_heads, config.heads);
        finish(&weights.key, self.keys, self.kv_heads, config.kv_heads);
        finish(&weights.value, self.values, self.kv_heads, config.kv_heads);
    }

    fn row<'p, C>(&self, part: &'p Part, cache: C, row: usize) -> Row<'p, C> {
        let config = self.model.config();
        let (queries, keys) = (
            row * config.heads * config.head_dim,
            row * config.kv_heads * config.head_dim,
        );
        let width = 2 * config.head_dim;
        let angles = (row * config.ropes.len() + config.kinds[self.layer].rope) * width;
        Row {
            layout: part.layout.of(self.layer),
            position: part.start + (row - part.first_row) as u64,
            heads: self.query_heads,
            kv_heads: self.kv_heads,
            queries: self.queries.at(queries),
            keys: self.keys.at(keys),
            values: self.values.at(keys),
            angles: self.angles.at(angles),
            sink_angles: self.sink_angles.at(row * width),
            window_queries: self.window_queries.at(queries),
            sink_queries: self.sink_queries.at(queries),
            storage: cache,
        }
    }

    fn tile(&self, of: &TileOf, part: &Part, pieces: usize, scratch: usize) -> Tile {
        let room = TileRoom {
            count: of.count,
            pieces,
        };
        Tile::new(
            part.layout.of(self.layer),
            of.first,
            room,
            self.tiles.at(scratch),
        )
    }

    fn attention<'p, C: KvCache>(&self, of: &TileOf, part: &'p Part, cache: C) -> Attention<'p, C> {
        let config = self.model.config();
        let layout = part.layout.of(self.layer);
        Attention {
            layout,
            keys: cache.at(layout.keys_at(of.kv_head)),
            values: cache.at(layout.values_at(of.kv_head)),
            queries: self.window_queries.at(0),
            sink_queries: self.sink_queries.at(0),
            scale: config.attention_scale,
            heads: config.heads,
            group: config.group(),
            kv_head: of.kv_head,
            first_row: part.first_row,
            start: part.start,
            until: part.until,
            batch_rows: self.rows,
            out: self.out.at(0),
            sums: self.sums.at(0),
        }
    }
}
