//! `harness verify` in real repositories, as a maintainer meets it. The record is data about an imagined run; what is
//! tested is what git, the file system and the policy at the base make of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use kakeya_evidence::CommitFrom;
use kakeya_report::store;

#[path = "support/repository.rs"]
mod repository;

use repository::{GATES, REQUEST, RESULTS, Repository, git_in};

impl Repository {
    /// Runs `harness verify`. Gives its status and the codes it printed.
    fn verify(&self, arguments: &[&str]) -> (i32, Vec<String>) {
        verify_in(self.root(), arguments)
    }
}

fn verify_in(directory: &Path, arguments: &[&str]) -> (i32, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .current_dir(directory)
        .arg("verify")
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let codes: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|word| word.starts_with("EV-"))
        .map(str::to_owned)
        .collect();
    let status = output.status.code().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(status <= 1, "{text}{said}");
    assert_eq!(
        status == 0,
        text.contains("accepted: there is"),
        "{text}{said}"
    );
    (status, codes)
}

fn rejected(codes: &[&str]) -> (i32, Vec<String>) {
    (1, codes.iter().map(|code| (*code).to_owned()).collect())
}

const ACCEPTED: (i32, Vec<String>) = (0, Vec::new());

#[test]
fn good_evidence_is_accepted_and_prose_does_not_make_it_stale() {
    let repository = Repository::new();
    assert_eq!(repository.verify(&[]), ACCEPTED);
    assert_eq!(repository.verify(&["--base", "main"]), ACCEPTED);
    repository.write("README.md", "more prose\n");
    repository.commit("prose");
    assert_eq!(repository.verify(&[]), ACCEPTED);
}

#[test]
fn an_edited_source_makes_it_stale() {
    let repository = Repository::new();
    repository.write("src/a.rs", "fn main() {}\n");
    // Not committed: the checkout differs from its commit, and the evidence from the checkout.
    assert_eq!(
        repository.verify(&[]),
        rejected(&["EV-068", "EV-213", "EV-060"])
    );
    repository.commit("edit");
    assert_eq!(repository.verify(&[]), rejected(&["EV-213", "EV-060"]));
    repository.record();
    assert_eq!(repository.verify(&[]), ACCEPTED);
}

#[test]
fn untracked_guarded_files_are_changes_too() {
    let repository = Repository::new();
    repository.write("src/b.rs", "");
    let (status, codes) = repository.verify(&[]);
    assert_eq!((status, codes[0].as_str()), (1, "EV-068"));
}

#[test]
fn windows_line_endings_are_named_as_such() {
    let repository = Repository::new();
    repository.write("src/a.rs", "fn main() {\r\n}\r\n");
    let (status, codes) = repository.verify(&[]);
    assert_eq!((status, codes[0].as_str()), (1, "EV-070"));
    // Also where git was told to hide them.
    repository.git(&["config", "core.autocrlf", "true"]);
    let (status, codes) = repository.verify(&[]);
    assert_eq!((status, codes[0].as_str()), (1, "EV-070"));
}

#[test]
fn committed_evidence_may_be_put_back_but_not_changed() {
    let repository = Repository::new();
    let path = fs::read_dir(repository.root().join(RESULTS))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replace("inv3", "inv4")).unwrap();
    assert_eq!(repository.verify(&[]), rejected(&["EV-203", "EV-015"]));
    repository.commit("edit");
    assert_eq!(repository.verify(&[]), rejected(&["EV-203", "EV-015"]));
    fs::remove_file(&path).unwrap();
    repository.commit("delete");
    assert_eq!(repository.verify(&[]), rejected(&["EV-204", "EV-015"]));
    fs::write(&path, whole).unwrap();
    repository.commit("put back");
    assert_eq!(repository.verify(&[]), ACCEPTED);
}

#[test]
fn policy_comes_from_the_base_and_not_from_the_change() {
    let repository = Repository::new();
    repository.git(&["checkout", "--quiet", "-b", "change"]);
    let strict = GATES.replace("histories = 3", "histories = 1");
    repository.write("gates/ga.toml", &strict);
    repository.write("gates/keys.toml", "# mine\n");
    repository.write("gates/waivers.toml", "# mine\n");
    repository.commit("policy of my own");
    repository.record();
    let (status, codes) = repository.verify(&["--base", "main"]);
    assert_eq!(status, 1);
    assert_eq!(codes, ["EV-201", "EV-202", "EV-200"]);
}

#[test]
fn policy_that_is_not_guarded_is_policy_all_the_same() {
    let repository = Repository::new();
    repository.write("gates/guarded.toml", "include = ['src/**']\nexclude = []\n");
    repository.commit("guard the sources alone");
    repository.record();
    assert_eq!(repository.verify(&[]), ACCEPTED);
    repository.git(&["checkout", "--quiet", "-b", "change"]);
    repository.write("gates/waivers.toml", "# mine\n");
    repository.commit("waive what I like");
    assert_eq!(
        repository.verify(&["--base", "main"]),
        rejected(&["EV-202"])
    );
}

