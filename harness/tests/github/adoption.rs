//! Another repository uses gates without our engine: what `docs/adopting.md` says, done in a temporary repository. The
//! program that runs there is built there, by cargo, from what `harness init` wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Github, State};

fn checked(output: Output, what: &str) -> String {
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {text}{said}");
    text
}

fn git(root: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(root)
        .args(arguments)
        .output();
    checked(output.unwrap(), &format!("git {arguments:?}"))
}

fn commit(root: &Path, message: &str) {
    git(root, &["add", "--all"]);
    git(
        root,
        &["commit", "--quiet", "--no-verify", "--message", message],
    );
}

fn init(into: &Path, more: &[&str]) -> Output {
    // Cargo runs a test in the folder of its package.
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.arg("init").arg(into).args(more);
    command.output().unwrap()
}

/// The program of the other repository, as it is now.
fn theirs(root: &Path, arguments: &[&str]) -> Output {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adoption");
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root)
        .args([
            "run",
            "--quiet",
            "--offline",
            "--bin",
            "harness",
            "--target-dir",
        ])
        .arg(target)
        .arg("--")
        .args(arguments);
    // What cargo tells this test about itself is nothing for another.
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name.starts_with("CARGO_PKG") || name == "CARGO_MANIFEST_DIR")
    {
        command.env_remove(name);
    }
    command
        .env("GITHUB_TOKEN", "secret-token")
        .output()
        .unwrap()
}

fn record(root: &Path) -> PathBuf {
    let folder = fs::read_dir(root.join("results/platform-tests")).unwrap();
    let mut records: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter(|path| !path.to_string_lossy().ends_with(".dsse.json"))
        .collect();
    records.sort();
    records.pop().unwrap()
}

#[test]
fn what_is_there_is_not_overwritten_and_what_is_no_workspace_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let source = ["--source-path", "..", "--name", "yours"];
    let refused = |into: &Path, more: &[&str]| {
        let output = init(into, more);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(root, &source).contains("its Cargo.toml cannot be read"));
    fs::write(root.join("Cargo.toml"), "[package]\nname = 'a'\n").unwrap();
    assert!(refused(root, &source).contains("has no [workspace]"));
    fs::write(root.join("Cargo.toml"), "[workspace]\n").unwrap();
    assert!(
        refused(root, &["--source-path", ".", "--name", "yours"])
            .contains("is no checkout of Kakeya")
    );
    assert!(
        refused(root, &["--source-path", "..", "--name", "a b"]).contains("give one with --name")
    );
    assert!(refused(root, &[]).contains("--source-path"));
    assert!(refused(root, &["--source-git", "https://example.org/k"]).contains("--source-rev"));
    fs::create_dir(root.join("gates")).unwrap();
    fs::write(root.join("gates/keys.toml"), "mine").unwrap();
    let error = refused(root, &source);
    assert!(
        error.contains("it has gates/keys.toml already, and nothing is overwritten"),
        "{error}"
    );
    assert_eq!(fs::read_dir(root.join("gates")).unwrap().count(), 1);

    fs::remove_file(root.join("gates/keys.toml")).unwrap();
    let git = [
        "--source-git",
        "https://example.org/k",
        "--source-rev",
        "abc",
        "--name",
        "yours",
    ];
    assert!(init(root, &git).status.success());
    let manifest = fs::read_to_string(root.join("gates/Cargo.toml")).unwrap();
    let depends =
        "harness = { git = \"https://example.org/k\", rev = \"abc\", default-features = false }";
    assert!(manifest.contains(depends), "{manifest}");
}

