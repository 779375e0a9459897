//! Whether figures of two runs say anything of each other.

use kakeya_evidence::{Backend, Evidence};
use serde::Serialize;

/// Something that figures depend on, and that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is.
    pub what: &'static str,
    /// What it is in A.
    pub a: String,
    /// What it is in B.
    pub b: String,
}

/// In what two runs are not alike. Processors are compared by their brand, so that two hosts of one kind are alike.
pub(super) fn differences(a: &Evidence, b: &Evidence) -> Vec<Difference> {
    let (a, b) = (facts(a), facts(b));
    a.into_iter()
        .zip(b)
        .filter(|((_, a), (_, b))| a != b)
        .map(|((what, a), (_, b))| Difference { what, a, b })
        .collect()
}

fn facts(evidence: &Evidence) -> [(&'static str, String); 11] {
    let host = &evidence.host;
    let backend = |part: fn(&Backend) -> String| {
        let known = evidence.backend.as_ref().map(part);
        known.unwrap_or_else(|| "unknown".to_owned())
    };
    let chip = host.chip.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut models: Vec<_> = evidence
        .models
        .iter()
        .map(|model| format!("{} {}", model.model, model.sha256))
        .collect();
    models.sort();
    [
        ("platform", evidence.platform.clone()),
        ("tier", evidence.tier.clone()),
        ("operating system", host.os.clone()),
        ("architecture", host.arch.clone()),
        ("chip", chip),
        ("logical cores", host.logical_cores.to_string()),
        ("models", models.join(", ")),
        ("device", backend(|backend| backend.device.clone())),
        ("instruction set", backend(|backend| backend.isa.clone())),
        ("threads", backend(|backend| backend.threads.to_string())),
        (
            "numerics version",
            backend(|backend| backend.numerics_version.to_string()),
        ),
    ]
}

/// The differences in one line.
pub(super) fn list(differences: &[Difference]) -> String {
    let parts: Vec<_> = differences
        .iter()
        .map(|difference| {
            let Difference { what, a, b } = difference;
            format!("{what} is `{a}` against `{b}`")
        })
        .collect();
    parts.join("; ")
}