#[test]
fn a_base_from_before_the_policy_is_told_as_such() {
    let repository = Repository::new();
    repository.git(&["rm", "--quiet", "gates/evidence.toml"]);
    repository.commit("as it once was");
    repository.git(&["branch", "old"]);
    repository.git(&["checkout", "--quiet", "-b", "change"]);
    repository.write("gates/evidence.toml", REQUEST);
    repository.commit("policy");
    assert_eq!(repository.verify(&["--base", "old"]), rejected(&["EV-214"]));
}

#[test]
fn a_base_that_moved_on_asks_for_a_new_run() {
    let repository = Repository::new();
    repository.git(&["checkout", "--quiet", "-b", "change"]);
    repository.git(&["checkout", "--quiet", "main"]);
    repository.write("src/c.rs", "");
    repository.commit("elsewhere");
    repository.git(&["checkout", "--quiet", "change"]);
    assert_eq!(
        repository.verify(&["--base", "main"]),
        rejected(&["EV-069"])
    );
}

#[test]
fn after_a_rebase_the_same_tree_is_accepted() {
    let repository = Repository::new();
    repository.git(&["commit", "--quiet", "--amend", "--message", "another id"]);
    repository.git(&["checkout", "--quiet", "--orphan", "fresh"]);
    repository.commit("a history without the old commit");
    repository.git(&["branch", "--quiet", "-D", "main"]);
    repository.git(&["reflog", "expire", "--expire=now", "--all"]);
    repository.git(&["gc", "--quiet", "--prune=now"]);
    assert_eq!(repository.verify(&[]), ACCEPTED);
}

#[test]
fn a_detached_worktree_is_a_checkout_like_any_other() {
    let repository = Repository::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("tree");
    repository.git(&[
        "worktree",
        "add",
        "--quiet",
        "--detach",
        path.to_str().unwrap(),
    ]);
    assert_eq!(verify_in(&path, &[]), ACCEPTED);
}

#[test]
fn a_shallow_clone_is_told_how_to_become_whole() {
    let repository = Repository::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let url = format!("file://{}", repository.root().display());
    git_in(
        elsewhere.path(),
        &["clone", "--quiet", "--depth", "1", &url, "tree"],
    );
    let tree = elsewhere.path().join("tree");
    assert_eq!(verify_in(&tree, &[]), rejected(&["EV-211"]));
    git_in(&tree, &["fetch", "--quiet", "--unshallow"]);
    assert_eq!(verify_in(&tree, &[]), ACCEPTED);
}

#[test]
fn without_history_or_a_base_there_is_nothing_to_verify_against() {
    let repository = Repository::new();
    assert_eq!(
        repository.verify(&["--base", "nowhere"]),
        rejected(&["EV-212"])
    );
    // A name that git would take for an option.
    assert_eq!(repository.verify(&["--base=--all"]), rejected(&["EV-212"]));
    fs::remove_dir_all(repository.root().join(".git")).unwrap();
    assert_eq!(repository.verify(&[]), rejected(&["EV-210"]));
    repository.git(&["init", "--quiet"]);
    assert_eq!(repository.verify(&[]), rejected(&["EV-210"]));
}

#[test]
fn a_copied_tree_counts_where_it_is_its_commits() {
    let repository = Repository::new();
    let mut evidence = repository.evidence();
    evidence.source.commit_from = Some(CommitFrom::Build);
    evidence.source.commit_absent_reason = Some("git does not run".into());
    evidence.source.dirty = None;
    let folder = repository.root().join(RESULTS);
    for entry in fs::read_dir(&folder).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    repository.git(&["reset", "--quiet", "--soft", "HEAD~1"]);
    repository.git(&["reset", "--quiet"]);
    evidence.source.commit = Some(repository.git(&["rev-parse", "HEAD"]));
    evidence.build.commit = evidence.source.commit.clone();
    store::write(&folder, &mut evidence, None).unwrap();
    assert_eq!(repository.verify(&[]), ACCEPTED);
    // The same tree under a commit that nobody has.
    evidence.run_id = "f".repeat(32);
    evidence.source.commit = Some("0".repeat(40));
    evidence.build.commit = evidence.source.commit.clone();
    store::write(&folder, &mut evidence, None).unwrap();
    assert_eq!(repository.verify(&[]), rejected(&["EV-066"]));
}

#[test]
fn files_can_be_named_and_all_reasons_are_told() {
    let repository = Repository::new();
    let path = repository.record();
    let copy = path.with_file_name("linux-cpu-1-copy.json");
    fs::copy(&path, &copy).unwrap();
    let (status, codes) = repository.verify(&[copy.to_str().unwrap()]);
    assert_eq!(status, 1);
    assert_eq!(codes, ["EV-013", "EV-015"]);
    let huge = path.with_file_name("huge.json");
    fs::File::create(&huge).unwrap().set_len(200 << 20).unwrap();
    let (_, codes) = repository.verify(&[huge.to_str().unwrap()]);
    assert_eq!(codes, ["EV-213", "EV-002"]);
}
