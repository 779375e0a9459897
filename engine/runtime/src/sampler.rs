//! From logits to a token.
//!
//! The draw for a token is a function of the seed and of the token's absolute position alone (a counter-based
//! generator: ChaCha with 8 rounds, the seed as its key and the position as its stream), so it cannot depend
//! on chunking, on the batch, or on tokens that were proposed and rejected. What tokens weigh, and which one is drawn, is
//! rule DRAW of `docs/numerics.md`: every platform draws the same token from the same logits.

use kakeya_core::{GenerateParams, Sampling, TokenSet};
use kakeya_model::{Draw, Drawer};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::adjust::Adjuster;

/// Takes the tokens of one generation.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Where no penalty and no bias is asked for there is none, and the logits are used as they lie.
    adjuster: Option<Adjuster>,
    sampling: Sampling,
    seed: u64,
    drawer: Drawer,
    /// The tokens that are allowed and their logits, kept between draws to save the allocation.
    allowed: Vec<u32>,
    logits: Vec<f32>,
}

impl Sampler {
    /// A sampler for validated settings and a model with ids below `vocabulary`, which goes on from `history`.
    /// Without a seed it takes a random one.
    #[must_use]
    pub fn new(params: &GenerateParams, vocabulary: usize, history: &[u32]) -> Self {
        let seed = params.sampling.seed.unwrap_or_else(|| {
            getrandom::u64().unwrap_or_else(|error| {
                tracing::warn!(%error, "the system gave no randomness: the clock seeds this generation");
                std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
            })
        });
        Self {
            adjuster: Adjuster::new(params, vocabulary, history),
            sampling: params.sampling,
            seed,
            drawer: Drawer::default(),
            allowed: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// The token for `position` (its own absolute position), given the logits of the position before it.
    ///
    /// Penalties and biases first: the repetition penalty, the frequency penalty, the presence penalty, the biases.
    /// Temperature 0 then takes the largest logit, the lowest id among equals. Otherwise: divide by the
    /// temperature, keep the `top_k` largest, then the smallest set of most likely tokens whose probabilities
    /// reach `top_p`, then those at least `min_p` times as likely as the likeliest, and draw from what is left.
    ///
    /// Asking changes nothing: a token that was emitted is told to [`Sampler::note`].
    pub fn next(&mut self, logits: &[f32], position: u64) -> u32 {
        let draw = self.draw(position);
        let logits = match &mut self.adjuster {
            Some(adjuster) => adjuster.adjust(logits),
            None => logits,
        };
        match draw {
            Some(draw) => self.drawer.draw(logits, &draw) as u32,
            None => greedy(logits),
        }
    }

    /// The same, from the tokens of `allowed` alone, one or more of those that have logits: as if the others had a
    /// logit of minus infinity before anything is cut off.
    pub fn next_allowed(&mut self, logits: &[f32], position: u64, allowed: &TokenSet) -> u32 {
        let draw = self.draw(position);
        let logits = match &mut self.adjuster {
            Some(adjuster) => adjuster.adjust(logits),
            None => logits,
        };
        self.allowed.clear();
        self.allowed.extend(allowed.iter());
        self.logits.clear();
        let of_allowed = self.allowed.iter().map(|id| logits[*id as usize]);
        self.logits.extend(of_allowed);
        let place = match draw {
            Some(draw) => self.drawer.draw(&self.logits, &draw),
            None => greedy(&self.logits) as usize,
        };
        self.allowed[place]
    }

    /// How the token for `position` is drawn from the logits as they are; `None` where they are adjusted first, or the largest
    /// is taken.
    #[must_use]
    pub fn draw_ahead(&self, position: u64) -> Option<Draw> {
        self.draw(position).filter(|_| self.adjuster.is_none())
    }

    /// How the token for `position` is drawn; `None` where the largest logit is taken.
    fn draw(&self, position: u64) -> Option<Draw> {
        (self.sampling.temperature != 0.0).then(|| Draw {
            temperature: self.sampling.temperature,
            top_k: self.sampling.top_k,
            top_p: self.sampling.top_p,
            min_p: self.sampling.min_p,
            random: random(self.seed, position),
        })
    }

    /// Whether it takes the greatest logit as it is: then nobody needs to look at the others.
    #[must_use]
    pub fn takes_greatest(&self) -> bool {
        self.adjuster.is_none() && self.sampling.temperature == 0.0
    }

    /// Takes note of a token that was emitted: the penalties count it from now on.
    pub fn note(&mut self, token: u32) {
        if let Some(adjuster) = &mut self.adjuster {
            adjuster.note(token);
        }
    }
}

/// The random bits of a position.
fn random(seed: u64, position: u64) -> u64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(position);
    rng.next_u64()
}

/// The index of the largest logit, the lowest among equals.
///
/// Every token of every session asks for it, of tens of thousands of logits: the largest is found in as many lanes as
/// compilers make vectors of, and then looked for.
#[must_use]
pub fn greedy(logits: &[f32]) -> u32 {
    const LANES: usize = 16;
    let larger = |most: f32, value: f32| if value > most { value } else { most };
    let mut most = [logits[0]; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for (most, value) in most.iter_mut().zip(chunk) {
            *most = larger(*most, *value);
        }
    }
    let all = most.iter().chain(rest).copied();
    let largest = all.fold(logits[0], larger);
    // Nothing is larger than the first if that is no number.
    let found = logits.iter().position(|value| *value == largest);
    found.unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32, top_k: u32, top_p: f32, seed: u64) -> Sampling {
        Sampling {
            temperature,
            top_k,
            top_p,
            seed: Some(seed),
            ..Sampling::default()
        }
    }

