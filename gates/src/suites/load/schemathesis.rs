//! Requests that schemathesis makes of the server's own OpenAPI document: as it allows, and as it does not. Each is answered
//! by what the document says, and never by a fault of the server.

use std::sync::Arc;

use kakeya_core::Limits;
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use tokio::process::Command;

use crate::context::SuiteContext;
use crate::packages;
use crate::suite::Case;
use crate::suites::http::server::{Queue, four, serving_behind};
use kakeya_suite::CaseResult;

/// The package, as pip writes it.
const PACKAGE: &str = "schemathesis==4.32.5";
/// What each answer is held to.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

/// The most tokens that a request may generate: as many as the document's example asks for.
const MOST_TOKENS: u32 = 16;

pub fn cases() -> Vec<Case> {
    vec![Case::full(
        "requests_made_of_the_openapi_document_are_answered_by_it",
        requests,
    )]
}

fn requests(context: &SuiteContext) -> CaseResult {
    // Many of the requests generate, and may ask for as much as they like.
    let limits = Limits {
        max_new_tokens: Some(MOST_TOKENS),
        ..Limits::default()
    };
    let guard = Guard {
        access: Arc::new(Access::open(limits)),
        ..Guard::default()
    };
    let config = four(context);
    serving_behind(context, config, Queue::PATIENT, guard, async |served| {
        let scratch = context.scratch()?;
        let place = packages::once("schemathesis", &scratch, async |place| {
            packages::pip(place, &[PACKAGE]).await
        })
        .await?;
        let hooks = context.goldens().with_file_name("clients");
        let mut command: Command = packages::python(&place, &[&hooks])?;
        command
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .env("KAKEYA_MODEL", &served.model)
            .arg(place.join("bin/schemathesis"))
            .arg("run")
            .arg(format!("{}/openapi.json", served.base_url))
            .args(["--checks", CHECKS])
            .args(["--phases", "examples,coverage,fuzzing,stateful"])
            .args(["--max-examples", "100", "--seed", "7"])
            // One worker: Python 3.11's parser, which hypothesis calls, breaks now and then in two threads.
            .args(["--request-timeout", "60", "--workers", "1"])
            .args(["--continue-on-failure", "--no-color"])
            .current_dir(&scratch);
        packages::output(&mut command).await?;
        served.close_what_is_open().await
    })
}
