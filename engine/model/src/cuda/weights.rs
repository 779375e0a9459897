//! A model's weights in the memory of the device.

use std::sync::{Arc, Mutex, PoisonError};

use super::context::Device;
use super::memory::Buffer;
use crate::config::SEGMENT;
use crate::device::CudaError;
use crate::isa::Isa;
use crate::kernels::Kernels;
use crate::model::{Layer, Model, Projection};
use crate::panels::{HALVES, PANEL, PackedMatrix, PanelKind};
use crate::rope::Rope;
use crate::simd::LANES;

/// Outputs, and inputs, of a fragment of the fast mode.
const FRAGMENT: usize = 16;

/// Bytes that a lane loads at once.
const PIECE: usize = 16;

/// A model on the device. It is made when a pass first needs it, and is there for as long as the model or a pass is.
#[derive(Debug)]
pub(crate) struct ModelOnDevice {
    pub(crate) embedding: MatrixOnDevice,
    pub(crate) layers: Vec<LayerOnDevice>,
    pub(crate) output_norm: Buffer<f32>,
    /// `None` when the embedding is tied to the output.
    output: Option<MatrixOnDevice>,
    /// For each rotation its angles at the first [`ModelOnDevice::places`] positions, `2 * head_dim` each.
    pub(crate) angles: Vec<Buffer<f32>>,
    pub(crate) places: usize,
}

/// A packed matrix on the device.
#[derive(Debug)]
pub(crate) struct MatrixOnDevice {
    bytes: Buffer<u8>,
    kind: u32,
    rows: u32,
    panel_bytes: u64,
}

/// A matrix as kernels take it: `Matrix` of formats.cuh.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct MatrixArgument {
    pub(crate) data: u64,
    pub(crate) kind: u32,
    pub(crate) rows: u32,
    pub(crate) panel: u64,
}

#[derive(Debug)]
pub(crate) struct ProjectionOnDevice {
    pub(crate) matrix: MatrixOnDevice,
    pub(crate) bias: Option<Buffer<f32>>,
    pub(crate) norm: Option<Buffer<f32>>,
}

#[derive(Debug)]
pub(crate) struct LayerOnDevice {
    pub(crate) attention_norm: Buffer<f32>,
    pub(crate) query: ProjectionOnDevice,
    pub(crate) key: ProjectionOnDevice,
    pub(crate) value: ProjectionOnDevice,
    pub(crate) attention_out: ProjectionOnDevice,
    pub(crate) post_attention_norm: Option<Buffer<f32>>,
    pub(crate) feed_forward_norm: Buffer<f32>,
    pub(crate) gate: MatrixOnDevice,
    pub(crate) up: MatrixOnDevice,
    pub(crate) down: MatrixOnDevice,
    pub(crate) post_feed_forward_norm: Option<Buffer<f32>>,
}

/// Where a model keeps what it is on the device.
#[derive(Debug, Default)]
pub(crate) struct Uploaded(Mutex<Places>);

/// As the exact mode has it, and the fast one.
#[derive(Debug, Default)]
struct Places {
    exact: Option<Arc<ModelOnDevice>>,
    fast: Option<Arc<ModelOnDevice>>,
}

impl Places {
    fn of(&mut self, fast: bool) -> &mut Option<Arc<ModelOnDevice>> {
        match fast {
            true => &mut self.fast,
            false => &mut self.exact,
        }
    }
}

impl Uploaded {
    /// The model on the device, as the exact mode or the fast one has it: as it is there, or brought there now.
    pub(crate) fn on(
        &self,
        device: &Arc<Device>,
        model: &Model,
        fast: bool,
    ) -> Result<Arc<ModelOnDevice>, CudaError> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let uploaded = places.of(fast);
        if let Some(there) = uploaded {
            return Ok(Arc::clone(there));
        }
        let there = Arc::new(ModelOnDevice::new(device, model, fast)?);
        *uploaded = Some(Arc::clone(&there));
        Ok(there)
    }

    /// Bytes that bringing it there would take: 0 where it is there.
    pub(crate) fn missing(&self, model: &Model, fast: bool) -> u64 {
        let mut there = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match there.of(fast) {
            Some(_) => 0,
            None => {
                let angles = model.ropes.len() * places(model) * 2 * model.config.head_dim * 4;
                let weights = match fast {
                    true => {
                        fragments_of(model).map(fragment_bytes).sum::<usize>()
                            + model.embedding.bytes()
                    }
                    false => model.weight_bytes(),
                };
                (weights + angles) as u64
            }
        }
    }
}

/// Positions whose angles are kept: beyond the model's context a pass brings its own.
fn places(model: &Model) -> usize {
    model.config.context.min(1 << 17)
}

