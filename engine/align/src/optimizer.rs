//! AdamW (Loshchilov and Hutter 2019, algorithm 2), with its moments where a checkpoint can have them.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::error::AlignError;

const BETAS: (f64, f64) = (0.9, 0.95);
const EPSILON: f64 = 1e-8;

/// The moments of each variable, and the steps made.
#[derive(Default)]
pub(crate) struct AdamW {
    pub(crate) moments: BTreeMap<String, (Tensor, Tensor)>,
    pub(crate) steps: u64,
}

/// How a step is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepSize {
    pub(crate) learning_rate: f64,
    /// Of matrices; vectors do not decay.
    pub(crate) weight_decay: f64,
    /// The largest norm that the gradients may have together.
    pub(crate) clip: f64,
}

impl AdamW {
    /// Makes a step. Gives the norm that the gradients had before they were clipped.
    pub(crate) fn step(
        &mut self,
        vars: &BTreeMap<String, Var>,
        gradients: &GradStore,
        size: StepSize,
    ) -> Result<f64, AlignError> {
        let mut square = 0.0;
        for var in vars.values() {
            if let Some(gradient) = gradients.get(var) {
                square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = square.sqrt();
        let scale = if norm > size.clip {
            size.clip / norm
        } else {
            1.0
        };
        self.steps += 1;
        let (first, second) = BETAS;
        let count = self.steps as i32;
        let (unbias_first, unbias_second) = (
            1.0 / (1.0 - first.powi(count)),
            1.0 / (1.0 - second.powi(count)),
        );
        for (name, var) in vars {
            let Some(gradient) = gradients.get(var) else {
                continue;
            };
            let gradient = (gradient * scale)?;
            let zero = || var.zeros_like();
            let (mean, square) = match self.moments.remove(name) {
                Some(moments) => moments,
                None => (zero()?, zero()?),
            };
            let mean = ((mean * first)? + (&gradient * (1.0 - first))?)?;
            let square = ((square * second)? + (gradient.sqr()? * (1.0 - second))?)?;
            let direction =
                ((&mean * unbias_first)? / ((&square * unbias_second)?.sqrt()? + EPSILON)?)?;
            let decay = if var.dims().len() > 1 {
                size.learning_rate * size.weight_decay
            } else {
                0.0
            };
            let value = ((var.as_tensor() * (1.0 - decay))? - (direction * size.learning_rate)?)?;
            var.set(&value)?;
            self.moments
                .insert(name.clone(), (mean.detach(), square.detach()));
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const SIZE: StepSize = StepSize {
        learning_rate: 0.1,
        weight_decay: 0.5,
        clip: 1e9,
    };

    /// One variable of one value, and its gradient 2 (x - 3).
    fn stepped(dims: &[usize], steps: usize, size: StepSize) -> (f64, f64) {
        let start = Tensor::full(1.0_f32, dims, &Device::Cpu).expect("a value");
        let vars = BTreeMap::from([(
            "x".to_owned(),
            Var::from_tensor(&start).expect("a variable"),
        )]);
        let mut optimizer = AdamW::default();
        let mut norm = 0.0;
        for _ in 0..steps {
            let apart = (vars["x"].as_tensor() - 3.0).expect("apart");
            let loss = apart
                .sqr()
                .and_then(|square| square.sum_all())
                .expect("a loss");
            let gradients = loss.backward().expect("gradients");
            norm = optimizer.step(&vars, &gradients, size).expect("a step");
        }
        let value = vars["x"]
            .flatten_all()
            .and_then(|flat| flat.to_vec1::<f32>());
        (f64::from(value.expect("a value")[0]), norm)
    }

    /// The same by the formulas of the paper, in f64.
    fn by_hand(steps: i32, decays: bool, size: StepSize) -> f64 {
        let (mut x, mut m, mut v) = (1.0_f64, 0.0, 0.0);
        for step in 1..=steps {
            let gradient: f64 = 2.0 * (x - 3.0);
            let gradient = gradient * (size.clip / gradient.abs()).min(1.0);
            m = BETAS.0 * m + (1.0 - BETAS.0) * gradient;
            v = BETAS.1 * v + (1.0 - BETAS.1) * gradient * gradient;
            let (m_hat, v_hat) = (
                m / (1.0 - BETAS.0.powi(step)),
                v / (1.0 - BETAS.1.powi(step)),
            );
            let decay = if decays { size.weight_decay * x } else { 0.0 };
            x -= size.learning_rate * (m_hat / (v_hat.sqrt() + EPSILON) + decay);
        }
        x
    }

    #[test]
    fn steps_are_those_of_the_paper_and_vectors_do_not_decay() {
        for steps in [1, 2, 10] {
            let (matrix, _) = stepped(&[1, 1], steps, SIZE);
            assert!((matrix - by_hand(steps as i32, true, SIZE)).abs() < 1e-5);
            let (vector, _) = stepped(&[1], steps, SIZE);
            assert!((vector - by_hand(steps as i32, false, SIZE)).abs() < 1e-5);
        }
    }

    #[test]
    fn gradients_are_clipped_together_and_their_norm_is_told() {
        let clipped = StepSize { clip: 0.5, ..SIZE };
        let (value, norm) = stepped(&[1], 3, clipped);
        assert!((value - by_hand(3, false, clipped)).abs() < 1e-5);
        assert!(norm > 3.0, "{norm}");
    }
}
