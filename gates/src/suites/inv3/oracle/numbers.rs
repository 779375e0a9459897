//! The arithmetic of the plain oracle: one number after another.

use candle_core::quantized::GgmlDType;
use half::{bf16, f16};
use kakeya_core::KvElement;
use kakeya_model::TensorBytes;

/// What a cache gives back for the values that were put in.
pub(super) fn stored(element: KvElement, values: Vec<f32>) -> Vec<f32> {
    match element {
        KvElement::F32 => values,
        KvElement::F16 => values
            .into_iter()
            .map(|value| f16::from_f32(value).to_f32())
            .collect(),
        KvElement::Int8 => values.chunks(32).flat_map(eight_bits).collect(),
    }
}

/// Rule KV-INT8: multiples of the least bfloat16 that is at least the greatest magnitude over 127.
fn eight_bits(block: &[f32]) -> Vec<f32> {
    let greatest = block.iter().map(|value| value.abs()).fold(0.0, f32::max);
    let wanted = greatest / 127.0;
    let mut scale = bf16::from_f32(wanted);
    if scale.to_f32() < wanted {
        scale = bf16::from_bits(scale.to_bits() + 1);
    }
    let scale = scale.to_f32();
    if scale == 0.0 {
        return vec![0.0; block.len()];
    }
    block
        .iter()
        .map(|value| (value / scale).round_ties_even() * scale)
        .collect()
}

/// Up to 32 weights: `d * q + m` each.
pub(super) struct Block {
    pub(super) d: f32,
    pub(super) m: f32,
    pub(super) q: [f32; 32],
}

pub(super) fn row_blocks<'t>(
    tensor: &TensorBytes<'t>,
    row: usize,
) -> impl Iterator<Item = Block> + 't {
    let row_bytes = tensor.bytes.len() / tensor.rows;
    let dtype = tensor.dtype;
    let block_bytes = row_bytes / (tensor.columns / 32);
    tensor.bytes[row * row_bytes..(row + 1) * row_bytes]
        .chunks_exact(block_bytes)
        .map(move |block| {
            let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            match dtype {
                GgmlDType::Q4_1 => {
                    let nibble = |k: usize| {
                        f32::from(if k < 16 {
                            block[4 + k] & 15
                        } else {
                            block[4 + k - 16] >> 4
                        })
                    };
                    Block {
                        d: half(0),
                        m: half(2),
                        q: std::array::from_fn(nibble),
                    }
                }
                GgmlDType::Q8_0 => Block {
                    d: half(0),
                    m: 0.0,
                    q: std::array::from_fn(|k| f32::from(block[2 + k] as i8)),
                },
                _ => {
                    let values = floats(dtype, block);
                    Block {
                        d: 1.0,
                        m: 0.0,
                        q: std::array::from_fn(|k| values[k]),
                    }
                }
            }
        })
}

pub(super) fn dot(tensor: &TensorBytes<'_>, row: usize, x: &[f32]) -> f32 {
    let mut t = 0.0f32;
    for (block, x) in row_blocks(tensor, row).zip(x.chunks_exact(32)) {
        let (mut chain, mut sum) = (0.0f32, 0.0f32);
        for (x, q) in x.iter().zip(&block.q) {
            chain = x.mul_add(*q, chain);
            sum += x;
        }
        t = match tensor.dtype {
            GgmlDType::Q4_1 => block.m.mul_add(sum, block.d.mul_add(chain, t)),
            GgmlDType::Q8_0 => block.d.mul_add(chain, t),
            _ => t + chain,
        };
    }
    t
}

pub(super) fn norm(x: &[f32], weights: &[f32], epsilon: f32) -> Vec<f32> {
    let mut total = 0.0f32;
    for segment in x.chunks_exact(32) {
        let mut chain = 0.0f32;
        for value in segment {
            chain = value.mul_add(*value, chain);
        }
        total += chain;
    }
    let inverse = 1.0 / (total / x.len() as f32 + epsilon).sqrt();
    x.iter()
        .zip(weights)
        .map(|(x, weight)| x * inverse * weight)
        .collect()
}

#[expect(
    clippy::excessive_precision,
    reason = "the constants stand as Cephes prints them, and the nearest f32 is meant"
)]
pub(super) fn exp(x: f32) -> f32 {
    let x = if x < -87.336_54 { -87.336_54 } else { x };
    let x = if x > 88.376_26 { 88.376_26 } else { x };
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-0.693_359_375, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_6e-1);
    p = p.mul_add(r, 5.000_000_1e-1);
    let y = p.mul_add(r * r, r) + 1.0;
    y * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

pub(super) fn add(to: &mut [f32], what: &[f32]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}

pub(super) fn floats(dtype: GgmlDType, bytes: &[u8]) -> Vec<f32> {
    let two = |b: &[u8]| [b[0], b[1]];
    match dtype {
        GgmlDType::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        GgmlDType::F16 => bytes
            .chunks_exact(2)
            .map(|b| f16::from_le_bytes(two(b)).to_f32())
            .collect(),
        GgmlDType::BF16 => bytes
            .chunks_exact(2)
            .map(|b| bf16::from_le_bytes(two(b)).to_f32())
            .collect(),
        other => unreachable!("the oracle does not read {other:?}"),
    }
}