impl ModelOnDevice {
    fn new(device: &Arc<Device>, model: &Model, fast: bool) -> Result<Self, CudaError> {
        let matrix = |matrix: &PackedMatrix| match fast {
            true => MatrixOnDevice::fragments(device, matrix),
            false => MatrixOnDevice::new(device, matrix),
        };
        let optional = |values: &Option<Vec<f32>>| {
            values
                .as_ref()
                .map(|values| Buffer::of(device, values))
                .transpose()
        };
        let projection = |projection: &Projection| {
            Ok::<_, CudaError>(ProjectionOnDevice {
                matrix: matrix(&projection.matrix)?,
                bias: optional(&projection.bias)?,
                norm: optional(&projection.norm)?,
            })
        };
        let layer = |layer: &Layer| {
            Ok::<_, CudaError>(LayerOnDevice {
                attention_norm: Buffer::of(device, &layer.attention_norm)?,
                query: projection(&layer.query)?,
                key: projection(&layer.key)?,
                value: projection(&layer.value)?,
                attention_out: projection(&layer.attention_out)?,
                post_attention_norm: optional(&layer.post_attention_norm)?,
                feed_forward_norm: Buffer::of(device, &layer.feed_forward_norm)?,
                gate: matrix(&layer.gate)?,
                up: matrix(&layer.up)?,
                down: matrix(&layer.down)?,
                post_feed_forward_norm: optional(&layer.post_feed_forward_norm)?,
            })
        };
        let places = places(model);
        Ok(Self {
            embedding: MatrixOnDevice::new(device, &model.embedding)?,
            layers: model.layers.iter().map(layer).collect::<Result<_, _>>()?,
            output_norm: Buffer::of(device, &model.output_norm)?,
            output: match (model.own_output(), fast) {
                (Some(output), _) => Some(matrix(output)?),
                // The embedding has to be there as rows are looked up in it, too.
                (None, true) => Some(matrix(&model.embedding)?),
                (None, false) => None,
            },
            angles: model
                .ropes
                .iter()
                .map(|rope| Buffer::of(device, &table(rope, places, model.config.head_dim)))
                .collect::<Result<_, _>>()?,
            places,
        })
    }

    /// The matrix that makes logits.
    pub(crate) fn output(&self) -> &MatrixOnDevice {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

/// The angles at positions 0 to `places`.
fn table(rope: &Rope, places: usize, dim: usize) -> Vec<f32> {
    let mut table = vec![0.0; places * 2 * dim];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = places.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (part, angles) in table.chunks_mut(share * 2 * dim).enumerate() {
            scope.spawn(move || {
                for (index, angles) in angles.chunks_mut(2 * dim).enumerate() {
                    rope.angles((part * share + index) as u64, angles);
                }
            });
        }
    });
    table
}

impl MatrixOnDevice {
    fn new(device: &Arc<Device>, matrix: &PackedMatrix) -> Result<Self, CudaError> {
        let panels = matrix.panels();
        let panel_bytes = matrix.panel(0).len();
        let mut spread = vec![0; panels * panel_bytes];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = panels.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (part, out) in spread.chunks_mut(share * panel_bytes).enumerate() {
                scope.spawn(move || {
                    for (index, out) in out.chunks_mut(panel_bytes).enumerate() {
                        spread_panel(matrix, part * share + index, out);
                    }
                });
            }
        });
        Ok(Self {
            bytes: Buffer::of(device, &spread)?,
            kind: matrix.kind as u32,
            rows: matrix.rows as u32,
            panel_bytes: panel_bytes as u64,
        })
    }

    /// The matrix in bf16, as a lane of fast.cu takes it.
    fn fragments(device: &Arc<Device>, matrix: &PackedMatrix) -> Result<Self, CudaError> {
        let of_tile = fragment_bytes(matrix) / matrix.rows.div_ceil(FRAGMENT);
        let mut all = vec![0; fragment_bytes(matrix)];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = matrix.rows.div_ceil(FRAGMENT).div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (part, out) in all.chunks_mut(share * of_tile).enumerate() {
                scope.spawn(move || {
                    for (index, out) in out.chunks_mut(of_tile).enumerate() {
                        write_fragments(matrix, part * share + index, out);
                    }
                });
            }
        });
        Ok(Self {
            bytes: Buffer::of(device, &all)?,
            kind: PanelKind::Bf16 as u32,
            rows: matrix.rows as u32,
            panel_bytes: 0,
        })
    }

    pub(crate) fn argument(&self) -> MatrixArgument {
        MatrixArgument {
            data: self.bytes.pointer(),
            kind: self.kind,
            rows: self.rows,
            panel: self.panel_bytes,
        }
    }
}

