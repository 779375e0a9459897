//! `harness init`: what another repository needs to use gates: policy, workflows, and a first suite that runs.
//!
//! Nothing that is there is overwritten; the one file that is changed is the repository's `Cargo.toml`, which gets a member
//! and a profile for it. `docs/adopting.md` goes on from there.

use std::fs;
use std::io::Write;
use std::path::Path;

use kakeya_evidence::hex;
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::cli::InitArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::workflows::{self, write};

/// Each file that is written: where, and from what. `@NAME@`, `@CRATE@`, `@SOURCE@`, `@SIZE@` and `@SHA256@` stand for what
/// is known when it is.
const FILES: [(&str, &str); 18] = [
    (
        "gates/Cargo.toml",
        include_str!("../templates/gates/Cargo.toml.in"),
    ),
    (
        "gates/build.rs",
        include_str!("../templates/gates/build.rs"),
    ),
    (
        "gates/src/main.rs",
        include_str!("../templates/gates/src/main.rs"),
    ),
    (
        "gates/src/model.rs",
        include_str!("../templates/gates/src/model.rs"),
    ),
    (
        "gates/src/starter.rs",
        include_str!("../templates/gates/src/starter.rs"),
    ),
    (MODEL, WEIGHTS),
    (
        "gates/models.toml",
        include_str!("../templates/policy/models.toml"),
    ),
    (
        "gates/platforms/linux-cpu.toml",
        include_str!("../templates/policy/platform.toml"),
    ),
    ("gates/ga.toml", include_str!("../templates/policy/ga.toml")),
    (
        "gates/evidence.toml",
        include_str!("../templates/policy/evidence.toml"),
    ),
    (
        "gates/guarded.toml",
        include_str!("../templates/policy/guarded.toml"),
    ),
    (
        "gates/required.toml",
        include_str!("../templates/policy/required.toml"),
    ),
    (
        "gates/labels.toml",
        include_str!("../templates/policy/labels.toml"),
    ),
    (
        "gates/keys.toml",
        include_str!("../templates/policy/keys.toml"),
    ),
    (
        "gates/waivers.toml",
        include_str!("../templates/policy/waivers.toml"),
    ),
    (
        "gates/coverage.toml",
        include_str!("../templates/policy/coverage.toml"),
    ),
    (
        "results/README.md",
        include_str!("../templates/policy/results.md"),
    ),
    (
        ".ci/independent",
        include_str!("../templates/policy/independent"),
    ),
];
const MODEL: &str = "gates/models/xor/snapshots/1/xor.json";
const WEIGHTS: &str = include_str!("../templates/policy/xor.json");

/// Writes what is missing to use gates.
///
/// # Errors
/// When the folder is no workspace of Cargo, has something of this name already, or cannot be written.
pub fn run(arguments: &InitArgs, output: &mut impl Write) -> Result<Exit, HarnessError> {
    let root = &arguments.into;
    let refuse = |reason: String| HarnessError::Init {
        path: root.clone(),
        reason,
    };
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => name_of(root).map_err(&refuse)?,
    };
    let crate_name = format!("{}-gates", crate_name(&name).map_err(&refuse)?);
    let manifest = manifest(root, &crate_name, arguments.default_members).map_err(&refuse)?;
    let source = source(arguments).map_err(&refuse)?;
    let workflows = workflows::ALL
        .iter()
        .map(|(name, text)| (format!("{}/{name}", workflows::FOLDER), (*text).to_owned()));
    let mut files: Vec<(String, String)> = FILES
        .iter()
        .map(|(path, text)| {
            let text = text
                .replace("@NAME@", &name)
                .replace("@CRATE@", &crate_name)
                .replace("@SOURCE@", &source)
                .replace("@SIZE@", &WEIGHTS.len().to_string())
                .replace("@SHA256@", &hex::sha256(WEIGHTS.as_bytes()));
            ((*path).to_owned(), text)
        })
        .collect();
    files.extend(workflows);
    // Before anything is written: half of it would be worse than nothing.
    let there: Vec<_> = files
        .iter()
        .filter(|(path, _)| root.join(path).exists())
        .map(|(path, _)| path.as_str())
        .collect();
    if !there.is_empty() {
        return Err(refuse(format!(
            "it has {} already, and nothing is overwritten",
            there.join(", ")
        )));
    }
    for (path, text) in &files {
        write(&root.join(path), text)?;
        writeln!(output, "{path}").map_err(HarnessError::system("write the result"))?;
    }
    write(&root.join("Cargo.toml"), &manifest)?;
    let next = "Cargo.toml: the member `gates`, and a profile for it\n\n\
        Next: git add, commit, then `cargo run --bin harness -- gate --platform linux-cpu`.";
    writeln!(output, "{next}").map_err(HarnessError::system("write the result"))?;
    Ok(Exit::Success)
}

/// What a folder is called.
fn name_of(root: &Path) -> Result<String, String> {
    let whole = root.canonicalize().map_err(|error| error.to_string())?;
    let name = whole.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| "the folder has no name; give one with --name".to_owned())
}

/// A name that cargo takes.
fn crate_name(name: &str) -> Result<String, String> {
    let is_one = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_one {
        Ok(name.to_ascii_lowercase().replace('.', "-"))
    } else {
        Err(format!(
            "`{name}` is no name for evidence and a crate: letters, digits, `-`, `_` and `.`, and a letter first; \
             give one with --name"
        ))
    }
}

