//! The page at `/`, in a browser: what a person does there, against the real server.

use std::path::PathBuf;
use std::sync::Arc;

use kakeya_core::Limits;
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{FreshKey, KeyRing, parse_file};

use super::servers::{Servers, config};
use super::tests::{self, Outcomes, Runner, TestFile};
use crate::context::SuiteContext;
use crate::packages;
use crate::suite::Case;
use crate::suites::http::server::{Queue, Served};
use kakeya_suite::{CaseFailure, CaseResult, Workspace};

/// What drives the browser, as pip writes it. The browser itself is the system's.
const PACKAGES: [&str; 2] = ["playwright==1.65.2", "pytest==9.2.0"];

const FILES: &[TestFile] = &[TestFile {
    path: "test_page.py",
    tests: &[
        "test_three_turns_are_one_session_and_its_answers_those_of_the_chat_route",
        "test_the_cache_stays_the_same_while_the_history_grows",
        "test_a_reply_that_is_stopped_keeps_what_was_said",
        "test_a_reload_keeps_the_conversation",
        "test_a_tab_that_slept_for_an_hour_goes_on",
        "test_a_server_that_is_gone_is_named_and_nothing_typed_is_lost",
        "test_another_chat_looked_at_while_a_reply_comes_doubles_nothing",
        "test_what_is_lost_on_the_way_is_said_once",
        "test_a_session_that_cannot_be_revived_is_as_it_was",
        "test_the_end_of_another_session_is_not_this_ones",
        "test_settings_that_cannot_be_are_shown_and_nothing_is_sent",
        "test_a_message_that_is_too_long_says_so_and_stays",
        "test_a_key_is_asked_for_and_kept_for_the_tab",
        "test_what_is_said_is_shown_as_it_is",
        "test_sessions_of_others_are_listed_shown_and_continued",
        "test_a_keyboard_is_enough",
        "test_a_phone_is_enough",
    ],
}];

pub(super) fn cases() -> Vec<Case> {
    tests::cases(Browser, FILES)
}

#[derive(Clone, Copy)]
struct Browser;

impl Browser {
    async fn packages(context: &SuiteContext) -> Result<PathBuf, CaseFailure> {
        let scratch = context.scratch()?;
        packages::once("sdk-page", &scratch, async |place| {
            packages::pip(place, &PACKAGES).await
        })
        .await
    }
}

impl Runner for Browser {
    const NAME: &'static str = "page";

    async fn prepare(self, context: &SuiteContext) -> CaseResult {
        Self::packages(context).await.map(drop)
    }

    async fn run(
        self,
        context: &SuiteContext,
        servers: &Servers,
        file: &'static TestFile,
    ) -> Result<Outcomes, CaseFailure> {
        let workspace = Workspace::find(context.goldens())?;
        let mut pytest = packages::python(&Self::packages(context).await?, &[])?;
        pytest
            .current_dir(workspace.root().join("engine/server/tests/page"))
            .args(["-m", "pytest", "-q", "-rA", "--color=no"])
            .args(["-p", "no:cacheprovider", file.path]);
        servers.tell(&mut pytest);
        let key = FreshKey::new("page")?;
        let ring = KeyRing::new(parse_file(&key.lines())?, Limits::default());
        let guard = Guard {
            access: Arc::new(Access::Keys(ring)),
            ..Guard::default()
        };
        let locked = Served::start(context, config(context), Queue::PATIENT, guard).await?;
        pytest
            .env("KAKEYA_TEST_LOCKED_HTTP", &locked.base_url)
            .env("KAKEYA_TEST_LOCKED_HTTP_KEY", key.secret());
        let output = packages::ended(&mut pytest).await;
        locked.stop().await?;
        tests::of_pytest(file, &output?)
    }
}
