//! A way for the gates and the benchmarks to run one kernel alone, on inputs that are pseudo-random numbers of a
//! seed.

mod dequantised;

use std::cell::RefCell;

use candle_core::quantized::GgmlDType;
use kakeya_core::{CacheConfig, PositionPolicy, Window};

use super::attention::{Attention, Int8, KvCache, QUERY_TILE, Tile, TileRoom};
use super::elementwise::{PackedRow, segment_sums};
use super::linear::{Activations, Gated, Product};
use super::{CacheKernels, Kernels};
use crate::config::{Activation, ModelConfig, SEGMENT, attention_scale};
use crate::isa::Isa;
use crate::kv::{KvLayout, LayerLayout};
use crate::panels::{Arena, PackedMatrix, Packing, PanelKind};
use crate::simd::{LANES, scalar};
use crate::source::TensorBytes;
pub use dequantised::dequantised;

/// The kernels of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Products with each type of packed weights.
    Linear(PanelKind),
    /// Root-mean-square normalisation.
    Norm,
    /// The gated products and their activation, with Q4_1 weights.
    SwiGlu,
    /// Attention over a cache of f16 elements.
    AttentionF16,
    /// Attention over a cache of f32 elements.
    AttentionF32,
    /// Attention over a cache of integers with scales.
    AttentionInt8,
}

impl Kernel {
    /// Every kernel.
    pub fn all() -> impl Iterator<Item = Self> {
        PanelKind::ALL.into_iter().map(Self::Linear).chain([
            Self::Norm,
            Self::SwiGlu,
            Self::AttentionF16,
            Self::AttentionF32,
            Self::AttentionInt8,
        ])
    }

    /// Its name in reports, such as `linear_q4_1`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Linear(kind) => format!("linear_{:?}", kind.dtype()).to_lowercase(),
            Self::Norm => "norm".to_owned(),
            Self::SwiGlu => "swiglu".to_owned(),
            Self::AttentionF16 => "attention_f16".to_owned(),
            Self::AttentionF32 => "attention_f32".to_owned(),
            Self::AttentionInt8 => "attention_int8".to_owned(),
        }
    }
}

/// The size of what a probe runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeShape {
    /// Rows of activations, or queries of one head.
    pub rows: usize,
    /// Inputs of a product, width of a norm: a multiple of 256.
    pub inputs: usize,
    /// Outputs of a product; for the gated one rounded up to a multiple of 32.
    pub outputs: usize,
    /// Keys that the first query of attention sees.
    pub keys: usize,
}

/// Width of a head, and heads that share keys, in a probe of attention: those of SmolLM2-135M.
const HEAD: usize = 64;
const GROUP: usize = 3;
/// The largest tile of a probe.
const WHOLE_TILE: TileRoom = TileRoom {
    count: QUERY_TILE,
    pieces: 1,
};

/// One kernel and its inputs.
pub struct Probe {
    kernel: Kernel,
    kernels: Kernels,
    shape: ProbeShape,
    matrices: Vec<PackedMatrix>,
    x: Packed,
    plain: Vec<f32>,
    cache: Option<Cache>,
    out: Vec<f32>,
    packed_out: Packed,
}

/// The cache of a probe of attention.
struct Cache {
    layout: LayerLayout,
    /// The slab, as each type of element.
    f32s: Vec<f32>,
    f16s: Vec<u16>,
    quants: Vec<i8>,
    scales: Vec<u16>,
    start: u64,
    scratch: RefCell<Vec<f32>>,
}

