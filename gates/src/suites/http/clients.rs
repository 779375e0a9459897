//! OpenAI's own Python client, by the version that is named here. What it is asked to do, and what must come of it,
//! stands in `gates/clients`.

use kakeya_runtime::EngineConfig;
use tokio::process::Command;

use super::packages::{installed, output};
use super::server::{Queue, Served, four, serving};
use crate::context::SuiteContext;
use crate::ensure;
use crate::suite::Case;
use kakeya_suite::{CaseFailure, CaseResult};

/// The package, as pip writes it.
const PACKAGE: &str = "openai==3.54.0";
const SCRIPT: &str = "openai_python.py";

/// The checks of the script that take a server as it is.
const CHECKS: [&str; 15] = [
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
];
/// The one that wants a server with two places.
const BUSY: &str = "a_busy_server_asks_to_come_back";

pub fn cases() -> Vec<Case> {
    let check = |name: &'static str| {
        Case::fast(format!("openai_python.{name}"), move |ctx| {
            serving(ctx, four(ctx), Queue::PATIENT, async |served| {
                run(ctx, served, name).await
            })
        })
    };
    let mut cases: Vec<_> = CHECKS.into_iter().map(check).collect();
    cases.push(Case::fast(format!("openai_python.{BUSY}"), |ctx| {
        let config = EngineConfig {
            capacity: 2,
            ..four(ctx)
        };
        serving(ctx, config, Queue::NONE, async |served| {
            run(ctx, served, BUSY).await
        })
    }));
    cases.push(Case::fast("openai_python_is_asked_everything", everything));
    cases
}

/// Runs one check of the script.
async fn run(context: &SuiteContext, served: &Served, check: &str) -> CaseResult {
    let base_url = format!("{}/v1", served.base_url);
    python(context, &[&base_url, &served.model, check])
        .await
        .map(drop)
}

/// A check that the script has and no case runs would show nothing.
fn everything(context: &SuiteContext) -> CaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listed = runtime.block_on(python(context, &["--list"]))?;
    for name in listed.lines() {
        ensure!(
            name == BUSY || CHECKS.contains(&name),
            "{SCRIPT} has the check {name}, and no case runs it"
        );
    }
    ensure!(
        listed.lines().count() == CHECKS.len() + 1,
        "{SCRIPT} lists {listed}"
    );
    Ok(())
}

/// Runs the script, and answers what it prints.
async fn python(context: &SuiteContext, arguments: &[&str]) -> Result<String, CaseFailure> {
    let packages = installed(&context.scratch()?, PACKAGE).await?;
    let clients = context.goldens().with_file_name("clients");
    let mut command = Command::new("python3");
    command
        .arg(clients.join(SCRIPT))
        .args(arguments)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    output(&mut command).await
}
