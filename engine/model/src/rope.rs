//! Rotary position embedding (Su et al. 2021), in the pair order of GGUF's llama files: dimensions
//! `2i` and `2i + 1` turn together. Weights of other files are put in that order when they are loaded.
//!
//! Angles are `position * base^(-2i / head_dim)` in f64, and their sine and cosine come from `libm`, a
//! software library, so that no platform's own functions decide a bit. The products are rounded one by one.

use crate::config::{RopeConfig, RopeScaling};

/// The rotations of one model.
#[derive(Clone, Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
    /// What sines and cosines are multiplied by.
    magnitude: f64,
}

impl Rope {
    pub(crate) fn new(head_dim: usize, config: &RopeConfig) -> Self {
        let base = f64::from(config.base);
        let plain = |i: usize| libm::pow(base, -(2.0 * i as f64) / head_dim as f64);
        let pairs = 0..head_dim / 2;
        let frequencies = match &config.scaling {
            RopeScaling::None => pairs.map(plain).collect(),
            RopeScaling::Linear { factor } => pairs.map(|i| plain(i) / factor).collect(),
            RopeScaling::Factors(factors) => {
                pairs.map(|i| plain(i) / f64::from(factors[i])).collect()
            }
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => pairs
                .map(|i| {
                    let frequency = plain(i);
                    let turns = original * frequency / std::f64::consts::TAU;
                    let left = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - left) * frequency / factor + left * frequency
                })
                .collect(),
            RopeScaling::Yarn {
                factor,
                original,
                fast,
                slow,
                ..
            } => {
                let last = head_dim as f64 - 1.0;
                // The dimension that turns so often within the first context.
                let dimension = |turns: f64| {
                    let wavelength = original / (turns * std::f64::consts::TAU);
                    head_dim as f64 * libm::log(wavelength) / (2.0 * libm::log(base))
                };
                let low = dimension(*fast).floor().clamp(0.0, last);
                let high = dimension(*slow).ceil().clamp(0.0, last);
                let width = if low == high { 0.001 } else { high - low };
                pairs
                    .map(|i| {
                        let divided = ((i as f64 - low) / width).clamp(0.0, 1.0);
                        divided * plain(i) / factor + (1.0 - divided) * plain(i)
                    })
                    .collect()
            }
        };
        let magnitude = match config.scaling {
            RopeScaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        };
        Self {
            frequencies,
            magnitude,
        }
    }

    /// Writes what the rotation multiplies by at a position, `2 * head_dim` f32: for each dimension the cosine of its
    /// pair, then for each the sine, negative for the first of a pair.
    pub(crate) fn angles(&self, position: u64, out: &mut [f32]) {
        let (cosines, sines) = out.split_at_mut(2 * self.frequencies.len());
        let pairs = cosines.chunks_exact_mut(2).zip(sines.chunks_exact_mut(2));
        for (frequency, (cosine, sine)) in self.frequencies.iter().zip(pairs) {
            let angle = position as f64 * frequency;
            cosine.fill((libm::cos(angle) * self.magnitude) as f32);
            sine[1] = (libm::sin(angle) * self.magnitude) as f32;
            sine[0] = -sine[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(head_dim: usize, base: f32) -> Rope {
        let scaling = RopeScaling::None;
        Rope::new(head_dim, &RopeConfig { base, scaling })
    }

    fn rotate(vector: &[f32], angles: &[f32], out: &mut [f32]) {
        for i in 0..vector.len() {
            out[i] = vector[i] * angles[i] + vector[i ^ 1] * angles[vector.len() + i];
        }
    }

    #[test]
    fn position_zero_turns_nothing_and_a_turn_keeps_the_length() {
        let rope = plain(64, 1e5);
        let vector: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        let (mut angles, mut out) = (vec![0.0; 128], vec![0.0; 64]);
        rope.angles(0, &mut angles);
        rotate(&vector, &angles, &mut out);
        assert_eq!(out, vector);
        rope.angles(123_456, &mut angles);
        rotate(&vector, &angles, &mut out);
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        assert!((norm(&out) - norm(&vector)).abs() < 1e-5);
        assert_ne!(out, vector);
    }

    #[test]
    fn the_product_of_two_rotated_vectors_depends_on_their_distance() {
        let rope = plain(32, 1e4);
        let query: Vec<f32> = (0..32).map(|i| (i as f32 * 0.7).cos()).collect();
        let key: Vec<f32> = (0..32).map(|i| (i as f32 * 1.3).sin()).collect();
        let score = |p: u64, j: u64| {
            let (mut angles, mut a, mut b) = (vec![0.0; 64], vec![0.0; 32], vec![0.0; 32]);
            rope.angles(p, &mut angles);
            rotate(&query, &angles, &mut a);
            rope.angles(j, &mut angles);
            rotate(&key, &angles, &mut b);
            a.iter().zip(&b).map(|(x, y)| f64::from(x * y)).sum::<f64>()
        };
        assert!((score(10, 3) - score(1007, 1000)).abs() < 1e-4);
        assert!((score(10, 3) - score(10, 4)).abs() > 1e-3);
    }
}
