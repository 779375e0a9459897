//! A model to begin with: two layers that compute exclusive or, from weights in a file. Put your engine in its place.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

static PASSES: AtomicU64 = AtomicU64::new(0);

/// How many forward passes this process has made.
pub fn passes() -> u64 {
    PASSES.load(Ordering::Relaxed)
}

/// The weights.
#[derive(Deserialize)]
pub struct Model {
    hidden: Vec<Neuron>,
    output: Neuron,
}

#[derive(Deserialize)]
struct Neuron {
    weights: Vec<f32>,
    bias: f32,
}

impl Neuron {
    fn sum(&self, inputs: &[f32]) -> f32 {
        let products = self.weights.iter().zip(inputs).map(|(weight, input)| weight * input);
        products.fold(self.bias, |sum, product| sum + product)
    }
}

impl Model {
    /// Reads the weights.
    pub fn load(path: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// One forward pass over any number of rows of two inputs. Gives one output a row.
    pub fn forward(&self, rows: &[[f32; 2]]) -> Vec<f32> {
        PASSES.fetch_add(1, Ordering::Relaxed);
        let output = |row: &[f32; 2]| {
            let hidden = self.hidden.iter().map(|neuron| neuron.sum(row).max(0.0));
            self.output.sum(&Vec::from_iter(hidden))
        };
        rows.iter().map(output).collect()
    }
}