/// Bytes of a matrix as fragments: whole tiles of outputs.
fn fragment_bytes(matrix: &PackedMatrix) -> usize {
    let columns = matrix.segments() * SEGMENT;
    matrix.rows.next_multiple_of(FRAGMENT) * columns * size_of::<u16>()
}

/// The matrices that the fast mode has as fragments.
fn fragments_of(model: &Model) -> impl Iterator<Item = &PackedMatrix> {
    let layers = model.layers.iter().flat_map(Layer::matrices);
    layers.chain([model.own_output().unwrap_or(&model.embedding)])
}

/// Writes a tile of 16 outputs in bf16: step after step of 16 inputs, and of each the 8 values of a lane one after the other, as
/// `mma.m16n8k16` takes its first matrix (PTX ISA, "Matrix Fragments for mma.m16n8k16").
fn write_fragments(matrix: &PackedMatrix, tile: usize, out: &mut [u8]) {
    let columns = matrix.segments() * SEGMENT;
    let mut rows = vec![0.0; FRAGMENT * columns];
    for (index, row) in rows.chunks_exact_mut(columns).enumerate() {
        let output = tile * FRAGMENT + index;
        if output < matrix.rows {
            Kernels::of(Isa::detect()).dequantise_row(matrix, output, row);
        }
    }
    for (index, to) in out.chunks_exact_mut(size_of::<u16>()).enumerate() {
        let (step, lane, value) = (index / 256, index / 8 % 32, index % 8);
        let row = lane / 4 + value / 2 % 2 * 8;
        let column = lane % 4 * 2 + value % 2 + value / 4 * 8;
        let weight = rows[row * columns + step * FRAGMENT + column];
        to.copy_from_slice(&half::bf16::from_f32(weight).to_le_bytes());
    }
}

