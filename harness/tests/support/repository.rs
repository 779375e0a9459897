//! A git repository with policy, a source file, and good evidence for it. The record is data about an imagined run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kakeya_evidence::policy::GuardedPolicy;
use kakeya_evidence::{Evidence, tree};
use kakeya_report::store;
use tempfile::TempDir;

#[path = "../../evidence/tests/support/good.rs"]
mod good;

pub const RESULTS: &str = "results/platform-tests";

const PLATFORM: &str = "name = 'linux-cpu'\nabout = 'a'\nbackend = 'cpu'\nmin_rustc = '1.89'\n\
    models = ['smollm2-135m']\nsuites = ['inv3', 'perf']\n[host]\nos = 'linux'\narch = ['x86_64']\nchip = []\n\
    min_memory_gib = 3\nmin_free_disk_gib = 1\n";
pub const GATES: &str = "[[gate]]\nid = 'G3'\ntitle = 'INV-3'\nholds_when = 'so'\n\
    rule = { kind = 'suite', suite = 'inv3', histories = 3 }\n";
pub const REQUEST: &str = "repository = 'kakeya'\nplatforms = ['linux-cpu']\ntier = 'fast'\nsignatures = 0\n\
    numerics_version = 1\nopt_levels = ['3']\ncoverage = false\n\
    [ga]\nplatforms = ['linux-cpu']\nlong_session_seconds = 14400.0\nsignatures = 1\n";
const GUARDED: &str = "include = ['src/**', 'gates/**']\nexclude = []\n";
const MODELS: &str = "[[model]]\nname = 'smollm2-135m'\nrevision = '0.1.2'\n[[model.file]]\nname = 'weights.gguf'\n\
    size = 98362432\nsha256 = 'dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44dd44'\n";

/// A repository with policy, a source file, and good evidence for it.
pub struct Repository {
    folder: TempDir,
}

impl Repository {
    pub fn new() -> Self {
        let repository = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let required = toml::to_string(&good::policy().required).unwrap();
        for (path, text) in [
            ("Cargo.toml", "[workspace]\n"),
            ("src/a.rs", "fn main() {\n}\n"),
            ("gates/platforms/linux-cpu.toml", PLATFORM),
            ("gates/ga.toml", GATES),
            ("gates/evidence.toml", REQUEST),
            ("gates/models.toml", MODELS),
            ("gates/guarded.toml", GUARDED),
            ("gates/required.toml", &required),
            ("gates/keys.toml", ""),
            ("gates/waivers.toml", ""),
            ("gates/coverage.toml", ""),
        ] {
            repository.write(path, text);
        }
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository.git(&["config", "user.name", "t"]);
        repository.git(&["config", "user.email", "t@example.org"]);
        repository.git(&["config", "core.autocrlf", "false"]);
        repository.commit("policy");
        repository.record();
        repository.commit("evidence");
        repository
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        git_in(self.root(), arguments)
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--no-verify", "--message", message]);
    }

    /// Writes a record of the tree as it is.
    pub fn record(&self) -> PathBuf {
        self.record_of(self.evidence())
    }

    /// Writes a record.
    pub fn record_of(&self, mut evidence: Evidence) -> PathBuf {
        store::write(&self.root().join(RESULTS), &mut evidence, None)
            .unwrap()
            .json
    }

    pub fn evidence(&self) -> Evidence {
        let guarded = fs::read_to_string(self.root().join("gates/guarded.toml")).unwrap();
        let guarded: GuardedPolicy = toml::from_str(&guarded).unwrap();
        let tree = tree::digest(self.root(), &guarded.compile().unwrap()).unwrap();
        let mut evidence = good::good();
        evidence.run_id = format!(
            "{:032x}",
            fs::read_dir(self.root().join(RESULTS)).map_or(0, Iterator::count)
        );
        evidence.source.tree_sha256 = tree.sha256.clone();
        evidence.source.tree_sha256_at_end = Some(tree.sha256);
        evidence.source.commit = Some(self.git(&["rev-parse", "HEAD"]));
        evidence.build.commit = evidence.source.commit.clone();
        evidence.verdicts.retain(|verdict| verdict.gate == "G3");
        evidence.verdicts[0].title = "INV-3".into();
        evidence
    }
}

pub fn git_in(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
