//! The workflows: that they are installed as they are written, that they keep what a security reviewer signed, and that
//! each step that calls the harness does what it is there for. The steps are run by the shell that runs them on GitHub,
//! as they stand in the files; only `cargo` is a script that starts the harness that was built already.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::workflows::{ALL, FOLDER};

use crate::repository::Repository;
use crate::support::{Github, State};

const HARNESS: &str = env!("CARGO_BIN_EXE_harness");

fn install(into: &Path, more: &[&str]) -> (i32, String) {
    let output = Command::new(HARNESS)
        .args(["workflows", "install", "--into"])
        .arg(into)
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

fn workflow(name: &str) -> &'static str {
    ALL.iter().find(|(known, _)| *known == name).unwrap().1
}

/// The one-line values of a key, with the workflow that they stand in.
fn values(key: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (name, text) in ALL {
        for line in text.lines() {
            let line = line.trim_start().trim_start_matches("- ");
            let Some(value) = line.strip_prefix(&format!("{key}: ")) else {
                continue;
            };
            assert!(
                !value.starts_with(['|', '>']),
                "{name}: a step in several lines"
            );
            // A quoted value is what YAML takes it for.
            let value = value
                .strip_prefix('\'')
                .and_then(|value| value.strip_suffix('\''))
                .unwrap_or(value);
            found.push((name, value.to_owned()));
        }
    }
    found
}

#[test]
fn the_copies_that_github_reads_are_those_of_the_harness() {
    // Cargo runs a test in the folder of its package.
    let (root, mut names) = (Path::new(".."), Vec::new());
    for entry in fs::read_dir(root.join(FOLDER)).unwrap() {
        names.push(entry.unwrap().file_name().into_string().unwrap());
    }
    names.sort();
    let known: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known);
    for (name, text) in ALL {
        for folder in ["workflows", FOLDER] {
            let bytes = fs::read(root.join(folder).join(name)).unwrap();
            assert!(
                bytes == text.as_bytes(),
                "{folder}/{name} is another one: harness workflows install"
            );
        }
    }
    assert_eq!(install(root, &["--check"]).0, 0);
}

#[test]
fn installing_is_byte_for_byte_and_a_check_sees_every_difference() {
    let folder = tempfile::tempdir().unwrap();
    let (status, text) = install(folder.path(), &["--check"]);
    assert_eq!(status, 1);
    assert!(
        text.contains("ci.yml: is missing") && text.contains("`harness workflows install`"),
        "{text}"
    );
    assert_eq!(install(folder.path(), &[]).0, 0);
    assert_eq!(
        install(folder.path(), &["--check"]),
        (0, "all 4 workflows are those of this build\n".to_owned())
    );
    let path = folder.path().join(FOLDER).join("verify.yml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace('\n', "\r\n")).unwrap();
    let (status, text) = install(folder.path(), &["--check"]);
    assert_eq!(status, 1);
    assert!(text.contains("verify.yml: is another one"), "{text}");
    assert!(
        install(folder.path(), &[])
            .1
            .contains("verify.yml: written anew")
    );
    assert_eq!(install(folder.path(), &["--check"]).0, 0);
}

#[test]
fn actions_are_pinned_and_leave_no_credentials() {
    let uses = values("uses");
    assert!(uses.len() >= 6);
    for (name, used) in &uses {
        let (action, version) = used
            .split_once(" # v")
            .unwrap_or_else(|| panic!("{name}: {used}"));
        let sha = action.split_once('@').unwrap().1;
        assert!(
            sha.len() == 40 && sha.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name}: {used}"
        );
        assert!(version.split('.').count() == 3, "{name}: {used}");
    }
    let checkouts = uses
        .iter()
        .filter(|(_, used)| used.starts_with("actions/checkout@"))
        .count();
    assert_eq!(
        values("persist-credentials"),
        vec_of("false", &values("persist-credentials"))
    );
    assert_eq!(values("persist-credentials").len(), checkouts);
}

fn vec_of(value: &str, like: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    like.iter()
        .map(|(name, _)| (*name, value.to_owned()))
        .collect()
}

