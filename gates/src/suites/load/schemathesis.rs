//! Requests that schemathesis makes of the server's own OpenAPI document: as it allows, and as it does not. Each is answered
//! by what the document says, and never by a fault of the server.

use tokio::process::Command;

use crate::context::SuiteContext;
use crate::packages;
use crate::suite::Case;
use crate::suites::http::server::{Queue, four, serving};
use kakeya_suite::CaseResult;

/// The package, as pip writes it.
const PACKAGE: &str = "schemathesis==4.32.5";
/// What each answer is held to.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

pub fn cases() -> Vec<Case> {
    vec![Case::full(
        "requests_made_of_the_openapi_document_are_answered_by_it",
        requests,
    )]
}

fn requests(context: &SuiteContext) -> CaseResult {
    serving(context, four(context), Queue::PATIENT, async |served| {
        let scratch = context.scratch()?;
        let place = packages::once("schemathesis", &scratch, async |place| {
            packages::pip(place, &[PACKAGE]).await
        })
        .await?;
        let mut command: Command = packages::python(&place, &[])?;
        command
            .arg(place.join("bin/schemathesis"))
            .arg("run")
            .arg(format!("{}/openapi.json", served.base_url))
            .args(["--checks", CHECKS])
            .args(["--phases", "coverage,fuzzing"])
            .args(["--max-examples", "100", "--seed", "7"])
            // One worker: Python 3.11's parser, which hypothesis calls, breaks now and then in two threads.
            .args(["--request-timeout", "60", "--workers", "1"])
            .args(["--continue-on-failure", "--no-color"])
            .current_dir(&scratch);
        packages::output(&mut command).await?;
        served.close_what_is_open().await
    })
}