    fn sampler(temperature: f32, top_k: u32, top_p: f32, seed: u64) -> Sampler {
        of(sampling(temperature, top_k, top_p, seed))
    }

    fn of(sampling: Sampling) -> Sampler {
        with_bias(sampling, &[])
    }

    fn with_bias(sampling: Sampling, bias: &[(u32, f32)]) -> Sampler {
        let params = GenerateParams {
            logit_bias: bias.to_vec(),
            ..GenerateParams::new(1000, sampling)
        };
        Sampler::new(&params, 100, &[])
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        assert_eq!(greedy(&[0.0, 3.0, 3.0, -1.0]), 1);
        let one_by_one = |logits: &[f32]| {
            let mut best = 0;
            for (id, value) in logits.iter().enumerate() {
                if *value > logits[best] {
                    best = id;
                }
            }
            best as u32
        };
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 7.0];
        for length in 1..100_usize {
            for salt in 0..40_usize {
                // Few values, so that the largest is there several times, anywhere.
                let logit = |at: usize| odd[(at * 31 + salt * 17 + at * at * salt) % odd.len()];
                let logits: Vec<f32> = (0..length).map(logit).collect();
                assert_eq!(greedy(&logits), one_by_one(&logits), "{logits:?}");
            }
        }
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
    #[test]
    fn min_p_cuts_what_is_less_than_so_many_times_as_likely_as_the_likeliest() {
        // Weights 1, 1/2, 1/4 and 1/8, exactly: the temperature undoes the scale.
        let scale = std::f64::consts::LN_2 as f32;
        let logits = [-3.0, -1.0, 0.0, -2.0];
        let drawn = |min_p: f32, temperature: f32| -> Vec<u32> {
            let mut sampler = of(Sampling {
                min_p,
                ..sampling(temperature, 0, 1.0, 1)
            });
            let mut tokens: Vec<u32> = (0..500)
                .map(|position| sampler.next(&logits, position))
                .collect();
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        };
        let one_bit = 1.0 / scale;
        for (min_p, kept) in [
            (0.0, vec![0, 1, 2, 3]),
            (0.12, vec![0, 1, 2, 3]),
            (0.13, vec![1, 2, 3]),
            (0.26, vec![1, 2]),
            (0.51, vec![2]),
            (1.0, vec![2]),
        ] {
            assert_eq!(drawn(min_p, one_bit), kept, "min_p {min_p}");
        }
        // It comes after the temperature: at twice the heat, 1/8 has become about 0.35.
        assert_eq!(drawn(0.3, 2.0 * one_bit), [0, 1, 2, 3]);
    }

    #[test]
    fn min_p_keeps_all_that_are_as_likely_as_the_likeliest_and_can_only_narrow_the_nucleus() {
        let logits = [4.0, 4.0, 3.0];
        let certain = Sampling {
            min_p: 1.0,
            ..sampling(1.0, 0, 1.0, 3)
        };
        let mut both = of(certain);
        let drawn: Vec<u32> = (0..200).map(|at| both.next(&logits, at)).collect();
        assert!(drawn.contains(&0) && drawn.contains(&1) && !drawn.contains(&2));
        let mut nucleus = of(Sampling {
            top_p: 0.01,
            min_p: 0.001,
            ..certain
        });
        assert!((0..200).all(|at| nucleus.next(&logits, at) == 0));
    }

    /// What these logits, this seed and these settings drew before there were penalties, biases or min_p.
    #[test]
    fn with_every_option_off_the_draws_are_those_of_the_first_version() {
        let logits: Vec<f32> = (0..100).map(|i| (i * 37 % 100) as f32 / 16.0).collect();
        let mut sampler = sampler(0.9, 40, 0.95, 2024);
        let drawn: Vec<u32> = (0..16)
            .map(|position| sampler.next(&logits, position))
            .collect();
        assert_eq!(
            drawn,
            [
                43, 32, 51, 35, 81, 43, 16, 54, 2, 97, 16, 89, 13, 89, 29, 67
            ]
        );
    }

