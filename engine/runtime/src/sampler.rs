//! From logits to a token.
//!
//! The draw for a token is a function of the seed and of the token's absolute position alone (a counter-based
//! generator: ChaCha with 8 rounds, the seed as its key and the position as its stream), so it cannot depend
//! on chunking, on the batch, or on tokens that were proposed and rejected. Probabilities are computed in f64
//! with a software `exp`, so that every platform draws the same token from the same logits.

use kakeya_core::Sampling;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// Draws the tokens of one generation.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    seed: u64,
    /// Token ids, kept between draws to save the allocation.
    order: Vec<u32>,
    weights: Vec<f64>,
}

impl Sampler {
    /// A sampler for validated settings. Without a seed it takes a random one.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        let seed = sampling.seed.unwrap_or_else(|| {
            getrandom::u64().unwrap_or_else(|error| {
                tracing::warn!(%error, "the system gave no randomness: the clock seeds this generation");
                std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
            })
        });
        Self {
            sampling,
            seed,
            order: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// The token for `position` (its own absolute position), given the logits of the position before it.
    ///
    /// Temperature 0 takes the largest logit, the lowest id among equals. Otherwise: divide by the
    /// temperature, keep the `top_k` largest, then the smallest set of most likely tokens whose probabilities
    /// reach `top_p`, and draw from what is left.
    pub fn next(&mut self, logits: &[f32], position: u64) -> u32 {
        if self.sampling.temperature == 0.0 {
            return greedy(logits);
        }
        self.rank(logits);
        let peak = f64::from(logits[self.order[0] as usize]);
        let temperature = f64::from(self.sampling.temperature);
        self.weights.clear();
        self.weights.extend(
            self.order
                .iter()
                .map(|id| libm::exp((f64::from(logits[*id as usize]) - peak) / temperature)),
        );
        let kept = self.nucleus();
        let total: f64 = self.weights[..kept].iter().sum();
        let mut left = self.uniform(position) * total;
        for (id, weight) in self.order[..kept].iter().zip(&self.weights) {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        self.order[kept - 1]
    }

    /// Ids by falling logit, rising id among equals, cut to `top_k`.
    fn rank(&mut self, logits: &[f32]) {
        self.order.clear();
        self.order.extend(0..logits.len() as u32);
        let by_logit = |a: &u32, b: &u32| {
            logits[*b as usize]
                .total_cmp(&logits[*a as usize])
                .then(a.cmp(b))
        };
        let keep = self.sampling.top_k as usize;
        if keep > 0 && keep < self.order.len() {
            self.order.select_nth_unstable_by(keep, by_logit);
            self.order.truncate(keep);
        }
        self.order.sort_unstable_by(by_logit);
    }

    /// How many of the ranked tokens reach `top_p` together.
    fn nucleus(&self) -> usize {
        if self.sampling.top_p >= 1.0 {
            return self.weights.len();
        }
        let bound = f64::from(self.sampling.top_p) * self.weights.iter().sum::<f64>();
        let mut sum = 0.0;
        for (index, weight) in self.weights.iter().enumerate() {
            sum += weight;
            if sum >= bound {
                return index + 1;
            }
        }
        self.weights.len()
    }

    /// A number from 0 up to, and without, 1.
    fn uniform(&self, position: u64) -> f64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(position);
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The index of the largest logit, the lowest among equals.
#[must_use]
pub fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_k: u32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(Sampling {
            temperature,
            top_k,
            top_p,
            seed: Some(seed),
        })
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        assert_eq!(greedy(&[0.0, 3.0, 3.0, -1.0]), 1);
        assert_eq!(sampler(0.0, 0, 1.0, 9).next(&[0.0, 3.0, 3.0, -1.0], 5), 1);
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_alone() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut one = sampler(1.0, 0, 1.0, 42);
        let forwards: Vec<u32> = (0..50)
            .map(|position| one.next(&logits, position))
            .collect();
        let backwards: Vec<u32> = (0..50)
            .rev()
            .map(|position| sampler(1.0, 0, 1.0, 42).next(&logits, position))
            .collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
        let other: Vec<u32> = (0..50)
            .map(|position| sampler(1.0, 0, 1.0, 43).next(&logits, position))
            .collect();
        assert_ne!(forwards, other);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [0.0, (2.0f32).ln(), (5.0f32).ln()];
        let mut counts = [0u32; 3];
        let mut sampler = sampler(1.0, 0, 1.0, 7);
        for position in 0..16_000 {
            counts[sampler.next(&logits, position) as usize] += 1;
        }
        // Expected 2000, 4000, 10000; five standard deviations are about 300.
        for (count, expected) in counts.iter().zip([2000i64, 4000, 10_000]) {
            assert!((i64::from(*count) - expected).abs() < 300, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [1.0, 4.0, 3.0, 4.0, -2.0];
        let mut two = sampler(5.0, 2, 1.0, 1);
        assert!((0..500).all(|position| [1, 3].contains(&two.next(&logits, position))));
        let mut narrow = sampler(5.0, 0, 0.01, 1);
        assert!((0..500).all(|position| narrow.next(&logits, position) == 1));
        let mut one = sampler(5.0, 1, 1.0, 1);
        assert!((0..100).all(|position| one.next(&logits, position) == 1));
    }
}
