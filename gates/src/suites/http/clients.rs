//! OpenAI's own Python client, by the version that is named here. What it is asked to do, and what must come of it,
//! stands in `gates/clients`.

use kakeya_runtime::EngineConfig;

use super::server::{Queue, Served, four, serving};
use crate::context::SuiteContext;
use crate::ensure;
use crate::packages;
use crate::suite::Case;
use kakeya_suite::{CaseFailure, CaseResult};

/// The packages, as pip writes them.
const PACKAGES: [&str; 2] = ["openai==3.54.0", "jsonschema==4.26.0"];

/// A script, the checks of it that take a server as it is, and the one that wants a server with two places.
struct Script {
    file: &'static str,
    name: &'static str,
    checks: &'static [&'static str],
    busy: Option<&'static str>,
}

const SCRIPTS: [Script; 2] = [
    Script {
        file: "openai_python.py",
        name: "openai_python",
        checks: &[
            "models",
            "chat",
            "streaming_equals_whole",
            "the_stream_helper",
            "cached_prompts",
            "limits_of_length",
            "stop_strings",
            "several_answers",
            "seeds",
            "completions",
            "probabilities",
            "penalties",
            "errors",
            "embeddings_are_not_served",
            "asynchronous",
        ],
        busy: Some("a_busy_server_asks_to_come_back"),
    },
    Script {
        file: "openai_structured.py",
        name: "openai_structured",
        checks: &[
            "json_objects_parse",
            "schemas_are_kept_to",
            "the_parse_helper",
            "forms_go_with_all_else",
            "neighbours_change_nothing",
            "tools_that_are_required",
            "a_tool_that_is_named",
            "tools_in_a_stream",
            "tools_that_may_be_called",
            "the_history_of_calls_is_told",
            "what_cannot_be_kept_to_is_refused",
            "hostile_schemas_are_bounded",
        ],
        busy: None,
    },
];

pub fn cases() -> Vec<Case> {
    SCRIPTS.iter().flat_map(cases_of).collect()
}

fn cases_of(script: &'static Script) -> Vec<Case> {
    let name = |check: &str| format!("{}.{check}", script.name);
    let case = |check: &'static str| {
        Case::fast(name(check), move |ctx| {
            serving(ctx, four(ctx), Queue::PATIENT, async |served| {
                run(ctx, script, served, check).await
            })
        })
    };
    let mut cases: Vec<_> = script.checks.iter().copied().map(case).collect();
    if let Some(busy) = script.busy {
        cases.push(Case::fast(name(busy), move |ctx| {
            let config = EngineConfig {
                capacity: 2,
                ..four(ctx)
            };
            serving(ctx, config, Queue::NONE, async |served| {
                run(ctx, script, served, busy).await
            })
        }));
    }
    let everything_is_asked = format!("{}_is_asked_everything", script.name);
    cases.push(Case::fast(everything_is_asked, move |ctx| {
        everything(ctx, script)
    }));
    cases
}

/// Runs one check of a script.
async fn run(context: &SuiteContext, script: &Script, served: &Served, check: &str) -> CaseResult {
    let base_url = format!("{}/v1", served.base_url);
    python(context, script, &[&base_url, &served.model, check])
        .await
        .map(drop)
}

/// A check that a script has and no case runs would show nothing.
fn everything(context: &SuiteContext, script: &Script) -> CaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listed = runtime.block_on(python(context, script, &["--list"]))?;
    for name in listed.lines() {
        ensure!(
            script.busy == Some(name) || script.checks.contains(&name),
            "{} has the check {name}, and no case runs it",
            script.file
        );
    }
    ensure!(
        listed.lines().count() == script.checks.len() + usize::from(script.busy.is_some()),
        "{} lists {listed}",
        script.file
    );
    Ok(())
}

/// Runs a script, and answers what it prints.
async fn python(
    context: &SuiteContext,
    script: &Script,
    arguments: &[&str],
) -> Result<String, CaseFailure> {
    let scratch = context.scratch()?;
    let place = packages::once("openai-python", &scratch, async |place| {
        packages::pip(place, &PACKAGES).await
    })
    .await?;
    let clients = context.goldens().with_file_name("clients");
    let mut command = packages::python(&place, &[])?;
    command.arg(clients.join(script.file)).args(arguments);
    packages::output(&mut command).await
}
