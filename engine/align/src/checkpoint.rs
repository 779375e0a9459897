//! A training as it stands, in one file that is there wholly or not at all.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use kakeya_model::head::HeadShape;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::AlignError;
use crate::head::Trainee;
use crate::optimizer::AdamW;
use crate::train::{Point, TrainSettings, named};

const KEY: &str = "kakeya.training";

/// What a training is one of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) settings: TrainSettings,
    pub(crate) model_sha256: String,
    /// SHA-256 of the trajectories that are learnt from: collecting more makes another training of it.
    pub(crate) data_sha256: String,
    pub(crate) shape: HeadShape,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    identity: Identity,
    steps: u64,
    curve: Vec<Point>,
}

/// Writes a checkpoint in the place of the one before.
pub(crate) fn write(
    path: &Path,
    identity: &Identity,
    trainee: &Trainee,
    optimizer: &AdamW,
    curve: &[Point],
) -> Result<(), AlignError> {
    let about = About {
        identity: identity.clone(),
        steps: optimizer.steps,
        curve: curve.to_vec(),
    };
    let about = serde_json::to_string(&about).expect("plain values");
    let mut data = Vec::new();
    for (name, tensor) in named(trainee, optimizer) {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        data.push((name, tensor.dims().to_vec(), bytes));
    }
    let views = data.iter().map(|(name, dims, bytes)| {
        let view = TensorView::new(Dtype::F32, dims.clone(), bytes);
        (name.as_str(), view.expect("the bytes of the shape"))
    });
    let metadata = HashMap::from([(KEY.to_owned(), about)]);
    let bytes = safetensors::serialize(views, Some(metadata)).expect("tensors of known sizes");
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).map_err(AlignError::file(&part))?;
    std::fs::rename(&part, path).map_err(AlignError::file(path))
}

/// Puts a training where its checkpoint was. Gives the curve up to there.
pub(crate) fn read(
    path: &Path,
    identity: &Identity,
    trainee: &Trainee,
    optimizer: &mut AdamW,
) -> Result<Vec<Point>, AlignError> {
    let bytes = std::fs::read(path).map_err(AlignError::file(path))?;
    let other = |problem: String| AlignError::OtherTraining {
        path: path.to_owned(),
        problem,
    };
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|error| other(error.to_string()))?;
    let about = metadata
        .metadata()
        .as_ref()
        .and_then(|about| about.get(KEY));
    let about = about.ok_or_else(|| other(format!("its metadata has no `{KEY}`")))?;
    let about: About = serde_json::from_str(about).map_err(|error| other(error.to_string()))?;
    if about.identity != *identity {
        return Err(other(difference(&about.identity, identity)));
    }
    let all = SafeTensors::deserialize(&bytes).map_err(|error| other(error.to_string()))?;
    let tensor = |name: String, like: &Tensor| -> Result<Option<Tensor>, AlignError> {
        let Ok(view) = all.tensor(&name) else {
            return Ok(None);
        };
        if view.dtype() != Dtype::F32 || view.shape() != like.dims() {
            return Err(other(format!(
                "`{name}` is {:?} {:?}",
                view.dtype(),
                view.shape()
            )));
        }
        let words = view.data().as_chunks::<4>().0;
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        Ok(Some(Tensor::from_vec(values, like.dims(), &Device::Cpu)?))
    };
    for (name, var) in trainee.vars() {
        let value = tensor(format!("value.{name}"), var)?;
        var.set(&value.ok_or_else(|| other(format!("`value.{name}` is missing")))?)?;
        let mean = tensor(format!("mean.{name}"), var)?;
        if let Some(moments) = mean.zip(tensor(format!("square.{name}"), var)?) {
            optimizer.moments.insert(name.clone(), moments);
        }
    }
    optimizer.steps = about.steps;
    Ok(about.curve)
}

/// The first setting that differs, in words.
fn difference(found: &Identity, expected: &Identity) -> String {
    let fields = |identity: &Identity| {
        let value = serde_json::to_value(identity).unwrap_or_default();
        let mut flat = Vec::new();
        flatten("", &value, &mut flat);
        flat
    };
    let both = fields(found).into_iter().zip(fields(expected));
    both.into_iter()
        .find(|(found, expected)| found != expected)
        .map_or_else(String::new, |((name, found), (_, expected))| {
            format!("{name} is {found} there, and {expected} here")
        })
}

fn flatten(prefix: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let name = match prefix {
                    "" | "settings" => name.clone(),
                    _ => format!("{prefix}.{name}"),
                };
                flatten(&name, value, out);
            }
        }
        other => out.push((prefix.to_owned(), other.to_string())),
    }
}
