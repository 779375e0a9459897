//! Which files a run is bound to (`gates/guarded.toml`).
//!
//! Guarded are the files that can change what a gate finds: source, policy, locks. Results are not among
//! them, so that committing evidence does not make the evidence stale; nor is prose.

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use thiserror::Error;

/// The patterns as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardedPolicy {
    /// Patterns of guarded paths, relative to the checkout; `*` stays within a directory, `**` does not.
    pub include: Vec<String>,
    /// Patterns taken out again.
    pub exclude: Vec<String>,
}

/// A pattern that is none.
#[derive(Debug, Error)]
#[error("guarded path pattern `{pattern}` is malformed")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// Why.
    pub source: globset::Error,
}

/// The patterns, ready to match.
#[derive(Debug, Clone)]
pub struct GuardedFiles {
    include: Vec<GlobMatcher>,
    exclude: Vec<GlobMatcher>,
}

impl GuardedPolicy {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// When one of them is malformed.
    pub fn compile(&self) -> Result<GuardedFiles, PatternError> {
        Ok(GuardedFiles {
            include: compile(&self.include)?,
            exclude: compile(&self.exclude)?,
        })
    }
}

impl GuardedFiles {
    /// Whether a path, relative to the checkout and with `/` between its parts, is guarded.
    pub fn contains(&self, path: &str) -> bool {
        let matched = |list: &[GlobMatcher]| list.iter().any(|glob| glob.is_match(path));
        matched(&self.include) && !matched(&self.exclude)
    }
}

fn compile(patterns: &[String]) -> Result<Vec<GlobMatcher>, PatternError> {
    patterns
        .iter()
        .map(|pattern| {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            glob.map(|glob| glob.compile_matcher())
                .map_err(|source| PatternError {
                    pattern: pattern.clone(),
                    source,
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(include: &[&str], exclude: &[&str]) -> GuardedPolicy {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        GuardedPolicy {
            include: owned(include),
            exclude: owned(exclude),
        }
    }

    #[test]
    fn excluded_paths_are_taken_out_again() {
        let files = policy(&["Cargo.*", "engine/**"], &["**/*.md"])
            .compile()
            .unwrap();
        for guarded in ["Cargo.toml", "engine/core/src/lib.rs"] {
            assert!(files.contains(guarded), "{guarded}");
        }
        for free in ["sub/Cargo.toml", "docs/numerics.md", "engine/README.md"] {
            assert!(!files.contains(free), "{free}");
        }
    }

    #[test]
    fn a_malformed_pattern_is_named() {
        let error = policy(&["engine/[", "x"], &[]).compile().unwrap_err();
        assert_eq!(
            error.to_string(),
            "guarded path pattern `engine/[` is malformed"
        );
    }

    #[test]
    fn the_shipped_policy_guards_source_and_policy_but_not_results_or_prose() {
        let text = include_str!("../../../../gates/guarded.toml");
        let files = toml::from_str::<GuardedPolicy>(text)
            .unwrap()
            .compile()
            .unwrap();
        for guarded in [
            "Cargo.toml",
            "Cargo.lock",
            ".gitignore",
            "engine/model/src/lib.rs",
            "engine/model/Cargo.toml",
            "gates/platforms/linux-cpu.toml",
            "gates/goldens/prose.json",
            "harness/src/main.rs",
            "proto/kakeya/v1/runtime.proto",
        ] {
            assert!(files.contains(guarded), "{guarded}");
        }
        for free in [
            "results/platform-tests/linux-cpu-1-2.json",
            "target/debug/harness",
            "README.md",
            "docs/numerics.md",
            ".git/HEAD",
        ] {
            assert!(!files.contains(free), "{free}");
        }
    }
}