#[test]
fn what_a_security_reviewer_signed_is_still_so() {
    for (name, text) in ALL {
        assert!(text.contains("\npermissions: {}\n"), "{name}");
        assert!(
            text.contains("timeout-minutes: ") && text.contains("cancel-in-progress: true"),
            "{name}"
        );
        // Text of a stranger never becomes part of a script.
        for (_, run) in values("run") {
            assert!(!run.contains("${{"), "{name}: {run}");
        }
    }
    let integration = workflow("integration.yml");
    assert!(!integration.contains("\n  pull_request:"));
    assert!(integration.contains("timeout-minutes: 90\n"));
    // Every label starts the workflow: only the job that a gate runs in may cancel another.
    let (workflow_level, jobs) = integration.split_once("\njobs:\n").unwrap();
    assert!(!workflow_level.contains("concurrency:"));
    let concurrency = jobs.find("    concurrency:\n").unwrap();
    assert!(jobs.find("    if: ").unwrap() < concurrency && jobs.contains("|| inputs.sha }}-"));
    // A gate that was stopped keeps what it wrote.
    let (_, upload) = jobs.split_once("- name: Evidence").unwrap();
    assert!(upload.contains("if: ${{ always() }}"));
    assert!(
        integration.contains("github.event.pull_request.head.repo.full_name == github.repository")
    );
    assert!(integration.contains("environment: ${{"));
    for name in ["ci.yml", "auto-label.yml", "verify.yml"] {
        assert!(!workflow(name).contains("self-hosted"), "{name}");
    }
    assert!(!workflow("auto-label.yml").contains("pull_request.head"));
    // What is checked out of a change is never a folder that cargo runs in.
    let verify = workflow("verify.yml");
    let change: Vec<_> = verify.split("working-directory: change").skip(1).collect();
    assert_eq!(change.len(), 2);
    for step in change {
        let run = step
            .lines()
            .find(|line| line.trim().starts_with("run: "))
            .unwrap();
        assert!(run.contains("run: ../built/debug/harness "), "{run}");
    }
}

/// Where a step runs, and what it knows.
struct Place {
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
}

/// Runs a step as GitHub does, in a place, with a `cargo` that starts the harness.
fn step(run: &str, place: &Place) -> (i32, String) {
    let tools = tempfile::tempdir().unwrap();
    let cargo = tools.path().join("cargo");
    fs::write(
        &cargo,
        format!(
            "#!/usr/bin/env bash\nset -eu\ncase \" $* \" in *' --locked '*) ;; *) exit 90 ;; esac\n\
             case \" $* \" in *' --bin harness '*) ;; *) exit 91 ;; esac\n\
             if [[ $1 == build ]]; then mkdir -p \"$GITHUB_WORKSPACE/built/debug\"; \
             ln -sf {HARNESS} \"$GITHUB_WORKSPACE/built/debug/harness\"; exit 0; fi\n\
             [[ $1 == run ]] || exit 92\nwhile [[ $1 != -- ]]; do shift; done\nshift\nexec {HARNESS} \"$@\"\n"
        ),
    )
    .unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!(
        "{}:{}",
        tools.path().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", run])
        .current_dir(&place.folder)
        .env("PATH", path)
        .env("GITHUB_ACTIONS", "true")
        .envs(
            place
                .variables
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        )
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), text.concat())
}

/// A step of a workflow, and how it ends where all is well on a host of no platform.
const STEPS: [(&str, &str, i32); 13] = [
    (
        "auto-label.yml",
        "cargo build --locked --no-default-features --features github --bin harness",
        0,
    ),
    (
        "auto-label.yml",
        "cargo run --locked --no-default-features --features github --bin harness -- label --pr \"$NUMBER\" --event-path \"$GITHUB_EVENT_PATH\"",
        0,
    ),
    (
        "ci.yml",
        "cargo run --locked --no-default-features --features github --bin harness -- workflows install --check",
        0,
    ),
    ("ci.yml", "bash .ci/independent", NOT_OURS),
    ("integration.yml", "[[ \"$SHA\" =~ ^[0-9a-f]{40}$ ]]", 0),
    (
        "integration.yml",
        "[[ \"$(git rev-parse HEAD)\" == \"$SHA\" ]]",
        0,
    ),
    (
        "integration.yml",
        "cargo run --locked --features \"$FEATURES\" --bin harness -- doctor --platform \"$PLATFORM\"",
        NEEDS_SUITES + 3,
    ),
    (
        "integration.yml",
        "cargo run --locked --features \"$FEATURES\" --bin harness -- prewarm --platform \"$PLATFORM\"",
        NEEDS_SUITES + 4,
    ),
    (
        "integration.yml",
        "cargo run --locked --features \"$FEATURES\" --bin harness -- gate --platform \"$PLATFORM\" --tier \"$TIER\" --out evidence",
        NEEDS_SUITES + 3,
    ),
    (
        "integration.yml",
        "cargo run --locked --features \"$FEATURES\" --bin harness -- verify --platform \"$PLATFORM\" --base HEAD --format github evidence/*.json",
        0,
    ),
    (
        "verify.yml",
        "cargo build --locked --no-default-features --features github --bin harness --target-dir \"$GITHUB_WORKSPACE/built\"",
        0,
    ),
    (
        "verify.yml",
        "../built/debug/harness checks --sha \"$HEAD\" --base \"$BASE\"",
        0,
    ),
    (
        "verify.yml",
        "../built/debug/harness verify --base \"$BASE\" --format github",
        0,
    ),
];
/// A step that does not call the harness.
const NOT_OURS: i32 = -1;
/// Added to the status of a step that takes a build with suites: on a Linux host, what asks for a mac ends with 3, and
/// what asks an empty cache for models, offline, with 4.
const NEEDS_SUITES: i32 = 100;

