//! A way for the gates to run one kernel alone: the first row's result beside any number of other rows.

use kakeya_core::{CacheConfig, PositionPolicy, Window};

use super::Kernels;
use super::attention::{Attention, KvElem, QUERY_TILE};
use super::elementwise::{PackedRow, segment_sums};
use super::linear::{Activations, Product};
use crate::config::SEGMENT;
use crate::isa::Isa;
use crate::kv::KvLayout;
use crate::llama::Model;
use crate::panels::PackedMatrix;
use crate::simd::LANES;

/// The kernels of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Products with each type of packed weights; F32 ones are the first block's, widened.
    LinearQ4_1,
    /// See [`Kernel::LinearQ4_1`].
    LinearQ8_0,
    /// See [`Kernel::LinearQ4_1`].
    LinearF32,
    /// Root-mean-square normalisation.
    Norm,
    /// The gated activation.
    SwiGlu,
    /// Attention over a cache of f16 elements.
    AttentionF16,
    /// Attention over a cache of f32 elements.
    AttentionF32,
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 7] = [
        Self::LinearQ4_1,
        Self::LinearQ8_0,
        Self::LinearF32,
        Self::Norm,
        Self::SwiGlu,
        Self::AttentionF16,
        Self::AttentionF32,
    ];
}

/// Why a kernel cannot be probed with this model.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the model has no matrix for {kernel:?} in its first block, embedding or output")]
pub struct NoSuchMatrix {
    /// The kernel asked for.
    pub kernel: Kernel,
}

/// Runs one kernel on `rows` rows and returns what it made of row 0. The inputs are pseudo-random numbers of
/// `seed`, the row and the element, so row 0's are the same for every number of rows.
///
/// # Errors
/// When the model has no matrix of the type that the kernel multiplies.
///
/// # Panics
/// When the processor lacks the instruction set, or `rows` is 0.
pub fn row_zero(
    kernel: Kernel,
    model: &Model,
    isa: Isa,
    rows: usize,
    seed: u64,
) -> Result<Vec<f32>, NoSuchMatrix> {
    assert!(rows > 0, "row 0 needs a row");
    let kernels = Kernels::of(isa);
    let hidden = model.config.hidden;
    Ok(match kernel {
        Kernel::LinearF32 => linear(&kernels, &model.layers[0].key.widened(), rows, seed),
        Kernel::LinearQ4_1 | Kernel::LinearQ8_0 => {
            let kind = if kernel == Kernel::LinearQ4_1 {
                crate::panels::PanelKind::Q4_1
            } else {
                crate::panels::PanelKind::Q8_0
            };
            let matrices = model.layers[0]
                .matrices()
                .into_iter()
                .chain([&model.embedding, model.output()]);
            let matrix = matrices
                .into_iter()
                .find(|matrix| matrix.kind == kind)
                .ok_or(NoSuchMatrix { kernel })?;
            linear(&kernels, matrix, rows, seed)
        }
        Kernel::Norm => {
            let x = noise(seed, rows * hidden);
            let mut packed = Packed::new(rows, hidden);
            for row in 0..rows {
                // SAFETY: `of` checked the instructions; the buffers hold the rows.
                unsafe {
                    (kernels.norm)(
                        &x[row * hidden..][..hidden],
                        &model.output_norm,
                        1e-5,
                        packed.row(row),
                    )
                };
            }
            packed.first_row()
        }
        Kernel::SwiGlu => {
            let (gate, up) = (noise(seed, rows * hidden), noise(seed ^ 1, rows * hidden));
            let mut packed = Packed::new(rows, hidden);
            for row in 0..rows {
                let range = row * hidden..(row + 1) * hidden;
                // SAFETY: as above.
                unsafe { (kernels.swiglu)(&gate[range.clone()], &up[range], packed.row(row)) };
            }
            packed.first_row()
        }
        Kernel::AttentionF16 => attention::<u16>(model, rows, seed, kernels.attend_f16),
        Kernel::AttentionF32 => attention::<f32>(model, rows, seed, kernels.attend_f32),
    })
}

