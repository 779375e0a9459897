//! The change itself: what it edits besides, and whether the base is still where the change left it.

use super::{Checkout, Rejection, Rejections};
use crate::environment::Change;

/// Where policy lives.
const POLICY: &str = "gates/";
const KEYS: &str = "gates/keys.toml";
const WAIVERS: &str = "gates/waivers.toml";

pub(super) fn check(checkout: &Checkout<'_>) -> Rejections {
    let mut reasons = Vec::new();
    if checkout.shallow {
        reasons.push(Rejection::Shallow {});
    }
    own_changes(checkout, &mut reasons);
    if !checkout.base_moved.is_empty() {
        reasons.push(Rejection::BaseMoved {
            base: checkout.base.clone(),
            paths: some(&checkout.base_moved),
        });
    }
    for path in &checkout.edited {
        match path.as_str() {
            KEYS => reasons.push(Rejection::KeysEdited { path: path.clone() }),
            WAIVERS => reasons.push(Rejection::WaiversEdited { path: path.clone() }),
            _ => {}
        }
    }
    let policy: Vec<_> = checkout
        .edited
        .iter()
        .filter(|path| is_policy(path) && *path != KEYS && *path != WAIVERS)
        .cloned()
        .collect();
    if !policy.is_empty() {
        reasons.push(Rejection::PolicyEdited {
            paths: some(&policy),
        });
    }
    for rewritten in &checkout.rewritten {
        let (path, commit) = (rewritten.path.clone(), rewritten.commit.clone());
        reasons.push(if rewritten.deleted {
            Rejection::EvidenceDeleted { path, commit }
        } else {
            Rejection::EvidenceEdited { path, commit }
        });
    }
    reasons
}

fn own_changes(checkout: &Checkout<'_>, reasons: &mut Rejections) {
    let converted = |change: &&Change| checkout.line_endings.contains(&change.path);
    let others: Vec<_> = checkout
        .changes
        .iter()
        .filter(|change| !converted(change))
        .map(|change| change.path.clone())
        .collect();
    if !others.is_empty() {
        reasons.push(Rejection::CheckoutChanged {
            paths: some(&others),
        });
    }
    if !checkout.line_endings.is_empty() {
        reasons.push(Rejection::LineEndings {
            paths: some(&checkout.line_endings),
        });
    }
}

/// Data in the folder of the gates decides what is asked of evidence; code there is what is tested.
fn is_policy(path: &str) -> bool {
    path.starts_with(POLICY) && path.ends_with(".toml") && !path.ends_with("/Cargo.toml")
}

/// The first few of many paths.
fn some(paths: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = paths[..paths.len().min(SHOWN)].join(", ");
    match paths.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_data_in_the_folder_of_the_gates() {
        for path in ["gates/ga.toml", "gates/platforms/mac-m4.toml"] {
            assert!(is_policy(path), "{path}");
        }
        for path in ["gates/Cargo.toml", "gates/src/lib.rs", "Cargo.toml"] {
            assert!(!is_policy(path), "{path}");
        }
    }

    #[test]
    fn many_paths_are_cut_short() {
        let paths: Vec<_> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(some(&paths), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(some(&paths[..1]), "0");
    }
}