    #[test]
    fn a_bias_forces_and_forbids_greedy_or_drawn() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        for temperature in [0.0, 1.0] {
            let sampling = sampling(temperature, 0, 1.0, 11);
            let mut forced = with_bias(sampling, &[(77, 100.0)]);
            assert!((0..200).all(|at| forced.next(&logits, at) == 77));
            let best = greedy(&logits);
            let mut free = of(sampling);
            assert!((0..200).any(|at| free.next(&logits, at) == best));
            let mut forbidden = with_bias(sampling, &[(best, -100.0)]);
            assert!((0..200).all(|at| forbidden.next(&logits, at) != best));
        }
    }

    fn set(tokens: &[u32]) -> TokenSet {
        let mut words = [0_u32; 4];
        for token in tokens {
            words[*token as usize / 32] |= 1 << (token % 32);
        }
        let mut set = TokenSet::new(100);
        set.copy_from_words(&words);
        set
    }

    #[test]
    fn what_is_not_allowed_is_drawn_no_more_than_with_a_logit_of_minus_infinity() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let tokens: Vec<u32> = (0..100).filter(|token| token % 7 == 3).collect();
        let allowed = set(&tokens);
        let masked: Vec<f32> = (0..)
            .zip(&logits)
            .map(|(token, logit)| match allowed.contains(token) {
                true => *logit,
                false => f32::NEG_INFINITY,
            })
            .collect();
        for (temperature, top_k, top_p) in
            [(0.0, 0, 1.0), (1.0, 0, 1.0), (2.0, 5, 1.0), (1.5, 9, 0.7)]
        {
            let mut one = sampler(temperature, top_k, top_p, 8);
            let mut other = sampler(temperature, top_k, top_p, 8);
            for position in 0..300 {
                let drawn = one.next_allowed(&logits, position, &allowed);
                assert_eq!(drawn, other.next(&masked, position));
                assert!(allowed.contains(drawn));
            }
        }
    }

    #[test]
    fn what_is_allowed_narrows_what_penalties_and_biases_have_made_of_the_logits() {
        let logits: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for temperature in [0.0, 1.0] {
            let mut forced =
                with_bias(sampling(temperature, 0, 1.0, 4), &[(99, 100.0), (5, 100.0)]);
            assert_eq!(forced.next_allowed(&logits, 3, &set(&[5, 6, 40])), 5);
            assert_eq!(forced.next_allowed(&logits, 3, &set(&[71])), 71);
        }
    }

    #[test]
    fn adjusting_does_not_change_the_randomness_of_the_draw() {
        // Penalties and biases that lower every logit by the same leave the probabilities, so the same tokens must
        // be drawn, at every position and however many came before.
        let logits: Vec<f32> = (0..100).map(|i| (i % 13) as f32).collect();
        let all: Vec<u32> = (0..100).collect();
        let plain = sampling(1.0, 0, 1.0, 5);
        let mut free = of(plain);
        let mut penalised = of(Sampling {
            presence_penalty: 1.0,
            frequency_penalty: 0.5,
            ..plain
        });
        for token in &all {
            penalised.note(*token);
        }
        let biases: Vec<(u32, f32)> = all.iter().map(|token| (*token, -7.0)).collect();
        let mut biased = with_bias(plain, &biases);
        for position in 0..300 {
            let expected = free.next(&logits, position);
            assert_eq!(penalised.next(&logits, position), expected);
            assert_eq!(biased.next(&logits, position), expected);
        }
    }

    #[test]
    fn asking_twice_gives_the_same_token_and_only_what_is_noted_counts() {
        let logits = [5.0, 4.0, 0.0];
        let sampling = Sampling {
            frequency_penalty: 0.75,
            ..Sampling::default()
        };
        let mut sampler = of(sampling);
        assert_eq!([sampler.next(&logits, 9), sampler.next(&logits, 9)], [0, 0]);
        sampler.note(0);
        assert_eq!(sampler.next(&logits, 10), 0, "5 - 0.75 is above 4");
        sampler.note(0);
        assert_eq!(sampler.next(&logits, 11), 1, "5 - 1.5 is not");
    }

    #[test]
    fn the_history_counts_for_repetition_alone() {
        let logits = [5.0, 4.0, 0.0];
        let repetition = Sampling {
            repetition_penalty: 1.5,
            ..Sampling::default()
        };
        let presence = Sampling {
            presence_penalty: 2.0,
            ..Sampling::default()
        };
        for (sampling, expected) in [(repetition, 1), (presence, 0)] {
            let params = GenerateParams::new(4, sampling);
            let mut sampler = Sampler::new(&params, 3, &[2, 0, 2]);
            assert_eq!(sampler.next(&logits, 3), expected);
        }
    }
}
