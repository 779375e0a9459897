//! Weights, packed once at load into the order in which the kernels read them.
//!
//! A matrix of `rows` outputs by `columns` inputs becomes panels of 16 outputs. A panel holds, for each
//! segment of 32 inputs in ascending order, what the kernel needs for those 16 x 32 weights, in one
//! contiguous block: half-precision scales (and minima) per output, then the raw quantised values, lanes
//! over outputs. The packed matrix is as large as the original, which is not kept.

use candle_core::quantized::GgmlDType;

use crate::config::SEGMENT;
use crate::gguf::{GgufError, GgufFile};
use crate::simd::LANES;

/// How the weights of a segment are stored, and so how the kernel reads and folds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PanelKind {
    /// `d * q + m` with `q` from 0 to 15: 16 f16 `d`, 16 f16 `m`, then 16 rows of 16 bytes; the byte of
    /// row `i` and lane `l` holds input `2i` in its low and `2i + 1` in its high nibble.
    Q4_1,
    /// `d * q` with `q` a signed byte: 16 f16 `d`, then 32 rows of 16 bytes.
    Q8_0,
    /// 32 rows of 16 f32.
    F32,
}

impl PanelKind {
    /// Bytes of one panel's segment: 16 outputs by 32 inputs.
    pub(crate) const fn segment_bytes(self) -> usize {
        match self {
            Self::Q4_1 => 2 * LANES + 2 * LANES + SEGMENT / 2 * LANES,
            Self::Q8_0 => 2 * LANES + SEGMENT * LANES,
            Self::F32 => 4 * SEGMENT * LANES,
        }
    }
}

/// A packed weight matrix.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    pub(crate) kind: PanelKind,
    /// Outputs. The last panel is padded with zero weights.
    pub(crate) rows: usize,
    /// Inputs, a multiple of 32.
    pub(crate) columns: usize,
    /// Kept as u32 words so that f32 panels are aligned.
    words: Vec<u32>,
}

impl PackedMatrix {
    /// Packs the tensor `name` of shape (rows, columns).
    pub(crate) fn load(
        file: &GgufFile,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Self, GgufError> {
        let tensor = file.tensor(name, rows, columns)?;
        let kind = match tensor.dtype {
            GgmlDType::Q4_1 => PanelKind::Q4_1,
            GgmlDType::Q8_0 => PanelKind::Q8_0,
            GgmlDType::F32 => PanelKind::F32,
            other => {
                return Err(GgufError::Tensor {
                    path: file.path().to_owned(),
                    tensor: name.to_owned(),
                    found: format!("has type {other:?}"),
                    expected: "Q4_1, Q8_0 or F32, the types this build runs".to_owned(),
                });
            }
        };
        let segments = columns / SEGMENT;
        let panels = rows.div_ceil(LANES);
        let stride = kind.segment_bytes();
        let mut words = vec![0u32; panels * segments * stride / 4];
        let (_, packed, _) = bytes_of(&mut words);
        let row_bytes = tensor.bytes.len() / rows;
        let block_bytes = row_bytes / segments;
        for panel in 0..panels {
            let lanes = (rows - panel * LANES).min(LANES);
            for segment in 0..segments {
                let out = &mut packed[(panel * segments + segment) * stride..][..stride];
                for lane in 0..lanes {
                    let row = (panel * LANES + lane) * row_bytes;
                    let block = &tensor.bytes[row + segment * block_bytes..][..block_bytes];
                    if !pack_block(kind, block, lane, out) {
                        return Err(GgufError::Tensor {
                            path: file.path().to_owned(),
                            tensor: name.to_owned(),
                            found: format!(
                                "has a value or scale that is not finite, in row {}, columns {}..",
                                panel * LANES + lane,
                                segment * SEGMENT
                            ),
                            expected: "finite weights; the file is damaged, compare its sha256"
                                .to_owned(),
                        });
                    }
                }
            }
        }
        Ok(Self {
            kind,
            rows,
            columns,
            words,
        })
    }

    /// An f32 matrix whose values are in panel order already.
    pub(crate) fn from_f32_panels(rows: usize, columns: usize, values: &[f32]) -> Self {
        Self {
            kind: PanelKind::F32,
            rows,
            columns,
            words: values.iter().map(|value| value.to_bits()).collect(),
        }
    }

    /// Panels of 16 outputs.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// The bytes of one panel, segment after segment.
    pub(crate) fn panel(&self, index: usize) -> &[u8] {
        let bytes = self.columns / SEGMENT * self.kind.segment_bytes();
        // SAFETY: any initialised u32 is four initialised bytes, and a byte needs no alignment.
        let (before, all, after) = unsafe { self.words.align_to::<u8>() };
        debug_assert!(before.is_empty() && after.is_empty());
        &all[index * bytes..][..bytes]
    }

    /// Bytes that the packed matrix occupies.
    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * 4
    }

    /// Writes output row `row`, dequantised: `d * q + m` and `d * q`, each operation rounded once.
    pub(crate) fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        let panel = self.panel(row / LANES);
        let lane = row % LANES;
        let half = |bytes: &[u8], at: usize| {
            half::f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32()
        };
        for (segment, out) in panel
            .chunks_exact(self.kind.segment_bytes())
            .zip(out.chunks_exact_mut(SEGMENT))
        {
            match self.kind {
                PanelKind::Q4_1 => {
                    let (d, m) = (half(segment, lane), half(segment, LANES + lane));
                    for (k, out) in out.iter_mut().enumerate() {
                        let byte = segment[4 * LANES + k / 2 * LANES + lane];
                        let q = if k % 2 == 0 { byte & 15 } else { byte >> 4 };
                        *out = d * f32::from(q) + m;
                    }
                }
                PanelKind::Q8_0 => {
                    let d = half(segment, lane);
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = d * f32::from(segment[2 * LANES + k * LANES + lane] as i8);
                    }
                }
                PanelKind::F32 => {
                    for (k, out) in out.iter_mut().enumerate() {
                        let at = (k * LANES + lane) * 4;
                        *out = f32::from_le_bytes([
                            segment[at],
                            segment[at + 1],
                            segment[at + 2],
                            segment[at + 3],
                        ]);
                    }
                }
            }
        }
    }
}