impl Probe {
    /// Makes the inputs. Those of row 0 are the same for every number of rows.
    ///
    /// # Panics
    /// When the processor lacks the instruction set, `rows` is 0, or `inputs` no multiple of 256.
    #[must_use]
    pub fn new(kernel: Kernel, isa: Isa, shape: ProbeShape, seed: u64) -> Self {
        assert!(shape.rows > 0, "row 0 needs a row");
        assert!(
            shape.inputs.is_multiple_of(256),
            "a superblock has 256 inputs"
        );
        let ProbeShape {
            rows,
            inputs,
            outputs,
            keys,
        } = shape;
        let attention = matches!(
            kernel,
            Kernel::AttentionF16 | Kernel::AttentionF32 | Kernel::AttentionInt8
        );
        let gated = outputs.next_multiple_of(SEGMENT);
        let matrices = match kernel {
            Kernel::Linear(kind) => vec![random_matrix(kind, outputs, inputs, seed ^ 5)],
            Kernel::SwiGlu => vec![
                random_matrix(PanelKind::Q4_1, gated, inputs, seed ^ 5),
                random_matrix(PanelKind::Q4_1, gated, inputs, seed ^ 6),
            ],
            _ => Vec::new(),
        };
        let width = if attention { GROUP * HEAD } else { inputs };
        let plain = noise(seed, rows * width);
        let mut x = Packed::new(rows, width);
        x.fill(&plain);
        let packed_out = Packed::new(
            rows,
            if kernel == Kernel::SwiGlu {
                gated
            } else {
                width
            },
        );
        Self {
            kernel,
            kernels: Kernels::of(isa),
            shape,
            matrices,
            x,
            plain,
            cache: attention.then(|| Cache::new(rows, keys, seed)),
            out: vec![f32::NAN; rows * outputs],
            packed_out,
        }
    }

    /// Runs the kernel once, on this thread.
    pub fn run(&mut self) {
        let ProbeShape {
            rows,
            inputs,
            outputs,
            ..
        } = self.shape;
        let x = Activations {
            values: self.x.values.as_ptr(),
            sums: self.x.sums.as_ptr(),
            rows,
        };
        // SAFETY (of the blocks below): `of` checked the instructions; the buffers hold the rows and the shapes.
        match self.kernel {
            Kernel::Linear(_) => {
                let matrix = &self.matrices[0];
                let product = Product {
                    matrix,
                    x,
                    out: self.out.as_mut_ptr(),
                    stride: outputs,
                    accumulate: false,
                };
                // SAFETY: as above.
                unsafe { (self.kernels.product)(&product, 0, matrix.panels()) };
            }
            Kernel::SwiGlu => {
                let gated = Gated {
                    gate: &self.matrices[0],
                    up: &self.matrices[1],
                    activation: Activation::Silu,
                    x,
                    values: self.packed_out.values.as_mut_ptr(),
                    sums: self.packed_out.sums.as_mut_ptr(),
                };
                // SAFETY: as above.
                unsafe { (self.kernels.gated)(&gated, 0, gated.gate.panels()) };
            }
            Kernel::Norm => {
                for row in 0..rows {
                    let vector = &self.plain[row * inputs..][..inputs];
                    // SAFETY: as above.
                    unsafe {
                        (self.kernels.norm)(
                            vector,
                            &self.plain[..inputs],
                            1e-5,
                            self.packed_out.row(row),
                        )
                    };
                }
            }
            Kernel::AttentionF16 => {
                let Some(cache) = &mut self.cache else { return };
                let slab = cache.f16s.as_mut_ptr();
                let args = cache.attention(slab, &self.plain, &mut self.packed_out);
                run_attention(&self.kernels, &self.kernels.f16, &args, &cache.scratch);
            }
            Kernel::AttentionF32 => {
                let Some(cache) = &mut self.cache else { return };
                let slab = cache.f32s.as_mut_ptr();
                let args = cache.attention(slab, &self.plain, &mut self.packed_out);
                run_attention(&self.kernels, &self.kernels.f32, &args, &cache.scratch);
            }
            Kernel::AttentionInt8 => {
                let Some(cache) = &mut self.cache else { return };
                let slab = cache.int8();
                let args = cache.attention(slab, &self.plain, &mut self.packed_out);
                run_attention(&self.kernels, &self.kernels.int8, &args, &cache.scratch);
            }
        }
    }

    /// What the last run made of row 0.
    #[must_use]
    pub fn row_zero(&self) -> Vec<f32> {
        match self.kernel {
            Kernel::Linear(_) => self.out[..self.shape.outputs].to_vec(),
            _ => self.packed_out.first_row(),
        }
    }

