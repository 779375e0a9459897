//! OpenAI's own npm package, by the version that is named here, as [`super::clients`] does with the Python one.

use tokio::process::Command;

use super::server::{Queue, Served, four, serving};
use crate::context::SuiteContext;
use crate::ensure;
use crate::packages;
use crate::suite::Case;
use kakeya_suite::{CaseFailure, CaseResult};

/// The package, as npm writes it.
const PACKAGE: &str = "openai@6.30.1";
const SCRIPT: &str = "openai_node.mjs";

/// The checks of the script.
const CHECKS: [&str; 6] = [
    "models",
    "streaming_equals_whole",
    "the_stream_helper",
    "an_aborted_stream_ends_and_the_server_goes_on",
    "completions",
    "errors",
];

pub fn cases() -> Vec<Case> {
    let check = |name: &'static str| {
        Case::fast(format!("openai_node.{name}"), move |ctx| {
            serving(ctx, four(ctx), Queue::PATIENT, async |served| {
                run(ctx, served, name).await
            })
        })
    };
    let mut cases: Vec<_> = CHECKS.into_iter().map(check).collect();
    cases.push(Case::fast("openai_node_is_asked_everything", everything));
    cases
}

/// Runs one check of the script.
async fn run(context: &SuiteContext, served: &Served, check: &str) -> CaseResult {
    let base_url = format!("{}/v1", served.base_url);
    node(context, &[&base_url, &served.model, check])
        .await
        .map(drop)
}

/// A check that the script has and no case runs would show nothing.
fn everything(context: &SuiteContext) -> CaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listed = runtime.block_on(node(context, &["--list"]))?;
    let listed: Vec<_> = listed.lines().collect();
    ensure!(
        listed == CHECKS,
        "{SCRIPT} has the checks {listed:?}, and the cases run {CHECKS:?}"
    );
    Ok(())
}

/// Runs the script, and answers what it prints.
async fn node(context: &SuiteContext, arguments: &[&str]) -> Result<String, CaseFailure> {
    let scratch = context.scratch()?;
    let place = packages::once("openai-node", &scratch, async |place| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-save", "--no-audit", "--no-fund"])
            .args(["--ignore-scripts", "--prefix"])
            .arg(place)
            .arg(PACKAGE);
        packages::output(&mut npm).await.map(drop)
    })
    .await?;
    let clients = context.goldens().with_file_name("clients");
    let mut command = Command::new("node");
    command
        .arg(clients.join(SCRIPT))
        .args(arguments)
        .env("OPENAI_NODE", place);
    packages::output(&mut command).await
}
