//! Test files of an SDK, each run once, and what became of its tests.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::{Mutex, PoisonError};

use super::servers::{Servers, with_servers};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{PATIENCE, block_on};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// A file of tests, and their names.
#[derive(Debug)]
pub(super) struct TestFile {
    /// Where it is, in the SDK's folder.
    pub(super) path: &'static str,
    /// What it is to have, no more and no less.
    pub(super) tests: &'static [&'static str],
}

/// What became of each test of a file: `None` for those that passed, or what is said of the failure.
pub(super) type Outcomes = BTreeMap<String, Option<String>>;

/// What pytest says, with `-rA`, of a file's tests.
pub(super) fn of_pytest(file: &TestFile, output: &Output) -> Result<Outcomes, CaseFailure> {
    let said = String::from_utf8_lossy(&output.stdout);
    let mut outcomes = Outcomes::new();
    for line in said.lines() {
        let Some((word, test)) = line.split_once(&format!(" {}::", file.path)) else {
            continue;
        };
        // A test of many values has passed when it has with each.
        let name = test.split(['[', ' ']).next().unwrap_or(test).to_owned();
        match word {
            "PASSED" => {
                outcomes.entry(name).or_insert(None);
            }
            "FAILED" | "ERROR" => {
                outcomes.insert(name, Some(said.clone().into_owned()));
            }
            _ => {}
        }
    }
    ensure!(
        output.status.success() || outcomes.values().any(Option::is_some),
        "pytest ended with {}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(outcomes)
}

/// How the files of an SDK are run.
pub(super) trait Runner: Copy + Send + Sync + 'static {
    /// The SDK's name, which its cases begin with.
    const NAME: &'static str;

    /// Installs what running takes.
    async fn prepare(self, context: &SuiteContext) -> CaseResult;

    /// Runs a file, and answers what became of its tests.
    async fn run(
        self,
        context: &SuiteContext,
        servers: &Servers,
        file: &'static TestFile,
    ) -> Result<Outcomes, CaseFailure>;
}

/// What became of files, by SDK and path.
type Ran = BTreeMap<(&'static str, &'static str), Result<Outcomes, String>>;

/// Those that have been run.
static RAN: Mutex<Ran> = Mutex::new(Ran::new());

/// A case for each test, and one for each file that says that they are all there is.
pub(super) fn cases<R: Runner>(runner: R, files: &'static [TestFile]) -> Vec<Case> {
    let mut cases = Vec::new();
    for file in files {
        for test in file.tests {
            cases.push(Case::fast(
                format!("{}.{}", R::NAME, case_name(test)),
                move |context| passed(context, runner, file, test),
            ));
        }
        let stem = file.path.rsplit('/').next().unwrap_or(file.path);
        let stem = case_name(stem.split('.').next().unwrap_or(stem));
        cases.push(Case::fast(
            format!("{}.all_of_{stem}_are_cases", R::NAME),
            move |context| {
                let outcomes = outcomes(context, runner, file)?;
                let mut expected = file.tests.to_vec();
                expected.sort_unstable();
                let found: Vec<_> = outcomes.keys().map(String::as_str).collect();
                ensure_eq!(found, expected, "the tests of {}", file.path);
                Ok(())
            },
        ));
    }
    cases
}

fn passed<R: Runner>(
    context: &SuiteContext,
    runner: R,
    file: &'static TestFile,
    test: &str,
) -> CaseResult {
    match outcomes(context, runner, file)?.get(test) {
        Some(None) => Ok(()),
        Some(Some(failure)) => Err(CaseFailure::violated(failure)),
        None => Err(CaseFailure::violated(format!(
            "{} has no test {test}, or it was skipped",
            file.path
        ))),
    }
}

/// What became of a file's tests. The first case that asks runs it, on servers that are its own.
fn outcomes<R: Runner>(
    context: &SuiteContext,
    runner: R,
    file: &'static TestFile,
) -> Result<Outcomes, CaseFailure> {
    let mut ran = RAN.lock().unwrap_or_else(PoisonError::into_inner);
    let outcomes = ran.entry((R::NAME, file.path)).or_insert_with(|| {
        let prepared = block_on(PATIENCE * 5, runner.prepare(context));
        if let Err(error) = prepared {
            return Err(error.to_string());
        }
        let mut found = Outcomes::new();
        let served = with_servers(context, async |servers| {
            found = runner.run(context, servers, file).await?;
            ensure!(!found.is_empty(), "{} has no tests", file.path);
            Ok(())
        });
        served.map(|()| found).map_err(|error| error.to_string())
    });
    outcomes.clone().map_err(CaseFailure::violated)
}

/// A test's name as that of a case.
fn case_name(test: &str) -> String {
    let words = test
        .split(|char: char| !char.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("_").to_lowercase();
    name.strip_prefix("test_").unwrap_or(&name).to_owned()
}