    /// Floating-point operations of a run's products and weighted sums; a multiply-add counts as two. Those of a
    /// norm, four for each element.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let ProbeShape {
            rows, inputs, keys, ..
        } = self.shape;
        let (rows, inputs, keys) = (rows as u64, inputs as u64, keys as u64);
        match self.kernel {
            Kernel::Linear(_) | Kernel::SwiGlu => {
                let outputs: usize = self.matrices.iter().map(|matrix| matrix.rows).sum();
                2 * rows * inputs * outputs as u64
            }
            Kernel::Norm => 4 * rows * inputs,
            // Both the scores and the sums; row r sees r keys more than the first.
            _ => 4 * (HEAD * GROUP) as u64 * (rows * keys + rows * (rows - 1) / 2),
        }
    }
}

/// Takes all rows through attention, tile by tile.
fn run_attention<C: KvCache>(
    all: &Kernels,
    kernels: &CacheKernels<C>,
    args: &Attention<'_, C>,
    scratch: &RefCell<Vec<f32>>,
) {
    let height = all.query_tile;
    for first in (0..args.batch_rows * GROUP).step_by(height) {
        let room = TileRoom {
            count: (args.batch_rows * GROUP - first).min(height),
            pieces: 1,
        };
        let tile = Tile::new(args.layout, first, room, scratch.borrow_mut().as_mut_ptr());
        // SAFETY: `Kernels::of` checked the instructions; the buffers hold the shapes that `args` names.
        unsafe { (kernels.attend)(args, &tile) };
    }
}

impl Cache {
    /// `keys` visible keys for the first of `rows` queries: 4 of them sinks, the others a sliding window that has
    /// moved on by 50 positions. Slots that nobody sees hold NaN.
    fn new(rows: usize, keys: usize, seed: u64) -> Self {
        let window = keys.saturating_sub(4).max(1) as u32;
        let config = ModelConfig::uniform(1, GROUP, 1, HEAD);
        let policy = CacheConfig {
            sink: 4,
            window: Window::Sliding(window),
            positions: PositionPolicy::Streaming,
        };
        let layout = KvLayout::new(&config, &policy, rows).of(0).clone();
        let elements = 2 * layout.slots() * HEAD;
        let mut cache = Self {
            start: u64::from(window) + 50,
            scratch: RefCell::new(vec![f32::NAN; WHOLE_TILE.scratch_len(&layout)]),
            f32s: vec![f32::NAN; elements],
            f16s: vec![half::f16::NAN.to_bits(); elements],
            quants: vec![i8::MIN; elements],
            scales: vec![half::bf16::NAN.to_bits(); elements / SEGMENT],
            layout,
        };
        let (f32s, f16s) = (cache.f32s.as_mut_ptr(), cache.f16s.as_mut_ptr());
        let int8 = cache.int8();
        cache.fill(f32s, seed, rows);
        cache.fill(f16s, seed, rows);
        cache.fill(int8, seed, rows);
        cache
    }

    fn int8(&mut self) -> Int8 {
        Int8 {
            quants: self.quants.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
        }
    }

    /// Writes the keys and values that are seen, as a forward pass does.
    fn fill<C: KvCache>(&self, slab: C, seed: u64, rows: usize) {
        let layout = &self.layout;
        let end = self.start + rows as u64;
        for position in (0..4).chain(layout.window_start(self.start)..end) {
            for d in (0..HEAD).step_by(SEGMENT) {
                let halves = |seed| {
                    [d, d + LANES].map(|d| {
                        let index = position as usize * HEAD + d;
                        scalar::Lanes(std::array::from_fn(|lane| element(seed, index + lane)))
                    })
                };
                // SAFETY: the slab has the layout's size, and is ours; scalar code needs no instructions.
                unsafe {
                    slab.write_key(layout.key_index(0, position, d), halves(seed ^ 2));
                    slab.write_value(layout.value_index(0, position, d), halves(seed ^ 3));
                }
            }
        }
    }

