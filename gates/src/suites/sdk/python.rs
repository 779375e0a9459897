//! The Python SDK: its tests, its types, its wheel and its stubs.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::servers::Servers;
use super::tests::{self, Outcomes, Runner, TestFile};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{PATIENCE, block_on};
use crate::{ensure, packages};
use kakeya_suite::Workspace;
use kakeya_suite::{CaseFailure, CaseResult};

/// What the package and its checks are run with, as pip writes it.
const PACKAGES: [&str; 11] = [
    "grpcio==1.85.1",
    "grpcio-tools==1.85.1",
    "jinja2==3.1.6",
    "mypy==2.4.1",
    "mypy-protobuf==5.1.0",
    "protobuf==7.36.2",
    "pytest==9.2.0",
    "tokenizers==0.23.3",
    "types-grpcio==1.85.0.20261028",
    "types-protobuf==7.35.1.20260906",
    "typing-extensions>=4.12",
];

const FILES: &[TestFile] = &[
    TestFile {
        path: "tests/real/test_aio.py",
        tests: &[
            "test_sessions_run_beside_each_other",
            "test_a_cancelled_stream_stops_and_keeps_the_session",
        ],
    },
    TestFile {
        path: "tests/real/test_chat.py",
        tests: &[
            "test_three_turns_read_each_token_once",
            "test_an_answer_is_that_of_the_http_port",
            "test_an_answer_that_was_cut_short_is_ended_by_the_next_turn",
            "test_characters_come_whole",
            "test_openai_messages_become_tokens",
            "test_the_http_port_says_what_was_wrong",
        ],
    },
    TestFile {
        path: "tests/real/test_sessions.py",
        tests: &[
            "test_appending_in_pieces_is_the_same_session",
            "test_what_a_generation_tells",
            "test_a_generation_says_how_much_it_cannot_see",
            "test_generations_stop_where_they_are_asked_to",
            "test_leaving_a_stream_stops_it_and_keeps_the_session",
            "test_a_deadline_leaves_what_was_emitted",
            "test_copies_go_on_with_the_same_bits",
            "test_bad_values_are_named_and_change_nothing",
            "test_a_history_that_is_too_long_says_what_to_do",
            "test_ids_of_elsewhere_are_not_found",
            "test_an_evicted_session_says_so",
            "test_a_server_that_restarts_in_mid_stream",
        ],
    },
    TestFile {
        path: "tests/wire/test_door.py",
        tests: &[
            "test_nobody_listens",
            "test_a_machine_that_is_not_there_is_named",
            "test_the_wrong_port_is_told_with_the_right_one",
            "test_tls_on_one_side_alone_is_told",
            "test_tls_comes_through_by_its_root",
            "test_certificates_that_are_not_there_are_named",
            "test_a_key_is_asked_for_and_let_in",
            "test_a_server_that_stops_says_what_becomes_of_sessions",
            "test_a_block_ends_without_an_error_of_its_own_where_the_server_is_gone",
            "test_a_deadline_of_nothing_has_passed",
            "test_a_deadline_ends_a_wait",
            "test_a_stream_can_be_left_before_anything_has_come",
            "test_closing_the_client_ends_a_call_of_another_thread",
            "test_a_client_does_not_survive_a_fork_and_says_so",
            "test_asyncio_has_the_same_errors",
            "test_an_asyncio_task_that_is_cancelled_ends_its_call",
        ],
    },
    TestFile {
        path: "tests/wire/test_input.py",
        tests: &[
            "test_what_is_no_token_is_named_with_its_place",
            "test_an_iterator_that_raises_half_way_raises_its_own_error_and_sends_nothing",
            "test_an_iterator_without_end_is_not_read_for_ever",
            "test_a_message_of_more_than_four_mebibytes_is_not_sent",
            "test_options_are_named",
            "test_addresses_are_host_and_port",
            "test_keys_are_what_a_header_can_hold_and_are_not_repeated",
            "test_a_key_comes_from_the_environment",
            "test_a_label_that_utf8_cannot_write_is_refused",
            "test_a_closed_client_says_so_and_closes_again",
        ],
    },
    TestFile {
        path: "tests/wire/test_messages.py",
        tests: &[
            "test_templates_render_as_transformers_does",
            "test_a_template_that_refuses_says_why",
            "test_openai_messages_become_plain_ones",
            "test_messages_that_cannot_be_sent_are_named",
            "test_no_messages_are_refused_before_anybody_is_asked",
            "test_a_folder_without_a_tokenizer_is_named",
        ],
    },
    TestFile {
        path: "tests/wire/test_routes.py",
        tests: &[
            "test_every_call_of_a_session_has_its_route",
            "test_the_same_for_asyncio",
            "test_each_session_has_a_route_of_its_own_and_one_that_is_attached_has_the_one_given",
            "test_routes_are_what_a_header_can_hold",
        ],
    },
    TestFile {
        path: "tests/wire/test_statuses.py",
        tests: &[
            "test_every_status_has_a_type_of_its_own",
            "test_only_what_changes_nothing_is_repeated",
            "test_a_snapshot_is_bytes",
        ],
    },
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = tests::cases(Pytest, FILES);
    cases.push(Case::fast("python.every_test_file_is_run", every_file));
    cases.push(Case::fast("python.types_are_strict", |context| {
        checked(context, async |sdk| {
            let mut mypy = sdk.python()?;
            mypy.args(["-m", "mypy", "--no-incremental", "--cache-dir=/dev/null"]);
            packages::output(&mut mypy).await.map(drop)
        })
    }));
    cases.push(Case::fast(
        "python.stubs_are_what_the_contract_gives",
        |context| {
            checked(context, async |sdk| {
                let mut generate = sdk.python()?;
                generate.args(["generate.py", "--check"]);
                packages::output(&mut generate).await.map(drop)
            })
        },
    ));
    cases.push(Case::fast(
        "python.the_wheel_builds_and_is_typed",
        |context| {
            let scratch = context.scratch()?;
            checked(context, async |sdk| wheel(&sdk, &scratch).await)
        },
    ));
    cases
}