fn linear(kernels: &Kernels, matrix: &PackedMatrix, rows: usize, seed: u64) -> Vec<f32> {
    let mut x = Packed::new(rows, matrix.columns);
    x.fill(&noise(seed, rows * matrix.columns));
    let mut out = vec![f32::NAN; rows * matrix.rows];
    let activations = Activations {
        values: x.values.as_ptr(),
        sums: x.sums.as_ptr(),
        rows,
    };
    let product = Product {
        matrix,
        x: activations,
        out: out.as_mut_ptr(),
        stride: matrix.rows,
        accumulate: false,
    };
    // SAFETY: `of` checked the instructions; the buffers hold the rows.
    unsafe { (kernels.linear)(&product, 0, matrix.panels()) };
    out.truncate(matrix.rows);
    out
}

fn attention<E: KvElem>(
    model: &Model,
    rows: usize,
    seed: u64,
    kernel: unsafe fn(&Attention<'_, E>, usize, usize, *mut f32),
) -> Vec<f32> {
    const START: u64 = 150;
    let config = &model.config;
    let (dim, heads, group) = (config.head_dim, config.heads, config.group());
    let cache = CacheConfig {
        sink: 4,
        window: Window::Sliding(100),
        positions: PositionPolicy::Streaming,
    };
    let layout = KvLayout::new(config, &cache, rows);
    let slots = layout.slots() * dim;
    let (mut keys, mut values) = (
        vec![E::store(f32::NAN); slots],
        vec![E::store(f32::NAN); slots],
    );
    for position in 0..START + rows as u64 {
        for d in 0..dim {
            let at = |index: usize, base: usize| index - base;
            keys[at(layout.key_index(0, 0, position, d), layout.keys_at(0, 0))] =
                E::store(element(seed ^ 2, position as usize * dim + d));
            values[at(
                layout.value_index(0, 0, position, d),
                layout.values_at(0, 0),
            )] = E::store(element(seed ^ 3, position as usize * dim + d));
        }
    }
    let queries = noise(seed, rows * heads * dim);
    let mut out = Packed::new(rows, heads * dim);
    let mut scores = vec![f32::NAN; QUERY_TILE * layout.score_stride()];
    let args = Attention {
        layout: &layout,
        keys: keys.as_ptr(),
        values: values.as_ptr(),
        queries: queries.as_ptr(),
        sink_queries: queries.as_ptr(),
        heads,
        group,
        kv_head: 0,
        first_row: 0,
        start: START,
        batch_rows: rows,
        out: out.values.as_mut_ptr(),
    };
    for first in (0..rows * group).step_by(QUERY_TILE) {
        // SAFETY: `of` checked the instructions; the buffers hold the shapes that `args` names.
        unsafe {
            kernel(
                &args,
                first,
                (rows * group - first).min(QUERY_TILE),
                scores.as_mut_ptr(),
            )
        };
    }
    let mut row = out.first_row();
    row.truncate(group * dim);
    row
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
            unsafe { segment_sums(self.columns / SEGMENT, self.row(row)) };
        }
    }

    fn first_row(&self) -> Vec<f32> {
        (0..self.columns)
            .map(|column| self.values[column / SEGMENT * self.rows * SEGMENT + column % SEGMENT])
            .collect()
    }
}

impl PackedMatrix {
    /// The same matrix as f32 panels.
    fn widened(&self) -> PackedMatrix {
        let mut row = vec![0.0; self.columns];
        let mut values = vec![0.0f32; self.panels() * LANES * self.columns];
        for index in 0..self.rows {
            self.dequantise_row(index, &mut row);
            for (column, value) in row.iter().enumerate() {
                values[(index / LANES * self.columns + column) * LANES + index % LANES] = *value;
            }
        }
        PackedMatrix::from_f32_panels(self.rows, self.columns, &values)
    }
}

fn noise(seed: u64, length: usize) -> Vec<f32> {
    (0..length).map(|index| element(seed, index)).collect()
}

/// A number from -1 to 1 (the finaliser of SplitMix64, Steele et al. 2014).
fn element(seed: u64, index: usize) -> f32 {
    let mut z = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}
