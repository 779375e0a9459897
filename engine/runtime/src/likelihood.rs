//! How well logits predict a token.

/// `-ln softmax(logits)[token]` in nats, summed in double precision.
///
/// # Panics
/// When `token` is outside the vocabulary.
#[must_use]
pub fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|logit| (f64::from(*logit) - largest).exp())
        .sum();
    sum.ln() + largest - f64::from(logits[token as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_minus_the_log_of_the_probability_however_large_the_logits() {
        let logits = [1000.0, 1000.0 + 3.0_f32.ln(), -1e30];
        assert!((negative_log_likelihood(&logits, 0) - 4.0_f64.ln()).abs() < 1e-4);
        assert!((negative_log_likelihood(&logits, 1) - (4.0_f64 / 3.0).ln()).abs() < 1e-4);
        assert!(negative_log_likelihood(&logits, 2) > 1e29);
        assert!((negative_log_likelihood(&[2.5; 64], 7) - 64.0_f64.ln()).abs() < 1e-9);
    }
}