/// The package in the checkout, and what it needs.
struct Sdk {
    folder: PathBuf,
    packages: PathBuf,
}

impl Sdk {
    async fn of(context: &SuiteContext) -> Result<Self, CaseFailure> {
        let scratch = context.scratch()?;
        let packages = packages::once("sdk-python", &scratch, async |place| {
            packages::pip(place, &PACKAGES).await
        })
        .await?;
        Ok(Self {
            folder: folder(context)?,
            packages,
        })
    }

    /// Python in the package's folder, with what it needs and itself.
    fn python(&self) -> Result<Command, CaseFailure> {
        let mut python = packages::python(&self.packages, &[&self.folder.join("src")])?;
        python.current_dir(&self.folder);
        Ok(python)
    }
}

fn folder(context: &SuiteContext) -> Result<PathBuf, CaseFailure> {
    let workspace = Workspace::find(context.goldens())?;
    Ok(workspace.root().join("sdks/python"))
}

/// Runs a check that needs no server.
fn checked(context: &SuiteContext, check: impl AsyncFnOnce(Sdk) -> CaseResult) -> CaseResult {
    block_on(PATIENCE * 5, async { check(Sdk::of(context).await?).await })
}

#[derive(Clone, Copy)]
struct Pytest;

impl Runner for Pytest {
    const NAME: &'static str = "python";

    async fn prepare(self, context: &SuiteContext) -> CaseResult {
        Sdk::of(context).await.map(drop)
    }

    async fn run(
        self,
        context: &SuiteContext,
        servers: &Servers,
        file: &'static TestFile,
    ) -> Result<Outcomes, CaseFailure> {
        let mut pytest = Sdk::of(context).await?.python()?;
        pytest.args(["-m", "pytest", "-q", "-rA", "--color=no", file.path]);
        servers.tell(&mut pytest);
        let output = packages::ended(&mut pytest).await?;
        tests::of_pytest(file, &output)
    }
}

/// A file that no case runs would show nothing.
fn every_file(context: &SuiteContext) -> CaseResult {
    let tests = folder(context)?.join("tests");
    for kind in ["wire", "real"] {
        for entry in std::fs::read_dir(tests.join(kind))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let path = format!("tests/{kind}/{name}");
            ensure!(
                !name.starts_with("test_") || FILES.iter().any(|file| file.path == path),
                "{path} is run by no case"
            );
        }
    }
    Ok(())
}

/// Builds the wheel, installs it, and asks it for its version.
async fn wheel(sdk: &Sdk, scratch: &Path) -> CaseResult {
    let mut build = Command::new("python3");
    build
        .args(["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"])
        .args([scratch, &sdk.folder]);
    packages::output(&mut build).await?;
    let wheel = scratch.join("kakeya-0.1.0-py3-none-any.whl");
    ensure!(wheel.is_file(), "no wheel at {}", wheel.display());
    let installed = scratch.join("installed");
    let mut install = Command::new("python3");
    install
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
        .args([&installed, &wheel]);
    packages::output(&mut install).await?;
    let mut python = packages::python(&sdk.packages, &[&installed])?;
    let code = "import kakeya, kakeya.aio, kakeya.chat, pathlib; \
                print(kakeya.__version__, (pathlib.Path(kakeya.__file__).parent / 'py.typed').is_file())";
    python.current_dir(scratch).args(["-c", code]);
    let said = packages::output(&mut python).await?;
    ensure!(
        said.trim() == "0.1.0 True",
        "the installed wheel says {said}"
    );
    Ok(())
}
