//! GGUF's blocks, one output's weights in a row, spread over the lanes of a panel.

use super::{PANEL, PackError, PanelKind, Shape, WORDS};
use crate::config::SEGMENT;
use crate::simd::LANES;
use crate::source::TensorBytes;

/// Spreads the outputs of one panel over its lanes.
pub(super) fn pack_panel(
    kind: PanelKind,
    tensor: &TensorBytes<'_>,
    panel: usize,
    out: &mut [u8],
) -> Result<(), PackError> {
    let shape = kind.shape();
    let row_bytes = tensor.bytes.len() / tensor.rows;
    let segments = tensor.columns / SEGMENT;
    let blocks = segments / shape.superblock;
    let block_bytes = row_bytes / blocks;
    let count = (tensor.rows - panel * PANEL).min(PANEL);
    for block in 0..blocks {
        for lane in 0..count {
            let row = panel * PANEL + lane;
            let source = &tensor.row(row)[block * block_bytes..][..block_bytes];
            let mut to = Lane {
                out,
                shape,
                first: block * shape.superblock,
                half: lane / LANES,
                lane: lane % LANES,
            };
            if !pack_block(kind, source, &mut to) {
                return Err(PackError::NotFinite {
                    row,
                    column: block * shape.superblock * SEGMENT,
                });
            }
        }
    }
    Ok(())
}

/// One lane of one superblock of a panel.
struct Lane<'a> {
    out: &'a mut [u8],
    shape: Shape,
    first: usize,
    half: usize,
    lane: usize,
}

