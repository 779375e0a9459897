//! One golden digest on every instruction set.
//!
//! `inv3` compares the instruction sets of one host with each other. Here each is compared with a committed digest, so
//! that hosts that never meet are compared too: NEON's, which the mac-m4 platform stands on, under emulation.

use std::process::Command;
use std::time::Duration;

use kakeya_core::{CacheConfig, KvElement, PositionPolicy, Window};
use kakeya_model::{Isa, NUMERICS_VERSION};
use kakeya_runtime::digest::LogitsDigest;
use serde::Deserialize;

use super::SMOLLM2;
use super::inv3::{Setting, Trace};
use crate::context::SuiteContext;
use crate::suite::{Case, Suite, on_model};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult, ensure_same_digest};

/// The suite.
pub fn suite() -> Suite {
    Suite::new("isa", "one golden digest on every instruction set")
        .timeout(Duration::from_secs(120))
        // Emulation, and a build for it.
        .full_timeout(Duration::from_secs(3600))
        .case(Case::fast(
            "every_instruction_set_of_this_host_has_the_golden_digest",
            of_this_host,
        ))
        .case(Case::full(
            "neon_has_the_golden_digest_under_emulation",
            neon,
        ))
        .within(on_model(SMOLLM2))
}

/// `goldens/digest-smollm2-135m.json`.
#[derive(Deserialize)]
struct Golden {
    numerics_version: u32,
    model_sha256: String,
    tokens: Vec<u32>,
    sink: u32,
    window: u32,
    chunks: Vec<usize>,
    logits_sha256: String,
    kv_sha256: String,
}

/// What `kakeya digest` prints, of which this is compared.
#[derive(Deserialize)]
struct Digest {
    logits_sha256: String,
    kv_sha256: String,
    isa: String,
}

impl Golden {
    fn read(ctx: &SuiteContext) -> Result<Self, CaseFailure> {
        let path = ctx.goldens().join("digest-smollm2-135m.json");
        let golden: Self = serde_json::from_slice(&std::fs::read(path)?)?;
        ensure_eq!(
            golden.model_sha256,
            ctx.model_sha256(),
            "the golden digest is of this model file"
        );
        ensure_eq!(
            golden.numerics_version,
            NUMERICS_VERSION,
            "the version of the golden digest"
        );
        Ok(golden)
    }

    fn ensure_is(&self, found: &Digest) -> CaseResult {
        let isa = &found.isa;
        ensure_same_digest(
            &format!("logits on {isa}, and the committed"),
            &found.logits_sha256,
            &self.logits_sha256,
        )?;
        ensure_same_digest(
            &format!("KV on {isa}, and the committed"),
            &found.kv_sha256,
            &self.kv_sha256,
        )
    }
}

fn of_this_host(ctx: &SuiteContext) -> CaseResult {
    golden_on(ctx, Isa::EVERY.into_iter().filter(|isa| isa.is_supported()))
}

/// What this run computes on has the golden digest: a processor's, or a GPU's.
pub(super) fn of_what_computes(ctx: &SuiteContext) -> CaseResult {
    golden_on(ctx, [ctx.isa()])
}

fn golden_on(ctx: &SuiteContext, isas: impl IntoIterator<Item = Isa>) -> CaseResult {
    let golden = Golden::read(ctx)?;
    let cache = CacheConfig {
        sink: golden.sink,
        window: Window::Sliding(golden.window),
        positions: PositionPolicy::Streaming,
    };
    for isa in isas {
        let setting = Setting {
            isa,
            element: KvElement::F16,
            ..Setting::new(ctx, cache)
        };
        let trace = Trace::of(ctx, &setting, &golden.tokens, &golden.chunks)?;
        let mut logits = LogitsDigest::default();
        logits.update(&trace.logits);
        golden.ensure_is(&Digest {
            logits_sha256: logits.hex(),
            kv_sha256: trace.kv_sha256,
            isa: isa.to_string(),
        })?;
    }
    Ok(())
}

/// Through the command line, since the program of another architecture cannot be called.
fn neon(ctx: &SuiteContext) -> CaseResult {
    if Isa::Neon.is_supported() {
        return of_this_host(ctx);
    }
    let golden = Golden::read(ctx)?;
    let scratch = ctx.scratch()?;
    let ids = scratch.join("ids.txt");
    let list = |numbers: Vec<String>| numbers.join(",");
    std::fs::write(
        &ids,
        list(golden.tokens.iter().map(u32::to_string).collect()),
    )?;
    let output = Command::new(ctx.goldens().join("../emulation/aarch64"))
        .arg("digest")
        .arg("--model-file")
        .arg(ctx.model_path())
        .arg("--token-ids-file")
        .arg(&ids)
        .args(["--sink", &golden.sink.to_string()])
        .args(["--window", &golden.window.to_string()])
        .args(["--isa", "neon"])
        .arg("--chunks")
        .arg(list(golden.chunks.iter().map(usize::to_string).collect()))
        .output()?;
    ensure!(
        output.status.success(),
        "the emulated digest ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let digest: Digest = serde_json::from_slice(&output.stdout)?;
    ensure_eq!(digest.isa, "neon", "the instruction set that ran");
    golden.ensure_is(&digest)
}
