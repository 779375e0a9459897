//! The kernels of a pass, in their order.

use std::ffi::c_void;

use super::attention::AttentionShape;
use super::context::Launch;
use super::graph::Shape;
use super::memory::Buffer;
use super::plan::{
    LinearArgument, Mode, ProductArgument, RotationArgument, SightArgument, SlotsArgument, kind_of,
};
use super::run::{BUSY, CudaCompute};
use super::tile::{Inner, STAGE_BYTES, Tile};
use super::weights::{LayerOnDevice, MatrixOnDevice};
use crate::config::{Activation, SEGMENT};
use crate::device::CudaError;
use crate::panels::PanelKind;

/// Blocks that draw a token together, threads of each, and their bins: as in draw.cu.
const DRAW_BLOCKS: usize = 8;
const DRAW_THREADS: usize = 512;
const DRAW_BYTES: usize = 16 * DRAW_THREADS * size_of::<u64>();

/// Outputs and rows of a tile of the fast mode, and threads of its blocks: as in fast.cu.
const FAST_OUTPUTS: usize = 16;
const FAST_ROWS: usize = 8;
const FAST_THREADS: usize = 128;

/// What a product takes.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// The residual stream, normalised by these weights: the rows that are named at this place of the plan, or all.
    Normalised(&'a Buffer<f32>, Option<u64>),
    /// Rows as they stand, so wide.
    Rows(&'a Buffer<f32>, usize),
}

impl CudaCompute {
    /// Launches every kernel of a pass.
    pub(super) fn launch_kernels(&self, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch, model) = (self.config(), self.scratch(), self.model());
        self.embed(shape)?;
        for (index, layer) in model.layers.iter().enumerate() {
            let last = index + 1 == model.layers.len();
            self.project(layer, shape)?;
            let rotation = self.rotation(layer, index, shape);
            let alone = matches!(shape.attention, AttentionShape::Alone(_));
            let ends_here = last && shape.logits == 0 && !shape.later;
            for step in shape.steps() {
                if !alone || ends_here {
                    self.rotate(&rotation, &step)?;
                }
                if !ends_here {
                    self.attend(rotation, index, shape, &step)?;
                }
            }
            if ends_here {
                return Ok(());
            }
            let out = &layer.attention_out;
            let attended = Input::Rows(&scratch.packed, config.heads * config.head_dim);
            let norm = layer.post_attention_norm.as_ref();
            self.add_product(&out.matrix, attended, (out.bias.as_ref(), norm), shape)?;
            self.gated(layer, shape)?;
            let wide = Input::Rows(&scratch.wide, config.feed_forward);
            let norm = layer.post_feed_forward_norm.as_ref();
            self.add_product(&layer.down, wide, (None, norm), shape)?;
        }
        if shape.later {
            return Ok(());
        }
        self.make_logits(shape.logits, shape.draws, shape.tile)
    }

    /// The logits of the rows that the plan names, the greatest of each, and the tokens that are drawn from them.
    pub(super) fn make_logits(
        &self,
        logits: usize,
        draws: bool,
        tile: usize,
    ) -> Result<(), CudaError> {
        if logits == 0 {
            return Ok(());
        }
        let (config, scratch, model) = (self.config(), self.scratch(), self.model());
        let map = scratch.places.map;
        let mut linear = LinearArgument {
            count: 1,
            mode: Mode::Store as u32,
            ..LinearArgument::default()
        };
        linear.products[0] = product(model.output(), scratch.logits.pointer(), config.vocabulary);
        let normalised = Input::Normalised(&model.output_norm, Some(scratch.plan.at(map)));
        self.linear(linear, normalised, logits, tile)?;
        scratch.ranks.fill(0, self.stream.stream)?;
        let vocabulary = config.vocabulary as u32;
        let (from, to) = (scratch.logits.pointer(), scratch.ranks.pointer());
        let kept = scratch.plan.at(scratch.places.kept);
        let arguments = &mut [
            argument(&from),
            argument(&vocabulary),
            argument(&to),
            argument(&kept),
        ];
        let blocks = (4 * BUSY / logits).clamp(24, BUSY);
        self.launch("greatest", plain((blocks, logits), 256, 0), arguments)?;
        if !draws {
            return Ok(());
        }
        let draws = scratch.plan.at(scratch.places.draws);
        let drawn = scratch.drawn.pointer();
        let arguments = &mut [
            argument(&from),
            argument(&vocabulary),
            argument(&draws),
            argument(&to),
            argument(&drawn),
        ];
        let cluster = if self.device.has_clusters() {
            DRAW_BLOCKS
        } else {
            1
        };
        let launch = Launch {
            cluster,
            ..plain((cluster, logits), DRAW_THREADS, DRAW_BYTES)
        };
        self.launch("draw", launch, arguments)
    }

    fn embed(&self, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let matrix = self.model().embedding.argument();
        let (rows, residual) = (scratch.plan.pointer(), scratch.residual.pointer());
        let (segments, scale) = ((config.hidden / SEGMENT) as u32, config.embedding_scale);
        let (greatest, drawn) = (scratch.ranks.pointer(), scratch.drawn.pointer());
        let threads = (config.hidden / SEGMENT).next_multiple_of(32).min(256);
        let arguments = &mut [
            argument(&matrix),
            argument(&rows),
            argument(&residual),
            argument(&segments),
            argument(&scale),
            argument(&greatest),
            argument(&drawn),
        ];
        self.launch("embed", plain((shape.rows, 1), threads, 0), arguments)
    }

    /// Queries, keys and values.
    fn project(&self, layer: &LayerOnDevice, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let linear = LinearArgument {
            products: [
                product(&layer.key.matrix, scratch.keys.pointer(), keys),
                product(&layer.value.matrix, scratch.values.pointer(), keys),
                product(&layer.query.matrix, scratch.queries.pointer(), queries),
            ],
            count: 3,
            mode: Mode::Store as u32,
            ..LinearArgument::default()
        };
        let input = Input::Normalised(&layer.attention_norm, None);
        self.linear(linear, input, shape.rows, shape.tile)
    }

    /// The gated half of a feed-forward layer.
    fn gated(&self, layer: &LayerOnDevice, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let out = scratch.wide.pointer();
        let linear = LinearArgument {
            products: [
                product(&layer.gate, out, config.feed_forward),
                product(&layer.up, out, config.feed_forward),
                ProductArgument::default(),
            ],
            count: 2,
            mode: Mode::Gated as u32,
            gelu: u32::from(config.activation == Activation::Gelu),
            ..LinearArgument::default()
        };
        let input = Input::Normalised(&layer.feed_forward_norm, None);
        self.linear(linear, input, shape.rows, shape.tile)
    }

    /// Adds a product, its bias and norm where it has them, to the residual stream.
    fn add_product(
        &self,
        matrix: &MatrixOnDevice,
        input: Input<'_>,
        (bias, norm): (Option<&Buffer<f32>>, Option<&Buffer<f32>>),
        shape: Shape,
    ) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let is_plain = bias.is_none() && norm.is_none();
        let (out, mode) = match is_plain {
            true => (&scratch.residual, Mode::Accumulate),
            false => (&scratch.branch, Mode::Store),
        };
        let mut linear = LinearArgument {
            count: 1,
            mode: mode as u32,
            ..LinearArgument::default()
        };
        linear.products[0] = product(matrix, out.pointer(), config.hidden);
        self.linear(linear, input, shape.rows, shape.tile)?;
        if is_plain {
            return Ok(());
        }
        let pointer = |values: Option<&Buffer<f32>>| values.map_or(0, Buffer::pointer);
        let (branch, residual) = (scratch.branch.pointer(), scratch.residual.pointer());
        let (bias, norm) = (pointer(bias), pointer(norm));
        let (epsilon, hidden) = (config.norm_epsilon, config.hidden as u32);
        let launch = plain((shape.rows, 1), 128, norm_bytes(config.hidden));
        let arguments = &mut [
            argument(&branch),
            argument(&bias),
            argument(&norm),
            argument(&epsilon),
            argument(&hidden),
            argument(&residual),
        ];
        self.launch("add_branch", launch, arguments)
    }

    fn rotation(&self, layer: &LayerOnDevice, index: usize, shape: Shape) -> RotationArgument {
        let (config, scratch, model) = (self.config(), self.scratch(), self.model());
        let places = scratch.places;
        let kind = kind_of(config, index);
        let rope = config.kinds[index].rope;
        let width = 2 * config.head_dim;
        let pointer = |values: &Option<Buffer<f32>>| values.as_ref().map_or(0, Buffer::pointer);
        RotationArgument {
            rows: scratch.plan.at(places.rows),
            sequences: scratch.plan.at(places.sequences),
            slots: scratch
                .plan
                .at(places.slots + index * size_of::<SlotsArgument>()),
            sights: scratch
                .plan
                .at(places.sights + kind * shape.rows * size_of::<SightArgument>()),
            layers: config.layers as u32,
            heads: config.heads as u32,
            kv_heads: config.kv_heads as u32,
            dim: config.head_dim as u32,
            queries: scratch.queries.pointer(),
            keys: scratch.keys.pointer(),
            values: scratch.values.pointer(),
            query_bias: pointer(&layer.query.bias),
            key_bias: pointer(&layer.key.bias),
            value_bias: pointer(&layer.value.bias),
            query_norm: pointer(&layer.query.norm),
            key_norm: pointer(&layer.key.norm),
            angles: model.angles[rope].pointer(),
            sink_angles: model.angles[0].pointer(),
            own_angles: scratch.angles.at(rope * shape.rows * width),
            own_sink_angles: scratch.angles.at(config.ropes.len() * shape.rows * width),
            places: model.places as u32,
            epsilon: config.norm_epsilon,
            element: shape.element,
            unused: 0,
        }
    }

    /// Normalises rows of the residual stream into `packed`: those that `map` names, or all.
    fn normalise(
        &self,
        weights: &Buffer<f32>,
        map: Option<u64>,
        rows: usize,
    ) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let (x, out) = (scratch.residual.pointer(), scratch.packed.pointer());
        let (map, weights) = (map.unwrap_or(0), weights.pointer());
        let (epsilon, columns) = (config.norm_epsilon, config.hidden as u32);
        let arguments = &mut [
            argument(&x),
            argument(&map),
            argument(&weights),
            argument(&epsilon),
            argument(&columns),
            argument(&out),
        ];
        let launch = plain((rows, 1), 128, norm_bytes(config.hidden));
        self.launch("normalise", launch, arguments)
    }

    /// Products of rows, in tiles of at most `most` rows that keep the device busy.
    fn linear(
        &self,
        linear: LinearArgument,
        input: Input<'_>,
        rows: usize,
        most: usize,
    ) -> Result<(), CudaError> {
        let config = self.config();
        let columns = match input {
            Input::Normalised(..) => config.hidden,
            Input::Rows(_, columns) => columns,
        };
        let segments = columns / SEGMENT;
        if self.is_fast() {
            return self.linear_fast(linear, input, rows, columns);
        }
        let products = linear.products;
        let products = &products[..linear.count as usize];
        let gated = linear.mode == Mode::Gated as u32;
        let matrices = if gated { 2 } else { 1 };
        // Outputs of those that are made beside each other.
        let made = &products[..products.len() / matrices];
        let outputs = made.iter().map(|product| product.matrix.rows as usize);
        let outputs: Vec<usize> = outputs.collect();
        let chains = products.iter().map(chains_of).max().unwrap_or(1);
        let stages = products
            .iter()
            .map(|product| STAGE_BYTES[product.matrix.kind as usize]);
        let inner = Inner {
            segments,
            matrices,
            chains,
            stage_bytes: stages.max().unwrap_or_default(),
            scaled: products.iter().any(has_scales),
            normalised: matches!(input, Input::Normalised(..)),
        };
        let shared = self.device.shared();
        // Blocks take some of a processor's memory for themselves, beside what one of them may have.
        let fits = |tile: Tile, blocks: usize| {
            let clusters = tile.cluster() == 1 || self.device.has_clusters();
            tile.rows() <= most && clusters && blocks * (tile.bytes(inner) + 1024) <= shared + 1024
        };
        let Some(tile) = Tile::of(&outputs, inner, rows, fits) else {
            return Err(CudaError::Failed {
                what: "a product".to_owned(),
                detail: format!(
                    "{columns} inputs need more shared memory than {} has",
                    self.device.facts().name
                ),
            });
        };
        let tiles = (tile.tiles(&outputs, matrices), rows.div_ceil(tile.rows()));
        let share = tile.share(tiles, inner, shared);
        let mut linear = LinearArgument {
            segments: segments as u32,
            x_stride: columns as u64,
            epsilon: config.norm_epsilon,
            rows: rows as u32,
            chains: chains as u32,
            stages: share.stages as u32,
            stage_bytes: inner.stage_bytes as u32,
            group: share.group as u32,
            share: share.segments as u32,
            each: share.tiles as u32,
            ..linear
        };
        match input {
            Input::Rows(x, _) => linear.x = x.pointer(),
            Input::Normalised(weights, map) if tile.normalises(inner, map.is_some()) => {
                linear.x = self.scratch().residual.pointer();
                linear.norm = weights.pointer();
                linear.map = map.unwrap_or_default();
            }
            Input::Normalised(weights, map) => {
                self.normalise(weights, map, rows)?;
                linear.x = self.scratch().packed.pointer();
            }
        }
        let launch = match tile {
            Tile::Spread { cluster, .. } => Launch {
                grid: (cluster, share.blocks, tiles.1),
                threads: share.threads,
                shared: share.bytes,
                cluster,
            },
            _ => plain((share.blocks, tiles.1), share.threads, share.bytes),
        };
        let kinds = || products.iter().map(|product| product.matrix.kind);
        let kind = kinds()
            .next()
            .filter(|first| kinds().all(|kind| kind == *first));
        self.launch(&tile.name(kind, matrices), launch, &mut [argument(&linear)])
    }

    /// The same in the fast mode.
    fn linear_fast(
        &self,
        linear: LinearArgument,
        input: Input<'_>,
        rows: usize,
        columns: usize,
    ) -> Result<(), CudaError> {
        let x = match input {
            Input::Rows(x, _) => x.pointer(),
            Input::Normalised(weights, map) => {
                self.normalise(weights, map, rows)?;
                self.scratch().packed.pointer()
            }
        };
        let linear = LinearArgument {
            segments: (columns / SEGMENT) as u32,
            x,
            x_stride: columns as u64,
            rows: rows as u32,
            ..linear
        };
        let gated = linear.mode == Mode::Gated as u32;
        let matrices = if gated { 2 } else { 1 };
        let made = &linear.products[..linear.count as usize / matrices];
        let blocks = |tiles: usize| -> usize {
            let outputs = made.iter().map(|product| product.matrix.rows as usize);
            outputs
                .map(|rows| rows.div_ceil(FAST_OUTPUTS * tiles))
                .sum()
        };
        // More outputs share what is staged of the rows, where there are blocks enough.
        let most = 4 / matrices;
        let many = blocks(most) * rows.div_ceil(4 * FAST_ROWS) >= BUSY;
        let (row_tiles, tiles) = match (rows <= FAST_ROWS, many) {
            (true, _) => (1, 1),
            (_, true) => (4, most),
            _ => (4, 1),
        };
        let grid = (blocks(tiles), rows.div_ceil(row_tiles * FAST_ROWS));
        let name = format!("linear_fast_{row_tiles}_{tiles}_{matrices}");
        self.launch(
            &name,
            plain(grid, FAST_THREADS, 0),
            &mut [argument(&linear)],
        )
    }

    pub(super) fn launch(
        &self,
        name: &str,
        launch: Launch,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        let stream = self.stream.stream;
        // SAFETY: the arguments are those of the kernel, as the callers above name them side by side; buffers are dropped
        // only after the stream was waited for.
        unsafe { self.device.launch(stream, name, launch, arguments) }
    }
}

/// A launch without clusters.
pub(super) fn plain(grid: (usize, usize), threads: usize, shared: usize) -> Launch {
    Launch {
        grid: (grid.0, grid.1, 1),
        threads,
        shared,
        cluster: 1,
    }
}

pub(super) fn argument<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

fn product(matrix: &MatrixOnDevice, out: u64, stride: usize) -> ProductArgument {
    ProductArgument {
        matrix: matrix.argument(),
        out,
        stride: stride as u64,
    }
}

fn has_scales(product: &ProductArgument) -> bool {
    product.matrix.kind < PanelKind::F16 as u32
}

/// Chains of a segment: two of 16 inputs in Q6K.
fn chains_of(product: &ProductArgument) -> usize {
    1 + usize::from(product.matrix.kind == PanelKind::Q6K as u32)
}

/// Shared memory of a normalisation: the row, its segments a bank apart, and a chain for each.
fn norm_bytes(columns: usize) -> usize {
    columns / SEGMENT * (SEGMENT + 2) * size_of::<f32>()
}
