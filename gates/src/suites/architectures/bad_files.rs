//! Snapshots that are not what they should be: each is refused by an error that names the file and what is wrong.

use std::path::Path;

use kakeya_model::Model;
use serde_json::{Value, json};

use super::small;
use crate::checkpoint::Checkpoint;
use crate::context::SuiteContext;
use crate::ensure;
use crate::suite::Case;
use kakeya_suite::{CaseFailure, CaseResult};

const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("shards_that_are_not_the_index_s_are_refused", shards),
        Case::fast(
            "configurations_that_cannot_be_run_are_refused",
            configurations,
        ),
        Case::fast("damaged_safetensors_are_refused", damaged),
    ]
}

/// Changes a whole checkpoint in a folder, and requires that loading it says all of `parts`.
fn refused(
    ctx: &SuiteContext,
    name: &str,
    change: impl FnOnce(&Path) -> CaseResult,
    parts: &[&str],
) -> CaseResult {
    let folder = ctx.scratch()?;
    small(ctx, name)?.write(&folder)?;
    Model::load(&folder)?;
    change(&folder)?;
    let Err(error) = Model::load(&folder) else {
        return Err(CaseFailure::violated(format!(
            "it was loaded, and should say {parts:?}"
        )));
    };
    let message = error.to_string();
    for part in parts.iter().chain(&[folder.to_str().unwrap_or_default()]) {
        ensure!(
            message.contains(part),
            "the error does not say {part:?}: {message}"
        );
    }
    Ok(())
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) -> CaseResult {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    change(&mut value);
    std::fs::write(path, serde_json::to_vec(&value)?)?;
    Ok(())
}

fn shards(ctx: &SuiteContext) -> CaseResult {
    const NAME: &str = "llama-grouped-sharded";
    let index = |folder: &Path| folder.join("model.safetensors.index.json");
    refused(
        ctx,
        NAME,
        |folder| Ok(std::fs::remove_file(folder.join(SHARDS[1]))?),
        &["cannot read", SHARDS[1]],
    )?;
    refused(
        ctx,
        NAME,
        |folder| {
            let (a, b) = (folder.join(SHARDS[0]), folder.join(SHARDS[2]));
            let aside = folder.join("aside");
            std::fs::rename(&a, &aside)?;
            std::fs::rename(&b, &a)?;
            Ok(std::fs::rename(&aside, &b)?)
        },
        &[SHARDS[0], "does not hold the tensor", "swapped"],
    )?;
    refused(
        ctx,
        NAME,
        |folder| {
            edit(&index(folder), |value| {
                value["weight_map"]["model.layers.9.x"] = json!(SHARDS[0])
            })
        },
        &[SHARDS[0], "does not hold the tensor model.layers.9.x"],
    )?;
    refused(
        ctx,
        NAME,
        |folder| {
            edit(&index(folder), |value| {
                if let Some(map) = value["weight_map"].as_object_mut() {
                    map.remove("model.norm.weight");
                }
            })
        },
        &["holds the tensor model.norm.weight", "does not know it"],
    )?;
    refused(
        ctx,
        NAME,
        |folder| {
            edit(&index(folder), |value| {
                value["weight_map"]["model.norm.weight"] = json!("../x")
            })
        },
        &[
            "weight_map places model.norm.weight in \"../x\"",
            "beside the index",
        ],
    )?;
    refused(
        ctx,
        NAME,
        |folder| Ok(std::fs::write(index(folder), "{\"weight_map\": [")?),
        &["it is not JSON"],
    )
}