/// The repository's manifest, with the member and the profile that the suites are built with.
fn manifest(root: &Path, crate_name: &str, may_default: bool) -> Result<String, String> {
    let text = fs::read_to_string(root.join("Cargo.toml"))
        .map_err(|error| format!("its Cargo.toml cannot be read: {error}"))?;
    let mut manifest: DocumentMut = text
        .parse()
        .map_err(|error| format!("its Cargo.toml is malformed: {error}"))?;
    let has_package = manifest.contains_key("package");
    if has_package && manifest.contains_key("workspace") && !may_default {
        return Err(
            "its Cargo.toml is a package and a workspace at once, and cargo would look for the harness in that package \
             alone: move the package to a folder of its own, or run this again with --default-members, which makes \
             `gates` what cargo works on where no package is named"
                .to_owned(),
        );
    }
    let workspace = manifest
        .get_mut("workspace")
        .and_then(Item::as_table_like_mut)
        .ok_or("its Cargo.toml has no [workspace]: add one, and run this again")?;
    let members = workspace
        .entry("members")
        .or_insert(value(Array::new()))
        .as_array_mut()
        .ok_or("the members of its workspace are no list")?;
    if !members
        .iter()
        .any(|member| member.as_str() == Some("gates"))
    {
        members.push("gates");
    }
    // Where a default is set, the harness has to be in it.
    match workspace.get_mut("default-members") {
        Some(default) => {
            let default = default
                .as_array_mut()
                .ok_or("the default-members of its workspace are no list")?;
            if has_package {
                default.clear();
            }
            if !default
                .iter()
                .any(|member| member.as_str() == Some("gates"))
            {
                default.push("gates");
            }
        }
        None if has_package => {
            workspace.insert("default-members", value(Array::from_iter(["gates"])));
        }
        None => {}
    }
    let mut profile = Table::new();
    profile["opt-level"] = value(3);
    profile["debug-assertions"] = value(false);
    let mut at = manifest.as_table_mut();
    for name in ["profile", "dev", "package"] {
        let mut implicit = Table::new();
        implicit.set_implicit(true);
        at = at
            .entry(name)
            .or_insert(Item::Table(implicit))
            .as_table_mut()
            .ok_or_else(|| format!("`{name}` of its Cargo.toml is no table"))?;
    }
    at.insert(crate_name, Item::Table(profile));
    Ok(manifest.to_string())
}

/// Where the harness comes from, as a dependency of cargo.
fn source(arguments: &InitArgs) -> Result<String, String> {
    if let Some(url) = &arguments.source_git {
        let rev = arguments.source_rev.as_deref().unwrap_or_default();
        return Ok(format!("git = {url:?}, rev = {rev:?}"));
    }
    let checkout = arguments.source_path.clone().unwrap_or_default();
    let harness = checkout.join("harness");
    let whole = harness
        .canonicalize()
        .ok()
        .filter(|path| path.join("Cargo.toml").is_file());
    let whole = whole.ok_or_else(|| {
        format!(
            "--source-path {} is no checkout of Kakeya: it has no harness/Cargo.toml",
            checkout.display()
        )
    })?;
    Ok(format!("path = {:?}", whole.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Cargo.toml");
        let with = |text: &str| {
            fs::write(&path, text).unwrap();
            manifest(folder.path(), "x-gates", false)
        };
        let kept =
            with("# mine\n[workspace]\nmembers = [\"a\"] # both\n\n[profile.dev]\ndebug = 0\n")
                .unwrap();
        assert!(
            kept.starts_with("# mine\n[workspace]\nmembers = [\"a\", \"gates\"] # both\n"),
            "{kept}"
        );
        assert!(
            kept.contains("debug = 0\n")
                && kept.contains(
                    "[profile.dev.package.x-gates]\nopt-level = 3\ndebug-assertions = false\n"
                ),
            "{kept}"
        );
        let read: toml::Table = toml::from_str(&kept).unwrap();
        assert_eq!(
            read["profile"]["dev"]["package"]["x-gates"]["opt-level"].as_integer(),
            Some(3)
        );
        let twice = with(&kept).unwrap();
        assert_eq!(twice.matches("\"gates\"").count(), 1);
        let package = "[package]\nname = 'a'\n[workspace]\n";
        let refused = with(package).unwrap_err();
        assert!(refused.contains("with --default-members"), "{refused}");
        let defaults = |text: &str| {
            fs::write(&path, text).unwrap();
            let manifest = manifest(folder.path(), "x-gates", true).unwrap();
            let read: toml::Table = toml::from_str(&manifest).unwrap();
            read["workspace"]
                .get("default-members")
                .map(|list| list.to_string())
        };
        assert_eq!(defaults(package).as_deref(), Some("[\"gates\"]"));
        let own = "[package]\nname = 'a'\n[workspace]\ndefault-members = ['.']\n";
        assert_eq!(defaults(own).as_deref(), Some("[\"gates\"]"));
        let others = "[workspace]\ndefault-members = ['b']\n";
        assert_eq!(defaults(others).as_deref(), Some("[\"b\", \"gates\"]"));
        assert_eq!(defaults("workspace = { members = ['b'] }\n"), None);
        assert!(
            with("[workspace]\ndefault-members = 1")
                .unwrap_err()
                .contains("are no list")
        );
        assert!(with("[workspace").unwrap_err().contains("is malformed"));
        assert!(
            with("workspace = 1")
                .unwrap_err()
                .contains("has no [workspace]")
        );
        assert!(
            with("[workspace]\nmembers = 1")
                .unwrap_err()
                .contains("are no list")
        );
    }

    #[test]
    fn names_are_those_that_cargo_takes() {
        assert_eq!(crate_name("My.Engine_2").unwrap(), "my-engine_2");
        for bad in ["", "2fast", "a b", "ü"] {
            assert!(crate_name(bad).unwrap_err().contains("--name"), "{bad}");
        }
    }
}