#[test]
fn another_repository_gates_signs_verifies_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    let root = &folder.path().join("yours");
    fs::create_dir(root).unwrap();
    git(root, &["init", "--quiet", "--initial-branch", "main"]);
    git(root, &["config", "user.name", "t"]);
    git(root, &["config", "user.email", "t@example.org"]);
    fs::write(
        root.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = []\n",
    )
    .unwrap();
    // The versions that are here already: the test asks the network for nothing.
    fs::copy("../Cargo.lock", root.join("Cargo.lock")).unwrap();
    checked(init(root, &["--source-path", ".."]), "init");
    commit(root, "Gates");

    // Their program has what it can do, and no more.
    let help = checked(theirs(root, &["--help"]), "help");
    assert!(help.contains("gate ") && help.contains("label "), "{help}");
    assert!(!checked(theirs(root, &["gate", "--help"]), "help").contains("--soak"));
    assert!(
        checked(
            theirs(root, &["workflows", "install", "--check"]),
            "workflows"
        )
        .contains("all 4")
    );

    // A key, in a change of its own.
    let key = folder.path().join("gates.pem");
    let key = key.to_str().unwrap();
    let entry = checked(
        theirs(
            root,
            &["keygen", "--out", key, "--name", "k", "--owner", "me"],
        ),
        "keygen",
    );
    fs::write(root.join("gates/keys.toml"), entry).unwrap();
    let asks = root.join("gates/evidence.toml");
    let text = fs::read_to_string(&asks).unwrap();
    fs::write(&asks, text.replacen("signatures = 0", "signatures = 1", 1)).unwrap();
    // What the first build left in the lock.
    commit(root, "A key");

    git(root, &["switch", "--quiet", "--create", "change"]);
    let suite = root.join("gates/src/starter.rs");
    let text = fs::read_to_string(&suite).unwrap();
    fs::write(&suite, text.replace("//! The first suite.", "//! A suite.")).unwrap();
    commit(root, "A change");
    let gate = checked(theirs(root, &["gate", "--platform", "linux-cpu"]), "gate");
    assert!(gate.contains("1 passed, 0 failed, 0 skipped"), "{gate}");
    assert!(gate.contains("forward passes of xor"), "{gate}");

    let verify = || {
        let output = theirs(root, &["verify", "--base", "main"]);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    commit(root, "Evidence");
    let (status, said) = verify();
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("signature"), "{said}");
    let record = record(root);
    checked(
        theirs(root, &["sign", record.to_str().unwrap(), "--key", key]),
        "sign",
    );
    commit(root, "Signed");
    let (status, said) = verify();
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("signed by k"), "{said}");

    // The label of this change, on an event as GitHub records it.
    let github = Github::start(State {
        files: vec![("gates/src/starter.rs".to_owned(), None)],
        policy: Some(fs::read_to_string(root.join("gates/labels.toml")).unwrap()),
        tree: vec!["Cargo.lock".to_owned(), "gates/ga.toml".to_owned()],
        ..State::default()
    });
    let event = folder.path().join("event.json");
    let text = include_str!("data/pull_request_target.json").replace("HEAD_SHA", &"a".repeat(40));
    fs::write(&event, text).unwrap();
    let arguments = [
        "label",
        "--repo",
        "o/r",
        "--event-path",
        event.to_str().unwrap(),
        "--api-base",
        &github.base(),
    ];
    let said = checked(theirs(root, &arguments), "label");
    assert!(
        said.contains("created and added needs-evidence: gates/src/starter.rs matches gates/**"),
        "{said}"
    );
    assert_eq!(github.state().on_pull, ["needs-evidence"]);

    // And a change that breaks the rule is caught.
    let model = root.join("gates/src/model.rs");
    let text = fs::read_to_string(&model).unwrap();
    let broken = text.replace(
        "rows.iter().map(output).collect()",
        "rows.iter().map(output).map(|value| value + rows.len() as f32 * 1e-6).collect()",
    );
    assert_ne!(broken, text);
    fs::write(&model, broken).unwrap();
    let output = theirs(
        root,
        &[
            "gate",
            "--platform",
            "linux-cpu",
            "--out",
            folder.path().to_str().unwrap(),
        ],
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("outputs of four rows"), "{said}");
}
