//! Penalties and biases: what a request asks to be done to the logits before a token is taken from them.
//!
//! What is done to a token's logit depends on that token alone, on how often it has come, and on the settings. So it
//! is the same however the history was chunked, and in whatever order tokens are gone through.

use kakeya_core::{GenerateParams, Sampling};

/// Adjusts the logits of one generation.
#[derive(Clone, Debug)]
pub(crate) struct Adjuster {
    /// What repetitions are counted for; `None` where that penalty is off.
    repetition: Option<Penalised<f32>>,
    frequency: Option<Penalised<FrequencyAndPresence>>,
    bias: Vec<(u32, f32)>,
    /// The logits as adjusted, kept between tokens to save the allocation.
    adjusted: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
struct FrequencyAndPresence {
    frequency: f32,
    presence: f32,
}

/// A penalty, and the tokens it is for.
#[derive(Clone, Debug)]
struct Penalised<P> {
    penalty: P,
    tokens: Occurrences,
}

/// How often each token has come. A table over the vocabulary and a list of those that have come at all: a token
/// costs the same to count however long the history is.
#[derive(Clone, Debug)]
struct Occurrences {
    counts: Vec<u32>,
    distinct: Vec<u32>,
}

impl Occurrences {
    /// None yet, with room for `tokens` to come without an allocation.
    fn new(vocabulary: usize, tokens: usize) -> Self {
        Self {
            counts: vec![0; vocabulary],
            distinct: Vec::with_capacity(tokens.min(vocabulary)),
        }
    }

    fn add(&mut self, token: u32) {
        let count = &mut self.counts[token as usize];
        if *count == 0 {
            self.distinct.push(token);
        }
        *count = count.saturating_add(1);
    }

    /// Each token that has come, and how often.
    fn iter(&self) -> impl Iterator<Item = (usize, u32)> {
        self.distinct.iter().map(|token| {
            let token = *token as usize;
            (token, self.counts[token])
        })
    }
}

impl Adjuster {
    /// An adjuster for a generation that goes on from `history`, all of whose tokens are below `vocabulary`; `None`
    /// where nothing is to be adjusted.
    pub(crate) fn new(params: &GenerateParams, vocabulary: usize, history: &[u32]) -> Option<Self> {
        let Sampling {
            presence_penalty: presence,
            frequency_penalty: frequency,
            repetition_penalty,
            ..
        } = params.sampling;
        let ahead = params.max_tokens as usize;
        let repetition = (repetition_penalty != 1.0).then(|| {
            let mut tokens = Occurrences::new(vocabulary, history.len().saturating_add(ahead));
            for token in history {
                tokens.add(*token);
            }
            Penalised {
                penalty: repetition_penalty,
                tokens,
            }
        });
        let frequency = (presence != 0.0 || frequency != 0.0).then(|| Penalised {
            penalty: FrequencyAndPresence {
                frequency,
                presence,
            },
            tokens: Occurrences::new(vocabulary, ahead),
        });
        let bias = params.logit_bias.clone();
        if repetition.is_none() && frequency.is_none() && bias.is_empty() {
            return None;
        }
        Some(Self {
            repetition,
            frequency,
            bias,
            adjusted: Vec::with_capacity(vocabulary),
        })
    }

    /// The logits with penalties and biases applied: the repetition penalty, the frequency penalty, the presence
    /// penalty, the bias.
    pub(crate) fn adjust(&mut self, logits: &[f32]) -> &[f32] {
        self.adjusted.clear();
        self.adjusted.extend_from_slice(logits);
        if let Some(Penalised { penalty, tokens }) = &self.repetition {
            for (token, _) in tokens.iter() {
                let logit = &mut self.adjusted[token];
                *logit = if *logit > 0.0 {
                    // A penalty close to 0 may overflow; two infinities would have no difference to draw by.
                    (*logit / penalty).min(f32::MAX)
                } else {
                    *logit * penalty
                };
            }
        }
        if let Some(Penalised { penalty, tokens }) = &self.frequency {
            for (token, count) in tokens.iter() {
                let logit = &mut self.adjusted[token];
                *logit = *logit - count as f32 * penalty.frequency - penalty.presence;
            }
        }
        for (token, bias) in &self.bias {
            self.adjusted[*token as usize] += bias;
        }
        &self.adjusted
    }

