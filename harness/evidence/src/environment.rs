//! What a run ran on and with: host, build, source tree, backend and models, all as observed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The machine, as the harness found it. No field is taken from a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// SHA-256 of the harness program that ran.
    pub harness_sha256: String,
    /// SHA-256 of `Cargo.lock` in the checkout.
    pub cargo_lock_sha256: String,
    /// The commit that the harness was built from, where it was built in a git checkout without changes.
    #[serde(deserialize_with = "crate::record::present")]
    pub commit: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Digest of the guarded tree when the run began.
    pub tree_sha256: String,
    /// Digest of the guarded tree when the run ended, where it did. Another value means that the tree changed under it.
    #[serde(deserialize_with = "crate::record::present")]
    pub tree_sha256_at_end: Option<String>,
    /// Guarded files in the tree.
    pub files: usize,
    /// The commit that was checked out, or that the harness was built from where git does not tell.
    #[serde(deserialize_with = "crate::record::present")]
    pub commit: Option<String>,
    /// Who named the commit.
    #[serde(deserialize_with = "crate::record::present")]
    pub commit_from: Option<CommitFrom>,
    /// Why git does not tell the commit, where it does not.
    #[serde(deserialize_with = "crate::record::present")]
    pub commit_absent_reason: Option<String>,
    /// Whether guarded files differed from the commit. Absent where git does not tell.
    #[serde(deserialize_with = "crate::record::present")]
    pub dirty: Option<bool>,
    /// The guarded files that differed, at most the first twenty.
    pub changes: Vec<Change>,
}

/// Who named a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommitFrom {
    /// Git, of the checkout that the run was made in.
    Git,
    /// The harness, which was built from it: the run was made in a tree without git.
    Build,
}

/// A guarded file that differs from the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The file.
    pub path: String,
    /// In which way.
    pub kind: ChangeKind,
}

/// How a file differs from the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The file in the checkout is another one, or gone.
    Modified,
    /// The index already holds a change.
    Staged,
    /// The commit does not have it.
    Untracked,
}

impl Source {
    /// Whether the guarded tree was the same at the end as at the start.
    pub fn is_unchanged(&self) -> bool {
        self.tree_sha256_at_end.as_ref() == Some(&self.tree_sha256)
    }
}

/// Whether a run could, and did, fetch anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Whether the environment forbade fetching.
    pub offline: bool,
    /// The models that were fetched during the run.
    pub fetched: Vec<String>,
}

/// What computed the forward passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To nearest, ties to even: what the numerics contract asks for.
    NearestEven,
    /// Any other mode.
    Other,
}

/// The floating-point modes of the process that ran the cases, found by computing with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FloatModes {
    /// Whether a subnormal result is flushed to zero.
    pub flush_to_zero: bool,
    /// Whether a subnormal operand is read as zero.
    pub denormals_are_zero: bool,
    /// The rounding direction.
    pub rounding: Rounding,
}

/// A file of a model, named without its place on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// The model's name in the catalogue.
    pub model: String,
    /// The revision of the snapshot it was read from.
    pub revision: String,
    /// The file's own name.
    pub file: String,
    /// Its size, as found on the host.
    pub size_bytes: u64,
    /// SHA-256 of the bytes that were found before the suites ran.
    pub sha256: String,
    /// SHA-256 of the bytes that were found after they ran. Absent where the run did not end.
    #[serde(deserialize_with = "crate::record::present")]
    pub sha256_at_end: Option<String>,
    /// Where its bytes lie, links followed.
    pub place: Place,
    /// What its first bytes say it is.
    pub content: Content,
}

/// Where a model's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the model cache.
    Cache,
    /// A link led out of the cache.
    OutsideCache,
}

/// What a file's first bytes say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A GGUF file.
    Gguf,
    /// A safetensors file.
    Safetensors,
    /// JSON.
    Json,
    /// The text that git-lfs leaves in place of a file.
    GitLfsPointer,
    /// Something else.
    Other,
}

impl Content {
    /// Bytes of the beginning that [`Content::of`] looks at.
    pub const HEAD: usize = 64;

    /// What a file is whose first [`Content::HEAD`] bytes, or all where there are fewer, are these.
    pub fn of(head: &[u8]) -> Self {
        // safetensors: the header's length in eight bytes, then a JSON object (the format's documentation).
        let after_length = head.get(8);
        if head.starts_with(b"GGUF") {
            Self::Gguf
        } else if head.starts_with(b"version https://git-lfs") {
            Self::GitLfsPointer
        } else if after_length == Some(&b'{') && head[4..8] == [0; 4] {
            Self::Safetensors
        } else if matches!(head.trim_ascii_start().first(), Some(b'{' | b'[')) {
            Self::Json
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_moved_or_never_ended_is_not_unchanged() {
        let mut source = Source {
            tree_sha256: "a".into(),
            tree_sha256_at_end: Some("a".into()),
            files: 1,
            commit: None,
            commit_from: None,
            commit_absent_reason: Some("no commits yet".into()),
            dirty: None,
            changes: Vec::new(),
        };
        assert!(source.is_unchanged());
        source.tree_sha256_at_end = Some("b".into());
        assert!(!source.is_unchanged());
        source.tree_sha256_at_end = None;
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

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        for (head, content) in [
            (&b"GGUF\x03\0\0\0"[..], Content::Gguf),
            (b"\x40\x01\0\0\0\0\0\0{\"a\"", Content::Safetensors),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
                Content::GitLfsPointer,
            ),
            (b"\n{\"hidden_size\": 576}", Content::Json),
            (b"[1]", Content::Json),
            (b"\x7fELF", Content::Other),
            (b"", Content::Other),
        ] {
            assert_eq!(Content::of(head), content, "{head:?}");
        }
    }
}
