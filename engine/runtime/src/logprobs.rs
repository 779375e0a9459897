//! How likely the model thought a token, and which it thought the likeliest.

use kakeya_core::{TokenLogprob, TokenLogprobs};

/// The log-probability of `chosen` and of the `top` likeliest tokens: the log-softmax of `logits`, natural
/// logarithms, in binary64 with `libm`'s `exp` and `log`, summed in ascending order of the token ids. So the same
/// logits have the same result on every platform.
///
/// # Panics
/// When `logits` is empty, or `chosen` is outside it.
#[must_use]
pub fn token_logprobs(logits: &[f32], chosen: u32, top: usize) -> TokenLogprobs {
    let peak = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|logit| libm::exp(f64::from(*logit) - peak))
        .sum();
    let log_sum = libm::log(sum);
    let logprob = |token: u32| f64::from(logits[token as usize]) - peak - log_sum;
    TokenLogprobs {
        logprob: logprob(chosen),
        top: likeliest(logits, top)
            .into_iter()
            .map(|token| TokenLogprob {
                token,
                logprob: logprob(token),
            })
            .collect(),
    }
}

/// The `count` tokens of the largest logits, largest first, the lowest id first among equals. `count` is small, so
/// they are inserted into a short list rather than sorted.
fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let mut top: Vec<u32> = Vec::with_capacity(count.min(logits.len()));
    for (id, logit) in logits.iter().enumerate() {
        // Most tokens are no larger than the last of a full list, and end at this one comparison.
        let full = top.len() == count;
        if full
            && top
                .last()
                .is_none_or(|last| *logit <= logits[*last as usize])
        {
            continue;
        }
        top.truncate(count - usize::from(full));
        let at = top.partition_point(|other| logits[*other as usize] >= *logit);
        top.insert(at, id as u32);
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::greedy;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-7
    }

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        // Probabilities 1, 2 and 5 of 8, whatever is added to all logits.
        for shift in [0.0, -30.0, 80.0] {
            let logits = [shift, shift + (2.0f32).ln(), shift + (5.0f32).ln()];
            let found = token_logprobs(&logits, 1, 3);
            let close = |left: f64, right: f64| (left - right).abs() < 1e-5;
            assert!(close(found.logprob, 0.25f64.ln()), "{found:?}");
            let expected = [(2, 0.625f64), (1, 0.25), (0, 0.125)];
            for (entry, (token, probability)) in found.top.iter().zip(expected) {
                assert_eq!(entry.token, token, "{found:?}");
                assert!(close(entry.logprob, probability.ln()), "{found:?}");
            }
        }
    }

    #[test]
    fn probabilities_of_all_tokens_add_up_to_1() {
        let logits: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.7).sin() * 20.0).collect();
        let found = token_logprobs(&logits, 17, logits.len());
        assert_eq!(found.top.len(), logits.len());
        let sum: f64 = found.top.iter().map(|entry| entry.logprob.exp()).sum();
        assert!(close(sum, 1.0), "{sum}");
        let own = found.top.iter().find(|entry| entry.token == 17);
        assert_eq!(own.map(|entry| entry.logprob), Some(found.logprob));
    }

    #[test]
    fn the_top_is_in_falling_order_and_the_lower_id_is_first_among_equals() {
        let logits = [1.0, 4.0, -0.0, 4.0, 0.0, 4.0, 1.0];
        let top = |count| -> Vec<u32> {
            let found = token_logprobs(&logits, 0, count);
            found.top.iter().map(|entry| entry.token).collect()
        };
        assert_eq!(top(7), [1, 3, 5, 0, 6, 2, 4]);
        for count in 0..7 {
            assert_eq!(top(count), top(7)[..count]);
        }
        assert_eq!(
            top(9),
            top(7),
            "there are no more tokens than the model has"
        );
        assert_eq!(top(1), [greedy(&logits)]);
    }

    #[test]
    fn a_token_that_cannot_come_has_no_probability_and_harms_no_other() {
        let logits = [f32::NEG_INFINITY, 3.0, 3.0];
        let found = token_logprobs(&logits, 0, 2);
        assert_eq!(found.logprob, f64::NEG_INFINITY);
        assert!(
            found
                .top
                .iter()
                .all(|entry| close(entry.logprob, 0.5f64.ln()))
        );
    }
}