/// Copies a panel, the raw values of each segment so that a lane has its own in pieces of 16 bytes: piece after piece, a lane
/// after the other in each, and behind them the words that fill no piece in the same way.
fn spread_panel(matrix: &PackedMatrix, panel: usize, out: &mut [u8]) {
    let from = matrix.panel(panel);
    let shape = matrix.kind.shape();
    out.copy_from_slice(from);
    let of_lane = shape.weights / LANES;
    let whole = of_lane / PIECE * PIECE;
    let width = matrix.kind.value_bytes();
    let mut lane_bytes = vec![0; of_lane];
    for segment in 0..matrix.segments() {
        let (_, _, weights) = shape.parts(segment);
        let raw = &from[weights..][..HALVES * shape.weights];
        let out = &mut out[weights..][..HALVES * shape.weights];
        for lane in 0..PANEL {
            let half = &raw[lane / LANES * shape.weights..][..shape.weights];
            // Rows of one value for each of 16 lanes.
            for (row, bytes) in lane_bytes.chunks_exact_mut(width).enumerate() {
                let at = (row * LANES + lane % LANES) * width;
                bytes.copy_from_slice(&half[at..at + width]);
            }
            for (piece, bytes) in lane_bytes[..whole].chunks_exact(PIECE).enumerate() {
                out[(piece * PANEL + lane) * PIECE..][..PIECE].copy_from_slice(bytes);
            }
            for (word, bytes) in lane_bytes[whole..].chunks_exact(4).enumerate() {
                out[whole * PANEL + (word * PANEL + lane) * 4..][..4].copy_from_slice(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tile::STAGE_BYTES;
    use super::*;
    use crate::panels::{Arena, Packing};
    use crate::source::TensorBytes;

    /// Pieces of 16 bytes and words of 4 that a lane has of a segment, as formats.cuh has them.
    fn pieces_and_words(kind: PanelKind) -> (usize, usize) {
        match kind {
            PanelKind::Q4_0 | PanelKind::Q4_1 | PanelKind::Q4K => (1, 0),
            PanelKind::Q5_0 | PanelKind::Q5_1 | PanelKind::Q5K => (1, 1),
            PanelKind::Q6K => (1, 2),
            PanelKind::Q8_0 => (2, 0),
            PanelKind::F16 | PanelKind::Bf16 => (4, 0),
            PanelKind::F32 => (8, 0),
        }
    }

    /// A matrix of 40 outputs, the last panel of which is not full, by 512 inputs.
    fn matrix(kind: PanelKind) -> PackedMatrix {
        let (rows, columns) = (40, 512);
        let mut arena = Arena::default();
        let packing = Packing {
            arena: &mut arena,
            threads: 1,
        };
        let floats: Vec<u8> = (0..rows * columns)
            .flat_map(|i| ((i as f32 * 0.37).sin() * 2.0).to_le_bytes())
            .collect();
        let tensor = TensorBytes {
            dtype: candle_core::quantized::GgmlDType::F32,
            rows,
            columns,
            bytes: &floats,
            pairs: 0,
        };
        match kind {
            PanelKind::F32 => PackedMatrix::pack(&tensor, packing),
            _ => PackedMatrix::quantize(&tensor, kind.dtype(), packing),
        }
        .unwrap_or_else(|error| panic!("{kind:?}: {:?}", error.found_and_expected()))
    }

    #[test]
    fn a_lane_finds_its_values_in_pieces_and_everything_else_where_it_was() {
        for kind in PanelKind::ALL {
            let matrix = matrix(kind);
            let (shape, (pieces, words)) = (kind.shape(), pieces_and_words(kind));
            assert_eq!(shape.weights, LANES * (16 * pieces + 4 * words), "{kind:?}");
            // A stage has besides a word for each half and each byte of scales.
            let scales = match shape.header {
                0 => shape.scales / (2 * LANES),
                header => header / (2 * LANES) + 2,
            };
            let stage = 16 * pieces + 4 * (words + scales);
            assert_eq!(STAGE_BYTES[kind as usize], stage, "{kind:?}");
            for panel in 0..matrix.panels() {
                let from = matrix.panel(panel);
                let mut out = vec![0; from.len()];
                spread_panel(&matrix, panel, &mut out);
                let mut untouched = vec![true; from.len()];
                for segment in 0..matrix.segments() {
                    let (_, _, weights) = shape.parts(segment);
                    for lane in 0..PANEL {
                        // As a kernel reads them.
                        let mut found: Vec<u8> = Vec::new();
                        for piece in 0..pieces {
                            found.extend(&out[weights + (piece * PANEL + lane) * 16..][..16]);
                        }
                        for word in 0..words {
                            let at = weights + 512 * pieces + (word * PANEL + lane) * 4;
                            found.extend(&out[at..][..4]);
                        }
                        // As the processor has them: values of 16 lanes side by side.
                        let width = kind.value_bytes();
                        let half = weights + lane / LANES * shape.weights;
                        let expected: Vec<u8> = (0..shape.weights / LANES / width)
                            .flat_map(|row| {
                                let at = half + (row * LANES + lane % LANES) * width;
                                from[at..at + width].to_vec()
                            })
                            .collect();
                        assert_eq!(found, expected, "{kind:?}, segment {segment}, lane {lane}");
                    }
                    untouched[weights..weights + HALVES * shape.weights].fill(false);
                }
                let kept = (0..from.len()).filter(|at| untouched[*at]);
                assert!(kept.into_iter().all(|at| out[at] == from[at]), "{kind:?}");
            }
        }
    }

    #[test]
    fn fragments_are_those_of_the_tensor_cores_and_end_in_zeros() {
        let matrix = matrix(PanelKind::Q8_0);
        let columns = matrix.segments() * SEGMENT;
        let weight = |output: usize, input: usize| {
            let mut row = vec![0.0; columns];
            if output < matrix.rows {
                Kernels::of(Isa::Scalar).dequantise_row(&matrix, output, &mut row);
            }
            half::bf16::from_f32(row[input])
        };
        assert_eq!(fragment_bytes(&matrix), 48 * columns * 2);
        for tile in 0..3 {
            let mut out = vec![0xff; fragment_bytes(&matrix) / 3];
            write_fragments(&matrix, tile, &mut out);
            let found = |step: usize, lane: usize, value: usize| {
                let at = ((step * 32 + lane) * 8 + value) * 2;
                half::bf16::from_le_bytes([out[at], out[at + 1]])
            };
            for (step, lane) in [(0, 0), (0, 31), (5, 6), (31, 17)] {
                // Of lane l, the four registers have rows l / 4, the same and 8, and again, and columns from 2 (l % 4) on, and in the
                // last two from 8 more.
                let (row, column) = (tile * 16 + lane / 4, step * 16 + lane % 4 * 2);
                let expected = [(0, 0), (8, 0), (0, 8), (8, 8)].map(|(down, right)| {
                    [0, 1].map(|next| weight(row + down, column + right + next))
                });
                for (value, expected) in expected.as_flattened().iter().enumerate() {
                    assert_eq!(
                        found(step, lane, value),
                        *expected,
                        "{tile}, {step}, {lane}, {value}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_handed_to_kernels_has_their_sizes() {
        use crate::cuda::plan;
        assert_eq!(size_of::<MatrixArgument>(), 24);
        assert_eq!(plan::sizes(), [16, 24, 16, 16, 48, 40, 200, 160, 200]);
    }
}
