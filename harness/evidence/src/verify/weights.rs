//! The weights: that they are the lock's, from the cache, and stayed what they were.

use super::{Rejection, Rejections};
use crate::environment::{Content, ModelFile, Place};
use crate::policy::{ModelLock, Platform};
use crate::record::Evidence;

pub(super) fn check(
    evidence: &Evidence,
    lock: &ModelLock,
    platform: &Platform,
    reasons: &mut Rejections,
) {
    for model in &platform.models {
        for file in lock.model(model).map_or(&[][..], |model| &model.file) {
            let is_there = evidence
                .models
                .iter()
                .any(|found| found.model == *model && found.file == file.name);
            if !is_there {
                reasons.push(Rejection::ModelMissing {
                    file: format!("{model}/{}", file.name),
                });
            }
        }
    }
    for file in &evidence.models {
        locked(file, lock, reasons);
    }
    changed(evidence, reasons);
    let network = &evidence.network;
    if network.offline && !network.fetched.is_empty() {
        reasons.push(Rejection::FetchedOffline {
            models: network.fetched.join(", "),
        });
    }
}

/// Weights that are others after the run.
pub(super) fn changed(evidence: &Evidence, reasons: &mut Rejections) {
    for file in &evidence.models {
        if evidence.ended.is_some() && file.sha256_at_end.as_ref() != Some(&file.sha256) {
            let after = file.sha256_at_end.clone();
            reasons.push(Rejection::WeightsChanged {
                file: format!("{}/{}", file.model, file.file),
                before: file.sha256.clone(),
                after: after.unwrap_or_else(|| "not observed".to_owned()),
            });
        }
    }
}

fn locked(found: &ModelFile, lock: &ModelLock, reasons: &mut Rejections) {
    let file = || format!("{}/{}", found.model, found.file);
    if found.content == Content::GitLfsPointer {
        reasons.push(Rejection::LfsPointer { file: file() });
    }
    if found.place != Place::Cache {
        reasons.push(Rejection::OutsideCache { file: file() });
    }
    let model = lock.model(&found.model);
    let expected = model.and_then(|model| model.file.iter().find(|file| file.name == found.file));
    let (Some(model), Some(expected)) = (model, expected) else {
        reasons.push(Rejection::ModelNotLocked { file: file() });
        return;
    };
    if found.revision != model.revision {
        reasons.push(Rejection::RevisionMoved {
            model: found.model.clone(),
            found: found.revision.clone(),
            expected: model.revision.clone(),
        });
    }
    if found.size_bytes != expected.size {
        reasons.push(Rejection::WeightsSize {
            file: file(),
            found: found.size_bytes,
            expected: expected.size,
        });
    }
    if found.sha256 != expected.sha256 {
        reasons.push(Rejection::WeightsDiffer {
            file: file(),
            found: found.sha256.clone(),
            expected: expected.sha256.clone(),
        });
    }
}
