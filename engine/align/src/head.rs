//! The head while it is trained: variables, and the formula of [`kakeya_model::head`] on them.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use kakeya_model::head::{HEAD_EPSILON, HeadFile, HeadShape};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::error::AlignError;
use crate::frozen::normalised;

/// The standard deviation of the first weights.
const DEVIATION: f64 = 0.02;
/// Stands in training for a token that the head is not told.
const MASK: &str = "mask";

/// The head's variables, by the names of the head's file.
pub(crate) struct Trainee {
    shape: HeadShape,
    vars: BTreeMap<String, Var>,
}

impl Trainee {
    /// A head with weights drawn from a normal distribution with standard deviation 0.02, cut off at two of them, and norms
    /// of 1.
    pub(crate) fn new(shape: &HeadShape, seed: u64) -> Result<Self, AlignError> {
        shape.check()?;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut vars = BTreeMap::new();
        let mask = (MASK.to_owned(), vec![1, shape.hidden]);
        for (name, dims) in shape.tensors().into_iter().chain([mask]) {
            let count: usize = dims.iter().product();
            let values: Vec<f32> = if dims.len() == 1 {
                vec![1.0; count]
            } else {
                (0..count)
                    .map(|_| (DEVIATION * truncated_normal(&mut generator)) as f32)
                    .collect()
            };
            let tensor = Tensor::from_vec(values, dims, &Device::Cpu)?;
            vars.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(Self {
            shape: shape.clone(),
            vars,
        })
    }

    pub(crate) fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    fn var(&self, name: &str) -> &Tensor {
        self.vars[name].as_tensor()
    }

    /// The states after tokens with these embeddings: `[rows, hidden]` of both to `[rows, hidden]`. Where `masked` is 1 the
    /// head is not told the token.
    pub(crate) fn step(
        &self,
        states: &Tensor,
        embeddings: &Tensor,
        masked: Option<&Tensor>,
    ) -> Result<Tensor, AlignError> {
        let epsilon = f64::from(HEAD_EPSILON);
        let known = normalised(embeddings, epsilon)?;
        let known = match masked {
            None => known,
            Some(masked) => {
                let mask = normalised(self.var(MASK), epsilon)?;
                let kept = known.broadcast_mul(&masked.affine(-1.0, 1.0)?)?;
                (kept + masked.broadcast_mul(&mask)?)?
            }
        };
        let linear = |x: &Tensor, name: &str| x.matmul(&self.var(name).t()?);
        let mut own =
            (linear(&normalised(states, epsilon)?, "state_in")? + linear(&known, "token_in")?)?;
        for index in 0..self.shape.blocks {
            let named = |name: &str| format!("blocks.{index}.{name}");
            let x = normalised(&own, epsilon)?.broadcast_mul(self.var(&named("norm")))?;
            let gate = linear(&x, &named("gate"))?.silu()?;
            let wide = (gate * linear(&x, &named("up"))?)?;
            own = (own + linear(&wide, &named("down"))?)?;
        }
        let own = normalised(&own, epsilon)?.broadcast_mul(self.var("norm"))?;
        Ok(linear(&own, "state_out")?)
    }

    /// The head as a file has it.
    pub(crate) fn to_file(
        &self,
        model_sha256: &str,
        tokens: &[u32],
    ) -> Result<HeadFile, AlignError> {
        let mut tensors = BTreeMap::new();
        for (name, var) in &self.vars {
            if name != MASK {
                tensors.insert(name.clone(), var.flatten_all()?.to_vec1()?);
            }
        }
        let (shape, tokens) = (self.shape.clone(), tokens.to_vec());
        Ok(HeadFile::new(
            model_sha256.to_owned(),
            shape,
            tensors,
            tokens,
        )?)
    }
}

/// A draw from the standard normal distribution within two standard deviations: drawn again until it is (Box and Muller
/// 1958 for the draws).
fn truncated_normal(generator: &mut ChaCha8Rng) -> f64 {
    let mut uniform = || ((generator.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    loop {
        let radius = (-2.0 * libm::log(uniform())).sqrt();
        let value = radius * libm::cos(std::f64::consts::TAU * uniform());
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn shape() -> HeadShape {
        HeadShape {
            hidden: 64,
            width: 32,
            wide: 96,
            blocks: 2,
            drafted: 5,
        }
    }

    #[test]
    fn first_weights_are_a_truncated_normal_and_the_seed_s() {
        let values = |seed| -> Vec<f32> {
            let trainee = Trainee::new(&shape(), seed).expect("made");
            let var = trainee.var("blocks.0.up").flatten_all().expect("flat");
            var.to_vec1().expect("values")
        };
        let one = values(1);
        assert_eq!(one, values(1));
        assert_ne!(one, values(2));
        assert!(one.iter().all(|value| value.abs() <= 0.04));
        let mean = one.iter().sum::<f32>() / one.len() as f32;
        let square = one.iter().map(|value| value * value).sum::<f32>() / one.len() as f32;
        // The standard deviation of a normal distribution cut at two of its own is 0.88 of it.
        assert!(mean.abs() < 2e-3, "{mean}");
        assert!((square.sqrt() - 0.0176).abs() < 1e-3, "{}", square.sqrt());
    }

    #[test]
    fn bridges_have_the_widths_on_both_sides() {
        let trainee = Trainee::new(&shape(), 1).expect("made");
        assert_eq!(trainee.var("state_in").dims(), [32, 64]);
        assert_eq!(trainee.var("token_in").dims(), [32, 64]);
        assert_eq!(trainee.var("state_out").dims(), [64, 32]);
        let rows = Tensor::ones((3, 64), DType::F32, &Device::Cpu).expect("ones");
        let after = trainee.step(&rows, &rows, None).expect("a step");
        assert_eq!(after.dims(), [3, 64]);
    }

    #[test]
    fn a_masked_token_does_not_show() {
        let trainee = Trainee::new(&shape(), 1).expect("made");
        let rows = |value: f32| {
            let values: Vec<f32> = (0..128).map(|at| value + (at % 7) as f32).collect();
            Tensor::from_vec(values, (2, 64), &Device::Cpu).expect("rows")
        };
        let masked = Tensor::from_vec(vec![1.0_f32, 0.0], (2, 1), &Device::Cpu).expect("a mask");
        let after = |embeddings: &Tensor| -> Vec<Vec<f32>> {
            let after = trainee.step(&rows(1.0), embeddings, Some(&masked));
            after.expect("a step").to_vec2().expect("values")
        };
        let (one, other) = (after(&rows(1.0)), after(&rows(-3.0)));
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1], other[1]);
    }
}