    /// Takes note of a token that was emitted.
    pub(crate) fn note(&mut self, token: u32) {
        if let Some(Penalised { tokens, .. }) = &mut self.repetition {
            tokens.add(token);
        }
        if let Some(Penalised { tokens, .. }) = &mut self.frequency {
            tokens.add(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [2.0, -2.0, 0.0, 8.0, 1.0];

    fn adjuster(sampling: Sampling, bias: &[(u32, f32)], history: &[u32]) -> Option<Adjuster> {
        let params = GenerateParams {
            logit_bias: bias.to_vec(),
            ..GenerateParams::new(8, sampling)
        };
        Adjuster::new(&params, LOGITS.len(), history)
    }

    fn adjusted(
        sampling: Sampling,
        bias: &[(u32, f32)],
        history: &[u32],
        emitted: &[u32],
    ) -> Vec<f32> {
        let mut adjuster = adjuster(sampling, bias, history).expect("something to adjust");
        for token in emitted {
            // What came before must leave no trace in what comes after.
            adjuster.adjust(&[9.0; 5]);
            adjuster.note(*token);
        }
        adjuster.adjust(&LOGITS).to_vec()
    }

    #[test]
    fn nothing_to_adjust_is_no_adjuster() {
        let hot = Sampling {
            temperature: 1.5,
            top_p: 0.5,
            top_k: 4,
            min_p: 0.1,
            presence_penalty: -0.0,
            ..Sampling::default()
        };
        for sampling in [Sampling::default(), hot] {
            assert!(adjuster(sampling, &[], &[0, 1, 2]).is_none());
        }
    }

    #[test]
    fn the_presence_penalty_is_taken_off_once_for_what_was_emitted() {
        let sampling = Sampling {
            presence_penalty: 1.5,
            ..Sampling::default()
        };
        // Token 2 is in the history alone, which does not count here.
        let found = adjusted(sampling, &[], &[2, 2], &[0, 1, 0, 0]);
        assert_eq!(found, [0.5, -3.5, 0.0, 8.0, 1.0]);
        let gift = Sampling {
            presence_penalty: -2.0,
            ..Sampling::default()
        };
        assert_eq!(adjusted(gift, &[], &[], &[4]), [2.0, -2.0, 0.0, 8.0, 3.0]);
    }

    #[test]
    fn the_frequency_penalty_is_taken_off_for_each_time() {
        let sampling = Sampling {
            frequency_penalty: 0.5,
            ..Sampling::default()
        };
        let found = adjusted(sampling, &[], &[2, 2], &[0, 1, 0, 0]);
        assert_eq!(found, [0.5, -2.5, 0.0, 8.0, 1.0]);
        let both = Sampling {
            presence_penalty: 1.0,
            frequency_penalty: 0.25,
            ..Sampling::default()
        };
        let found = adjusted(both, &[], &[], &[3, 3]);
        assert_eq!(found, [2.0, -2.0, 0.0, 6.5, 1.0]);
    }

    #[test]
    fn the_repetition_penalty_pushes_down_each_token_of_the_history_once() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        let found = adjusted(sampling, &[], &[0, 1, 0, 2], &[3, 0, 3]);
        assert_eq!(found, [1.0, -4.0, 0.0, 4.0, 1.0]);
        let towards = Sampling {
            repetition_penalty: 0.5,
            ..Sampling::default()
        };
        let found = adjusted(towards, &[], &[0, 1], &[]);
        assert_eq!(found, [4.0, -1.0, 0.0, 8.0, 1.0]);
    }

    #[test]
    fn no_repetition_penalty_makes_a_logit_infinite() {
        let sampling = Sampling {
            repetition_penalty: f32::from_bits(1),
            ..Sampling::default()
        };
        let found = adjusted(sampling, &[], &[0, 1, 2, 3, 4], &[]);
        assert_eq!(found[0], f32::MAX);
        assert!(found.iter().all(|logit| logit.is_finite()), "{found:?}");
    }

    #[test]
    fn a_bias_is_added_to_its_token_alone() {
        let bias = [(3, -100.0), (1, 2.5)];
        let found = adjusted(Sampling::default(), &bias, &[3], &[1]);
        assert_eq!(found, [2.0, 0.5, 0.0, -92.0, 1.0]);
    }

    #[test]
    fn all_together_apply_in_the_documented_order() {
        let sampling = Sampling {
            presence_penalty: 0.5,
            frequency_penalty: 1.0,
            repetition_penalty: 4.0,
            ..Sampling::default()
        };
        // Token 0: 2 / 4 - 2 * 1 - 0.5 + 10. Token 1, in the history alone: -2 * 4. Any other order differs.
        let found = adjusted(sampling, &[(0, 10.0)], &[1], &[0, 0]);
        assert_eq!(found, [8.0, -8.0, 0.0, 8.0, 1.0]);
    }
}
