//! What a run ran on and with: host, build, source tree, backend and models, all as observed.

use serde::{Deserialize, Serialize};

/// The machine, as the harness found it. No field is taken from a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The operating system family, as Rust names it: `linux`, `macos`.
    pub os: String,
    /// The operating system's own name and version.
    #[serde(deserialize_with = "crate::record::present")]
    pub os_version: Option<String>,
    /// The kernel's version.
    #[serde(deserialize_with = "crate::record::present")]
    pub kernel: Option<String>,
    /// The instruction set architecture the process runs as: `x86_64`, `aarch64`.
    pub arch: String,
    /// The processor's brand string.
    #[serde(deserialize_with = "crate::record::present")]
    pub chip: Option<String>,
    /// Processors the operating system schedules on.
    pub logical_cores: usize,
    /// Physical memory.
    pub memory_bytes: u64,
    /// Free space on the file system that holds the checkout.
    #[serde(deserialize_with = "crate::record::present")]
    pub free_disk_bytes: Option<u64>,
    /// Processor features the kernels choose by, in alphabetic order.
    pub cpu_features: Vec<String>,
    /// Accelerators found, by the name their driver gives.
    pub accelerators: Vec<String>,
    /// Whether the process runs translated (Rosetta). Absent where it could not be found out.
    #[serde(deserialize_with = "crate::record::present")]
    pub translated: Option<bool>,
}

/// What the harness and the engine inside it were built from and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// SHA-256 of the harness program that ran.
    pub harness_sha256: String,
    /// SHA-256 of `Cargo.lock` in the checkout.
    pub cargo_lock_sha256: String,
    /// What `rustc --version` said when the harness was built.
    pub rustc: String,
    /// The target triple.
    pub target: String,
    /// The Cargo profile's family: `debug` for dev and test, `release`.
    pub profile: String,
    /// The optimisation level of the kernels.
    pub opt_level: String,
    /// Whether the kernels carry debug assertions.
    pub debug_assertions: bool,
}

/// Which source the run was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Digest of the guarded tree when the run began.
    pub tree_sha256: String,
    /// Digest of the guarded tree when the run ended. Another value means that the tree changed under it.
    pub tree_sha256_at_end: String,
    /// Guarded files in the tree.
    pub files: usize,
    /// The commit that was checked out.
    #[serde(deserialize_with = "crate::record::present")]
    pub commit: Option<String>,
    /// Why there is no commit to name, where there is none.
    #[serde(deserialize_with = "crate::record::present")]
    pub commit_absent_reason: Option<String>,
    /// Whether guarded files differed from the commit. Absent where there is no commit to compare with.
    #[serde(deserialize_with = "crate::record::present")]
    pub dirty: Option<bool>,
    /// The guarded files that differed, at most the first twenty.
    pub dirty_paths: Vec<String>,
}

impl Source {
    /// Whether the guarded tree was the same at the end as at the start.
    pub fn is_unchanged(&self) -> bool {
        self.tree_sha256 == self.tree_sha256_at_end
    }
}

/// What computed the forward passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The device: `cpu`.
    pub device: String,
    /// The instruction set of the kernels in use.
    pub isa: String,
    /// Threads the engine was given.
    pub threads: usize,
    /// The version of the numerics contract the kernels keep.
    pub numerics_version: u32,
}

/// How the processor rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To nearest, ties to even: what the numerics contract asks for.
    NearestEven,
    /// Any other mode.
    Other,
}

/// The floating-point modes of the process that ran the cases, found by computing with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatModes {
    /// Whether a subnormal result is flushed to zero.
    pub flush_to_zero: bool,
    /// Whether a subnormal operand is read as zero.
    pub denormals_are_zero: bool,
    /// The rounding direction.
    pub rounding: Rounding,
}

/// A weights file, named without its place on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDigest {
    /// The name in the catalogue.
    pub name: String,
    /// The file's own name.
    pub file: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the bytes that were found on the host.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_moved_is_seen() {
        let mut source = Source {
            tree_sha256: "a".into(),
            tree_sha256_at_end: "a".into(),
            files: 1,
            commit: None,
            commit_absent_reason: Some("no commits yet".into()),
            dirty: None,
            dirty_paths: Vec::new(),
        };
        assert!(source.is_unchanged());
        source.tree_sha256_at_end = "b".into();
        assert!(!source.is_unchanged());
    }

    #[test]
    fn rounding_is_written_in_words() {
        let modes = FloatModes {
            flush_to_zero: false,
            denormals_are_zero: false,
            rounding: Rounding::NearestEven,
        };
        let text = serde_json::to_string(&modes).unwrap();
        assert!(text.contains("\"nearest_even\""), "{text}");
        assert_eq!(serde_json::from_str::<FloatModes>(&text).unwrap(), modes);
    }
}