#[test]
fn each_step_is_run_here_as_it_stands_there() {
    let mut steps: BTreeMap<_, _> = STEPS
        .iter()
        .map(|(name, run, status)| ((*name, (*run).to_owned()), *status))
        .collect();
    let github = Github::start(State {
        files: vec![("engine/a.rs".to_owned(), None)],
        ..State::default()
    });
    let good = Repository::new();
    let workspace = tempfile::tempdir().unwrap();
    let change = workspace.path().join("change");
    crate::repository::git_in(
        workspace.path(),
        &[
            "clone",
            "--quiet",
            &good.root().display().to_string(),
            "change",
        ],
    );
    let head = good.git(&["rev-parse", "HEAD"]);
    fs::create_dir(change.join("evidence")).unwrap();
    for entry in fs::read_dir(change.join(crate::repository::RESULTS)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(
            &path,
            change.join("evidence").join(path.file_name().unwrap()),
        )
        .unwrap();
    }
    assert_eq!(install(&change, &[]).0, 0);
    let event = workspace.path().join("event.json");
    let text = include_str!("data/pull_request_target.json").replace("HEAD_SHA", &"a".repeat(40));
    fs::write(&event, text).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let here = std::env::current_dir()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    // Asked once: each asks the server for its state, and holds it.
    let token = github.state().token.clone();
    let base = github.base();
    let variables = |platform: &str| {
        vec![
            ("GITHUB_TOKEN", token.clone()),
            ("GITHUB_REPOSITORY", "o/r".to_owned()),
            ("GITHUB_API_URL", base.clone()),
            ("GITHUB_EVENT_PATH", event.display().to_string()),
            ("GITHUB_WORKSPACE", workspace.path().display().to_string()),
            (
                "GITHUB_STEP_SUMMARY",
                workspace.path().join("summary.md").display().to_string(),
            ),
            ("NUMBER", "7".to_owned()),
            ("BASE", head.clone()),
            ("HEAD", head.clone()),
            ("SHA", head.clone()),
            ("TIER", "fast".to_owned()),
            ("PLATFORM", platform.to_owned()),
            ("FEATURES", String::new()),
            ("HF_HOME", cache.path().display().to_string()),
            ("HF_HUB_OFFLINE", "1".to_owned()),
        ]
    };
    for (name, run) in values("run") {
        let expected = steps
            .remove(&(name, run.clone()))
            .unwrap_or_else(|| panic!("{name}: no test runs the step `{run}`"));
        let place = |folder: &Path, platform| Place {
            folder: folder.to_owned(),
            variables: variables(platform),
        };
        let (status, said) = match expected {
            NOT_OURS => continue,
            NEEDS_SUITES.. if !cfg!(feature = "engine") => continue,
            // The models of mac-m4 are in no cache here.
            NEEDS_SUITES.. => step(&run, &place(&here, "mac-m4")),
            _ => step(&run, &place(&change, "linux-cpu")),
        };
        assert_eq!(status, expected % NEEDS_SUITES, "{name}: {run}\n{said}");
    }
    assert!(
        steps.is_empty(),
        "no workflow has these any more: {steps:?}"
    );
    assert_eq!(github.state().on_pull, ["needs-mac-m4"]);
    assert_eq!(github.state().checks.len(), 1);
}
