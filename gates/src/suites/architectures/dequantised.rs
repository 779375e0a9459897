//! Each tensor type means what the published `gguf` package says, on weights of real models: bit for bit, through the
//! kernel that looks up an embedding, on every instruction set of the host.

use kakeya_model::probe::dequantised;
use kakeya_model::{Isa, PanelKind, TensorBytes};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    let case = |kind: PanelKind| {
        let name = name(kind);
        Case::fast(
            format!("weights_are_what_the_gguf_package_makes_of_them.{name}"),
            move |ctx| tensors(ctx, kind),
        )
    };
    PanelKind::ALL.map(case).into()
}

fn name(kind: PanelKind) -> String {
    format!("{:?}", kind.dtype()).to_lowercase()
}

/// What `gates/reference/dequantised.py` has left.
#[derive(Deserialize)]
struct Golden {
    tensors: Vec<Dequantised>,
}

/// A tensor, and the digest of some of its rows.
#[derive(Deserialize)]
struct Dequantised {
    #[serde(flatten)]
    origin: Origin,
    tensor: String,
    dtype: String,
    rows: usize,
    columns: usize,
    every: usize,
    sha256: String,
}

/// Where the blocks are.
#[derive(Deserialize)]
#[serde(untagged)]
enum Origin {
    File { model: String, model_sha256: String },
    Here { bytes: String },
}

fn tensors(ctx: &SuiteContext, kind: PanelKind) -> CaseResult {
    let path = ctx.goldens().join("dequantised.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut compared = 0;
    for tensor in &golden.tensors {
        if tensor.dtype != name(kind) {
            continue;
        }
        let Dequantised { rows, columns, .. } = *tensor;
        match &tensor.origin {
            Origin::File {
                model,
                model_sha256,
            } => {
                let ctx = ctx.with_model(model)?;
                ensure_eq!(ctx.model_sha256(), model_sha256, "the model of the golden");
                let source = ctx.model()?.source();
                compare(tensor, &source.tensor(&tensor.tensor, rows, columns)?, kind)?;
            }
            Origin::Here { bytes } => {
                let bytes = from_hex(bytes)?;
                let blocks = TensorBytes {
                    dtype: kind.dtype(),
                    rows,
                    columns,
                    bytes: &bytes,
                    pairs: 0,
                };
                compare(tensor, &blocks, kind)?;
            }
        }
        compared += 1;
    }
    ensure!(compared > 0, "the golden has no tensor of {kind:?}");
    Ok(())
}

fn compare(golden: &Dequantised, tensor: &TensorBytes<'_>, kind: PanelKind) -> CaseResult {
    ensure_eq!(
        tensor.dtype,
        kind.dtype(),
        "the type of {} in its file",
        golden.tensor
    );
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
        let rows = (0..golden.rows).step_by(golden.every);
        let values = dequantised(tensor, isa, rows).map_err(CaseFailure::violated)?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        ensure_eq!(
            digest,
            golden.sha256,
            "{} values of {}, {kind:?} on {isa}",
            values.len(),
            golden.tensor
        );
    }
    Ok(())
}

fn from_hex(text: &str) -> Result<Vec<u8>, CaseFailure> {
    let byte = |at| {
        let digits = text.get(at..at + 2);
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    bytes.ok_or_else(|| CaseFailure::violated("the golden's bytes are not in hex"))
}