fn bytes_of(words: &mut [u32]) -> (usize, &mut [u8], usize) {
    // SAFETY: every bit pattern is a valid u32 and a valid byte, and a byte needs no alignment.
    let (before, bytes, after) = unsafe { words.align_to_mut::<u8>() };
    (before.len(), bytes, after.len())
}

/// Spreads one block of 32 weights of one output over its lane of a panel's segment. False when a scale,
/// a minimum or an f32 weight is infinite or not a number.
#[must_use]
fn pack_block(kind: PanelKind, block: &[u8], lane: usize, out: &mut [u8]) -> bool {
    let finite = |at: usize| half::f16::from_le_bytes([block[at], block[at + 1]]).is_finite();
    match kind {
        PanelKind::Q4_1 => {
            // GGUF's block: f16 d, f16 m, 16 bytes whose low nibbles are weights 0..16, high ones 16..32.
            out[2 * lane..2 * lane + 2].copy_from_slice(&block[..2]);
            out[2 * LANES + 2 * lane..][..2].copy_from_slice(&block[2..4]);
            let quants = &block[4..20];
            let nibble = |k: usize| {
                if k < 16 {
                    quants[k] & 15
                } else {
                    quants[k - 16] >> 4
                }
            };
            for pair in 0..SEGMENT / 2 {
                out[4 * LANES + pair * LANES + lane] = nibble(2 * pair) | nibble(2 * pair + 1) << 4;
            }
            finite(0) && finite(2)
        }
        PanelKind::Q8_0 => {
            // GGUF's block: f16 d, 32 signed bytes.
            out[2 * lane..2 * lane + 2].copy_from_slice(&block[..2]);
            for k in 0..SEGMENT {
                out[2 * LANES + k * LANES + lane] = block[2 + k];
            }
            finite(0)
        }
        PanelKind::F32 => {
            for k in 0..SEGMENT {
                out[(k * LANES + lane) * 4..][..4].copy_from_slice(&block[4 * k..4 * k + 4]);
            }
            block.chunks_exact(4).all(|value| {
                f32::from_le_bytes([value[0], value[1], value[2], value[3]]).is_finite()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(kind: PanelKind, blocks: &[Vec<u8>]) -> PackedMatrix {
        let mut words = vec![0u32; kind.segment_bytes() / 4];
        for (lane, block) in blocks.iter().enumerate() {
            assert!(pack_block(kind, block, lane, bytes_of(&mut words).1));
        }
        PackedMatrix {
            kind,
            rows: blocks.len(),
            columns: SEGMENT,
            words,
        }
    }

    #[test]
    fn a_packed_q4_1_row_dequantises_as_the_format_says() {
        let (d, m) = (half::f16::from_f32(0.125), half::f16::from_f32(-1.5));
        let mut block = [d.to_le_bytes(), m.to_le_bytes()].concat();
        block.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let matrix = packed(PanelKind::Q4_1, &[block.clone(), block]);
        let mut row = [0.0; SEGMENT];
        matrix.dequantise_row(1, &mut row);
        let expected: Vec<f32> = (0..16)
            .chain((0..16).rev())
            .map(|q| 0.125 * q as f32 - 1.5)
            .collect();
        assert_eq!(row.as_slice(), expected);
    }

    #[test]
    fn a_packed_q8_0_row_dequantises_as_the_format_says() {
        let mut block = half::f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend((0..32).map(|i| (i * 8 - 128) as i8 as u8));
        let matrix = packed(PanelKind::Q8_0, &[vec![0; 34], block]);
        let mut row = [0.0; SEGMENT];
        matrix.dequantise_row(1, &mut row);
        let expected: Vec<f32> = (0..32).map(|i| 0.5 * (i * 8 - 128) as f32).collect();
        assert_eq!(row.as_slice(), expected);
    }

    #[test]
    fn a_packed_f32_row_is_the_original() {
        let values: Vec<f32> = (0..32).map(|i| i as f32 * 0.3 - 4.0).collect();
        let block = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let matrix = packed(PanelKind::F32, &[block]);
        let mut row = [0.0; SEGMENT];
        matrix.dequantise_row(0, &mut row);
        assert_eq!(row.as_slice(), values);
    }

    #[test]
    fn a_scale_that_is_not_finite_is_noticed() {
        let mut out = vec![0; PanelKind::Q8_0.segment_bytes()];
        let mut block = half::f16::NAN.to_le_bytes().to_vec();
        block.extend([0; 32]);
        assert!(!pack_block(PanelKind::Q8_0, &block, 0, &mut out));
        let mut out = vec![0; PanelKind::Q4_1.segment_bytes()];
        let mut block = [
            half::f16::ONE.to_le_bytes(),
            half::f16::INFINITY.to_le_bytes(),
        ]
        .concat();
        block.extend([0; 16]);
        assert!(!pack_block(PanelKind::Q4_1, &block, 0, &mut out));
    }
}