fn configurations(ctx: &SuiteContext) -> CaseResult {
    let config = |folder: &Path| folder.join("config.json");
    for (name, key, value, parts) in [
        (
            "qwen3-tied",
            "architectures",
            json!(["NewForCausalLM"]),
            &["NewForCausalLM", "Qwen3ForCausalLM"][..],
        ),
        (
            "qwen3-tied",
            "architectures",
            json!("Qwen3"),
            &["architectures", "a list of one class name"],
        ),
        (
            "qwen3-tied",
            "hidden_size",
            json!(128),
            &["has shape [96]", "shape [128]"],
        ),
        (
            "qwen3-tied",
            "hidden_size",
            json!(100),
            &["hidden_size is 100", "a multiple of 32"],
        ),
        (
            "qwen3-tied",
            "hidden_size",
            json!(-1),
            &["hidden_size is -1"],
        ),
        (
            "qwen3-tied",
            "hidden_size",
            json!(1_u64 << 60),
            &["hidden_size is 1152921504606846976"],
        ),
        (
            "qwen3-tied",
            "num_hidden_layers",
            json!(null),
            &["num_hidden_layers is missing"],
        ),
        (
            "qwen3-tied",
            "num_hidden_layers",
            json!(1),
            &["model.layers.1.", "is present"],
        ),
        (
            "qwen3-tied",
            "num_hidden_layers",
            json!(3),
            &["model.layers.2.", "is missing"],
        ),
        (
            "qwen3-tied",
            "num_key_value_heads",
            json!(4),
            &["num_key_value_heads is 4", "a divisor of the 6"],
        ),
        (
            "qwen3-tied",
            "hidden_act",
            json!("relu"),
            &["hidden_act is \"relu\"", "silu"],
        ),
        (
            "qwen3-tied",
            "use_sliding_window",
            json!(true),
            &["use_sliding_window"],
        ),
        (
            "qwen3-tied",
            "rms_norm_eps",
            json!("small"),
            &["rms_norm_eps is \"small\""],
        ),
        (
            "qwen3-tied",
            "rms_norm_eps",
            json!(1e-60),
            &["rms_norm_eps is 1e-60", "a 32-bit float"],
        ),
        (
            "llama-yarn",
            "rope_parameters",
            json!({ "rope_type": "default", "rope_theta": 1e300 }),
            &["rope_parameters", "rope_theta 1e", "a 32-bit float"],
        ),
        (
            "llama-yarn",
            "rope_parameters",
            json!({ "rope_type": "dynamic", "factor": 2.0 }),
            &["rope_parameters is of type \"dynamic\"", "yarn"],
        ),
        (
            "llama-yarn",
            "rope_parameters",
            json!({ "rope_type": "yarn" }),
            &["rope_parameters is without factor"],
        ),
        (
            "gemma3",
            "layer_types",
            json!(["full_attention"]),
            &["layer_types is a list of 1", "7 layers"],
        ),
        (
            "gemma3",
            "sliding_window",
            json!(0),
            &["sliding_window is 0"],
        ),
        (
            "gemma3",
            "final_logit_softcapping",
            json!(30.0),
            &["final_logit_softcapping is 30"],
        ),
    ] {
        refused(
            ctx,
            name,
            |folder| edit(&config(folder), |all| all[key] = value),
            parts,
        )?;
    }
    refused(
        ctx,
        "qwen3-tied",
        |folder| Ok(std::fs::write(config(folder), vec![b'['; 2 << 20])?),
        &["config.json", "more than 1048576 bytes"],
    )?;
    refused(
        ctx,
        "qwen3-tied",
        |folder| Ok(std::fs::write(config(folder), "[".repeat(100_000))?),
        &["config.json", "it is not JSON"],
    )?;
    refused(
        ctx,
        "qwen3-tied",
        |folder| Ok(std::fs::remove_file(config(folder))?),
        &["cannot read", "config.json"],
    )
}

fn damaged(ctx: &SuiteContext) -> CaseResult {
    let weights = |folder: &Path| folder.join("model.safetensors");
    let bytes = |change: fn(&mut Vec<u8>)| {
        move |folder: &Path| {
            let path = weights(folder);
            let mut all = std::fs::read(&path)?;
            change(&mut all);
            Ok(std::fs::write(&path, all)?)
        }
    };
    for (change, parts) in [
        (
            (|all| all.truncate(all.len() - 1)) as fn(&mut Vec<u8>),
            &["header is damaged"][..],
        ),
        (|all| all.truncate(100), &["header is damaged"]),
        (|all| all.clear(), &["model.safetensors"]),
        // A header of 2^60 bytes.
        (|all| all[7] = 0x10, &["header is damaged"]),
        (|all| all.extend_from_slice(b"more"), &["header is damaged"]),
        // The last weight of the last tensor becomes infinite.
        (
            |all| {
                let end = all.len();
                all[end - 2..].copy_from_slice(&[0x80, 0x7f]);
            },
            &["finite weights"],
        ),
    ] {
        refused(ctx, "qwen3-tied", bytes(change), parts)?;
    }
    let named = |change: fn(&mut Checkpoint)| {
        move |folder: &Path| {
            let mut checkpoint = small(ctx, "qwen3-tied")?;
            change(&mut checkpoint);
            checkpoint.write(folder)
        }
    };
    refused(
        ctx,
        "qwen3-tied",
        named(|checkpoint| {
            drop(
                checkpoint
                    .tensors
                    .insert("model.layers.0.mlp.experts.0.w".into(), vec![32, 32]),
            )
        }),
        &["experts", "is present", "does not know what to do with it"],
    )?;
    refused(
        ctx,
        "qwen3-tied",
        named(|checkpoint| {
            drop(
                checkpoint
                    .tensors
                    .insert("model.norm.weight".into(), vec![4, 24]),
            )
        }),
        &["model.norm.weight has shape [4, 24]", "shape [96]"],
    )?;
    refused(
        ctx,
        "qwen3-tied",
        named(|checkpoint| {
            drop(
                checkpoint
                    .tensors
                    .remove("model.layers.1.self_attn.q_norm.weight"),
            )
        }),
        &["model.layers.1.self_attn.q_norm.weight is missing"],
    )
}
