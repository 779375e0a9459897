//! What the head is to learn.

use candle_core::Tensor;
use candle_nn::ops::log_softmax;

use crate::error::AlignError;
use crate::frozen::normalised;

/// Smooth L1 (Girshick 2015, with its bend at 1) between states as the head reads them: normalised. The mean over all
/// elements.
pub(crate) fn smooth_l1(found: &Tensor, expected: &Tensor) -> Result<Tensor, AlignError> {
    let epsilon = f64::from(kakeya_model::head::HEAD_EPSILON);
    let apart = (normalised(found, epsilon)? - normalised(expected, epsilon)?)?.abs()?;
    let inside = apart.minimum(1.0_f32)?;
    // Half a square up to 1, and from there a line with the slope that it has come to.
    Ok(((inside.sqr()? * 0.5)? + (apart - inside)?)?.mean_all()?)
}

/// The Kullback-Leibler divergence of the head's distribution from the model's, both at `temperature`, times its square
/// (Hinton, Vinyals and Dean 2015, section 2). The mean over rows.
pub(crate) fn divergence(
    found: &Tensor,
    expected: &Tensor,
    temperature: f64,
) -> Result<Tensor, AlignError> {
    let found = log_softmax(&(found / temperature)?, 1)?;
    let expected = log_softmax(&(expected / temperature)?, 1)?.detach();
    let each = (expected.exp()? * (&expected - found)?)?.sum(1)?;
    Ok((each.mean_all()? * (temperature * temperature))?)
}

/// The cross-entropy of tokens under the head's distribution, over the rows with a weight above 0. The mean over these.
pub(crate) fn recovery(
    found: &Tensor,
    tokens: &Tensor,
    weights: &Tensor,
) -> Result<Tensor, AlignError> {
    let each = log_softmax(found, 1)?
        .gather(&tokens.unsqueeze(1)?, 1)?
        .neg()?;
    let weighted = (each.squeeze(1)? * weights)?.sum_all()?;
    Ok((weighted / (weights.sum_all()? + 1e-9)?)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor<const N: usize, const M: usize>(rows: [[f32; M]; N]) -> Tensor {
        Tensor::new(&rows, &Device::Cpu).expect("rows")
    }

    fn value(loss: Tensor) -> f32 {
        loss.to_scalar().expect("one value")
    }

    #[test]
    fn smooth_l1_is_half_a_square_and_then_a_line() {
        // Normalised: (1, 1) and (-1, -1), apart by 2 and beyond the bend; and (1, 1) and (s, 0) with s = sqrt 2.
        let far = smooth_l1(&tensor([[3.0, 3.0]]), &tensor([[-5.0, -5.0]])).expect("a loss");
        assert!((value(far) - 1.5).abs() < 1e-4);
        let near = smooth_l1(&tensor([[3.0, 3.0]]), &tensor([[4.0, 0.0]])).expect("a loss");
        let expected = (0.5 * (2.0_f32.sqrt() - 1.0).powi(2) + 0.5) / 2.0;
        assert!((value(near) - expected).abs() < 1e-4);
        // How long a state is does not matter.
        let same = smooth_l1(&tensor([[1.0, 2.0]]), &tensor([[10.0, 20.0]])).expect("a loss");
        assert!(value(same) < 1e-6);
    }

    #[test]
    fn divergence_is_that_of_the_softened_distributions() {
        let (found, expected) = ([0.3_f32, -1.0, 2.0], [1.0_f32, 0.0, -0.5]);
        let temperature = 2.0_f64;
        let soft = |logits: [f32; 3]| {
            let powers = logits.map(|logit| (f64::from(logit) / temperature).exp());
            powers.map(|power| power / powers.iter().sum::<f64>())
        };
        let (q, p) = (soft(found), soft(expected));
        let by_hand: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        let by_hand = by_hand * temperature * temperature;
        let loss = divergence(&tensor([found]), &tensor([expected]), temperature);
        assert!((f64::from(value(loss.expect("a loss"))) - by_hand).abs() < 1e-5);
        let same = divergence(&tensor([found]), &tensor([found]), temperature);
        assert!(value(same.expect("a loss")).abs() < 1e-6);
    }

    #[test]
    fn recovery_counts_weighted_rows_alone() {
        let found = tensor([[0.0, 0.0], [9.0, -9.0]]);
        let tokens = Tensor::new(&[1_u32, 1], &Device::Cpu).expect("tokens");
        let weights = Tensor::new(&[1.0_f32, 0.0], &Device::Cpu).expect("weights");
        let loss = recovery(&found, &tokens, &weights).expect("a loss");
        assert!((value(loss) - 2.0_f32.ln()).abs() < 1e-5);
    }
}