impl Lane<'_> {
    fn header(&mut self) -> &mut [u8] {
        let (header, _, _) = self.shape.parts(self.first);
        &mut self.out[header + self.half * self.shape.header..][..self.shape.header]
    }

    fn scales(&mut self, segment: usize) -> &mut [u8] {
        let (_, scales, _) = self.shape.parts(self.first + segment);
        &mut self.out[scales + self.half * self.shape.scales..][..self.shape.scales]
    }

    fn weights(&mut self, segment: usize) -> &mut [u8] {
        let (_, _, weights) = self.shape.parts(self.first + segment);
        &mut self.out[weights + self.half * self.shape.weights..][..self.shape.weights]
    }

    /// Writes the low nibbles of a segment's 32 values, and of each group of 8.
    fn nibbles(&mut self, segment: usize, values: &[u8; SEGMENT]) {
        let lane = self.lane;
        let out = self.weights(segment);
        for (group, values) in values.chunks_exact(8).enumerate() {
            let word = values
                .iter()
                .rev()
                .fold(0u32, |word, value| word << 4 | u32::from(value & 15));
            out[group * WORDS + 4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Writes one word behind the nibbles.
    fn high(&mut self, segment: usize, index: usize, word: u32) {
        let at = (4 + index) * WORDS + 4 * self.lane;
        self.weights(segment)[at..][..4].copy_from_slice(&word.to_le_bytes());
    }
}

/// Bits `shift..shift + bits` of each value, the first value's lowest.
fn gather(values: &[u8], shift: u32, bits: u32) -> u32 {
    values.iter().rev().fold(0, |word, value| {
        word << bits | u32::from(value >> shift) & ((1 << bits) - 1)
    })
}

/// The quantised values of a segment that GGUF stores as low halves first: nibble `i` of byte `i` is input
/// `i`, its high nibble input `16 + i`.
fn split_nibbles(bytes: &[u8]) -> [u8; SEGMENT] {
    std::array::from_fn(|k| {
        if k < 16 {
            bytes[k] & 15
        } else {
            bytes[k - 16] >> 4
        }
    })
}

/// GGUF's block of 5-bit values: 4 bytes whose bit `k` is input k's fifth, then nibbles.
fn five_bits(bytes: &[u8]) -> [u8; SEGMENT] {
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let low = split_nibbles(&bytes[4..20]);
    std::array::from_fn(|k| low[k] | ((high >> k & 1) as u8) << 4)
}

/// The 6-bit scale and minimum of each of the 8 segments of a K-quant's superblock (12 bytes), as
/// llama.cpp's `get_scale_min_k4` defines them.
pub(crate) fn scales_and_minima(bytes: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|j| {
        if j < 4 {
            (bytes[j] & 63, bytes[j + 4] & 63)
        } else {
            (
                bytes[j + 4] & 15 | bytes[j - 4] >> 6 << 4,
                bytes[j + 4] >> 4 | bytes[j] >> 6 << 4,
            )
        }
    })
}

/// Writes one block of one output. False when a scale, a minimum or a weight is infinite or not a number.
#[must_use]
fn pack_block(kind: PanelKind, block: &[u8], to: &mut Lane<'_>) -> bool {
    let lane = to.lane;
    let finite = |at: usize| half::f16::from_le_bytes([block[at], block[at + 1]]).is_finite();
    let set_half = |out: &mut [u8], index: usize, at: usize| {
        out[2 * (index * LANES + lane)..][..2].copy_from_slice(&block[at..at + 2]);
    };
    match kind {
        PanelKind::Q4_0 => {
            set_half(to.scales(0), 0, 0);
            to.nibbles(0, &split_nibbles(&block[2..18]));
            finite(0)
        }
        PanelKind::Q4_1 => {
            set_half(to.scales(0), 0, 0);
            set_half(to.scales(0), 1, 2);
            to.nibbles(0, &split_nibbles(&block[4..20]));
            finite(0) && finite(2)
        }
        PanelKind::Q5_0 => {
            set_half(to.scales(0), 0, 0);
            let values = five_bits(&block[2..22]);
            to.nibbles(0, &values);
            to.high(0, 0, gather(&values, 4, 1));
            finite(0)
        }
        PanelKind::Q5_1 => {
            set_half(to.scales(0), 0, 0);
            set_half(to.scales(0), 1, 2);
            let values = five_bits(&block[4..24]);
            to.nibbles(0, &values);
            to.high(0, 0, gather(&values, 4, 1));
            finite(0) && finite(2)
        }
        PanelKind::Q8_0 => {
            set_half(to.scales(0), 0, 0);
            for (k, row) in to.weights(0).chunks_exact_mut(LANES).enumerate() {
                row[lane] = block[2 + k];
            }
            finite(0)
        }
        PanelKind::Q4K | PanelKind::Q5K => {
            // GGUF's superblock: d, dmin, 12 bytes of scales; Q5K: 32 bytes whose bit `j` of byte `k` is the
            // fifth of input k of segment j; 4 x 32 bytes: low nibbles one segment, high nibbles the next.
            set_half(to.header(), 0, 0);
            set_half(to.header(), 1, 2);
            let five = kind == PanelKind::Q5K;
            let nibbles = &block[if five { 48 } else { 16 }..];
            for (j, (scale, minimum)) in scales_and_minima(&block[4..16]).into_iter().enumerate() {
                to.scales(j)[lane] = scale;
                to.scales(j)[LANES + lane] = minimum;
                let values = std::array::from_fn(|k| {
                    let low = nibbles[j / 2 * SEGMENT + k] >> (4 * (j % 2)) & 15;
                    let high = if five { block[16 + k] >> j & 1 } else { 0 };
                    low | high << 4
                });
                to.nibbles(j, &values);
                if five {
                    to.high(j, 0, gather(&values, 4, 1));
                }
            }
            finite(0) && finite(2)
        }
        PanelKind::Q6K => {
            // GGUF's superblock: 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, d. Each
            // half of 128 inputs: nibbles of inputs k and 64 + k in byte k, pairs of k, 32 + k, 64 + k and
            // 96 + k in byte k.
            set_half(to.header(), 0, 208);
            for j in 0..8 {
                let (low, high) = (&block[j / 4 * 64..][..64], &block[128 + j / 4 * 32..][..32]);
                let quarter = j % 4;
                let values = std::array::from_fn(|k| {
                    let nibble = low[quarter % 2 * 32 + k] >> (4 * (quarter / 2)) & 15;
                    nibble | (high[k] >> (2 * quarter) & 3) << 4
                });
                to.nibbles(j, &values);
                to.high(j, 0, gather(&values[..16], 4, 2));
                to.high(j, 1, gather(&values[16..], 4, 2));
                to.scales(j)[lane] = block[192 + 2 * j];
                to.scales(j)[LANES + lane] = block[192 + 2 * j + 1];
            }
            finite(208)
        }
        PanelKind::F16 | PanelKind::Bf16 => {
            let out = to.weights(0);
            for k in 0..SEGMENT {
                out[2 * (k * LANES + lane)..][..2].copy_from_slice(&block[2 * k..2 * k + 2]);
            }
            block.chunks_exact(2).all(|value| {
                let bits = u16::from_le_bytes([value[0], value[1]]);
                match kind {
                    PanelKind::F16 => half::f16::from_bits(bits).is_finite(),
                    _ => half::bf16::from_bits(bits).is_finite(),
                }
            })
        }
        PanelKind::F32 => {
            let out = to.weights(0);
            for k in 0..SEGMENT {
                out[4 * (k * LANES + lane)..][..4].copy_from_slice(&block[4 * k..4 * k + 4]);
            }
            block.chunks_exact(4).all(|value| {
                f32::from_le_bytes([value[0], value[1], value[2], value[3]]).is_finite()
            })
        }
    }
}
