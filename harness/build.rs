//! Stamps into the program what built it, for the evidence: the compiler, the target, the profile and the commit
//! are facts of the build, and nothing at run time can find them out again.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["TARGET", "PROFILE"] {
        let value = env::var(name).unwrap_or_default();
        println!("cargo:rustc-env=HARNESS_{name}={value}");
    }
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    // An empty version is refused by every platform, so a failure here cannot pass for a good build.
    let version = version.unwrap_or_default();
    println!("cargo:rustc-env=HARNESS_RUSTC={}", version.trim());
    println!("cargo:rustc-env=HARNESS_COMMIT={}", commit());
}

/// The commit that is built, for a run in a tree without git: what HARNESS_COMMIT says where that tree is built itself,
/// else what git says. Whether the tree is that commit's is for the verifier to find out.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=HARNESS_COMMIT");
    if let Ok(commit) = env::var("HARNESS_COMMIT") {
        return commit;
    }
    // Grows with each commit and each checkout.
    if let Some(log) = git(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ]) && Path::new(&log).is_file()
    {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--verify", "HEAD"]).unwrap_or_default()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