    fn attention<'a, C: KvCache>(
        &'a self,
        slab: C,
        queries: &[f32],
        out: &mut Packed,
    ) -> Attention<'a, C> {
        Attention {
            layout: &self.layout,
            keys: slab.at(self.layout.keys_at(0)),
            values: slab.at(self.layout.values_at(0)),
            queries: queries.as_ptr(),
            sink_queries: queries.as_ptr(),
            scale: attention_scale(HEAD),
            heads: GROUP,
            group: GROUP,
            kv_head: 0,
            first_row: 0,
            start: self.start,
            until: None,
            batch_rows: out.rows,
            out: out.values.as_mut_ptr(),
            sums: out.sums.as_mut_ptr(),
        }
    }
}

/// Rows in segment-major order, with their segments' sums.
struct Packed {
    values: Vec<f32>,
    sums: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Packed {
    fn new(rows: usize, columns: usize) -> Self {
        Self {
            values: vec![f32::NAN; rows * columns],
            sums: vec![f32::NAN; rows * columns / SEGMENT],
            rows,
            columns,
        }
    }

    fn row(&mut self, row: usize) -> PackedRow {
        PackedRow {
            values: self.values.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            rows: self.rows,
            row,
        }
    }

    fn fill(&mut self, rows: &[f32]) {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let at = (column / SEGMENT * self.rows + row) * SEGMENT + column % SEGMENT;
                self.values[at] = rows[row * self.columns + column];
            }
            // SAFETY: the row was written just now.
            unsafe { segment_sums::<scalar::Lanes>(self.columns / SEGMENT, self.row(row)) };
        }
    }

    fn first_row(&self) -> Vec<f32> {
        (0..self.columns)
            .map(|column| self.values[column / SEGMENT * self.rows * SEGMENT + column % SEGMENT])
            .collect()
    }
}

/// A matrix of pseudo-random bits in its type, with scales near 2^-8 so that sums stay small.
fn random_matrix(kind: PanelKind, rows: usize, columns: usize, seed: u64) -> PackedMatrix {
    let bytes = random_bytes(kind, rows, columns, seed);
    let tensor = TensorBytes {
        dtype: kind.dtype(),
        rows,
        columns,
        bytes: &bytes,
        pairs: 0,
    };
    let packing = Packing {
        arena: &mut Arena::default(),
        threads: 1,
    };
    PackedMatrix::pack(&tensor, packing).expect("every scale and value is finite")
}

fn random_bytes(kind: PanelKind, rows: usize, columns: usize, seed: u64) -> Vec<u8> {
    let dtype = kind.dtype();
    let block = dtype.type_size();
    let elements = rows * columns;
    let mut bytes: Vec<u8> = (0..elements / dtype.block_size() * block)
        .map(|index| (mix(seed, index) >> 56) as u8)
        .collect();
    // Where a block has f16 scales; a floating-point block is one value.
    let halves: &[usize] = match dtype {
        GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 | GgmlDType::F16 => &[0],
        GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K | GgmlDType::Q5K => &[0, 2],
        GgmlDType::Q6K => &[208],
        _ => &[],
    };
    for (index, block) in bytes.chunks_exact_mut(block).enumerate() {
        for at in halves {
            let value = half::f16::from_f32(element(seed ^ 9, index * 4 + at % 4) / 256.0);
            block[*at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        match dtype {
            GgmlDType::BF16 => {
                let value = half::bf16::from_f32(element(seed ^ 9, index));
                block.copy_from_slice(&value.to_le_bytes());
            }
            GgmlDType::F32 => block.copy_from_slice(&element(seed ^ 9, index).to_le_bytes()),
            _ => {}
        }
    }
    bytes
}

fn noise(seed: u64, length: usize) -> Vec<f32> {
    (0..length).map(|index| element(seed, index)).collect()
}

/// A number from -1 to 1.
fn element(seed: u64, index: usize) -> f32 {
    (mix(seed, index) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(seed: u64, index: usize) -> u64 {
    let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
