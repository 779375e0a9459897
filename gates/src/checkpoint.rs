//! Checkpoints whose weights are pseudo-random numbers of a tensor's name, for the architectures and shapes of which no
//! small real model can be had.
//!
//! `gates/reference/random_checkpoints.py` makes the same weights bit for bit, runs them in `transformers`, and leaves
//! the configuration, the list of tensors and the logits in `gates/goldens`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use kakeya_suite::CaseFailure;

/// The checkpoints of one golden file.
#[derive(Debug, Deserialize)]
struct Golden {
    checkpoints: BTreeMap<String, Checkpoint>,
}

/// One checkpoint, and what `transformers` makes of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Checkpoint {
    /// Its config.json.
    pub config: Value,
    /// The type of every tensor: F32, F16 or BF16.
    pub dtype: String,
    /// Files that the tensors are spread over.
    pub shards: usize,
    /// Every tensor's shape.
    pub tensors: BTreeMap<String, Vec<usize>>,
    /// The input.
    pub tokens: Vec<u32>,
    /// The ids whose logits were kept.
    pub sampled: Vec<usize>,
    /// Their logits at each position.
    pub logits: Vec<Vec<f32>>,
    /// The id of the largest logit at the last position.
    pub largest: usize,
}

impl Checkpoint {
    /// The checkpoint of that name in a golden file.
    ///
    /// # Errors
    /// When the file cannot be read or does not have it.
    pub fn read(file: &Path, name: &str) -> Result<Self, CaseFailure> {
        let mut golden: Golden = serde_json::from_slice(&std::fs::read(file)?)?;
        golden.checkpoints.remove(name).ok_or_else(|| {
            CaseFailure::violated(format!("{} has no checkpoint {name}", file.display()))
        })
    }

    /// The values of a tensor before they are rounded to the checkpoint's type.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<f32> {
        let shape = &self.tensors[name];
        let columns = shape.last().copied().unwrap_or(1);
        let (scale, offset) = if name.ends_with("norm.weight") {
            let gemma = self.config["model_type"] == "gemma3_text";
            (0.1, if gemma { 0.0 } else { 1.0 })
        } else if name.ends_with(".bias") {
            (0.1, 0.0)
        } else if name.ends_with("embed_tokens.weight") {
            (0.25, 0.0)
        } else {
            ((3.0 / columns as f64).sqrt() as f32, 0.0)
        };
        let seed = Sha256::digest(name.as_bytes());
        let seed = u64::from_le_bytes(std::array::from_fn(|i| seed[i]));
        (1..=shape.iter().product::<usize>() as u64)
            .map(|index| {
                let unit = (splitmix(seed, index) >> 40) as f32;
                let value = (unit * 2.0f32.powi(-23) - 1.0) * scale;
                if offset == 0.0 { value } else { value + offset }
            })
            .collect()
    }

    /// Writes config.json and the weights, in as many files as the checkpoint has, to a folder.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, folder: &Path) -> Result<(), CaseFailure> {
        std::fs::write(
            folder.join("config.json"),
            serde_json::to_vec_pretty(&self.config)?,
        )?;
        let mut files: Vec<BTreeMap<&str, Vec<u8>>> = vec![BTreeMap::new(); self.shards];
        for (index, name) in self.tensors.keys().enumerate() {
            files[index % self.shards].insert(name, self.bytes(name));
        }
        let mut map = serde_json::Map::new();
        for (index, tensors) in files.iter().enumerate() {
            let file = match self.shards {
                1 => "model.safetensors".to_owned(),
                shards => format!("model-{:05}-of-{shards:05}.safetensors", index + 1),
            };
            let views = tensors.iter().map(|(name, bytes)| {
                let view = TensorView::new(self.dtype(), self.tensors[*name].clone(), bytes);
                view.map(|view| (*name, view))
            });
            let views: Vec<_> = views.collect::<Result<_, _>>()?;
            safetensors::serialize_to_file(views, None, &folder.join(&file))?;
            map.extend(tensors.keys().map(|name| ((*name).to_owned(), json!(file))));
        }
        if self.shards > 1 {
            let index = json!({ "metadata": {}, "weight_map": map });
            std::fs::write(self.index(folder), serde_json::to_vec(&index)?)?;
        }
        Ok(())
    }

    /// Where [`Checkpoint::write`] puts the index of several files.
    #[must_use]
    pub fn index(&self, folder: &Path) -> PathBuf {
        folder.join("model.safetensors.index.json")
    }

    fn dtype(&self) -> Dtype {
        match self.dtype.as_str() {
            "F16" => Dtype::F16,
            "BF16" => Dtype::BF16,
            _ => Dtype::F32,
        }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let values = self.values(name).into_iter();
        match self.dtype() {
            Dtype::F16 => values
                .flat_map(|value| f16::from_f32(value).to_le_bytes())
                .collect(),
            Dtype::BF16 => values
                .flat_map(|value| bf16::from_f32(value).to_le_bytes())
                .collect(),
            _ => values.flat_map(f32::to_le_bytes).collect(),
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014) of a counter.
fn splitmix(seed: u64, index: u64) -> u64 {
    let x = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
