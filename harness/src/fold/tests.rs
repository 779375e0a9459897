use kakeya_evidence::Rounding;

use super::*;

const LIMIT: Duration = Duration::from_secs(300);
const MODES: FloatModes = FloatModes {
    flush_to_zero: false,
    denormals_are_zero: false,
    rounding: Rounding::NearestEven,
};

fn expected(names: &[&str]) -> Vec<Expected> {
    names
        .iter()
        .map(|name| Expected {
            name: (*name).into(),
            tier: "fast".into(),
            history: None,
        })
        .collect()
}

fn backend(isa: &str) -> Event {
    Event::Computed {
        backend: Backend {
            device: "cpu".into(),
            isa: isa.into(),
            threads: 2,
            numerics_version: 1,
        },
    }
}

fn started(case: &str) -> Event {
    Event::Started { case: case.into() }
}

fn finished(case: &str, outcome: CaseOutcome) -> Event {
    Event::Finished {
        case: case.into(),
        outcome,
        duration_seconds: 0.5,
        forward_passes: 10,
        comparisons: Vec::new(),
        message: (outcome != CaseOutcome::Passed).then(|| "why".to_owned()),
    }
}

fn done(forward_passes: u64) -> Event {
    Event::Done {
        forward_passes,
        float_modes: MODES,
        figures: vec![Figure {
            name: "tokens".into(),
            value: 7.0,
            unit: "tokens".into(),
        }],
    }
}

fn passed(case: &str) -> [Event; 2] {
    [started(case), finished(case, CaseOutcome::Passed)]
}

fn fold(names: &[&str], lines: &[String], end: &ProcessEnd) -> SuiteRecord {
    let mut fold = Fold::new("inv3", &expected(names));
    for (second, line) in lines.iter().enumerate() {
        fold.line(line, Duration::from_secs(second as u64));
    }
    let at = Duration::from_secs(lines.len() as u64);
    fold.end(end, at, LIMIT, "")
}

fn lines(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| event.to_line().unwrap())
        .collect()
}

fn outcomes(record: &SuiteRecord) -> Vec<Outcome> {
    record.cases.iter().map(|case| case.outcome).collect()
}

fn detail(record: &SuiteRecord) -> &str {
    record.run.detail.as_deref().unwrap_or_default()
}

/// A good run of the cases `a` and `b`.
fn good() -> Vec<Event> {
    let [a0, a1] = passed("a");
    let [b0, b1] = passed("b");
    vec![
        Event::Up { float_modes: MODES },
        a0,
        a1,
        backend("avx2"),
        b0,
        b1,
        done(21),
    ]
}

#[test]
fn a_good_run_is_complete() {
    let record = fold(&["a", "b"], &lines(&good()), &ProcessEnd::Exited(0));
    assert_eq!(outcomes(&record), [Outcome::Passed, Outcome::Passed]);
    assert_eq!(record.run.ending, SuiteEnding::Completed);
    assert_eq!(record.run.detail, None);
    assert_eq!(record.run.forward_passes, 21);
    assert_eq!(
        record.run.backend.map(|backend| backend.isa),
        Some("avx2".into())
    );
    assert_eq!(record.run.float_modes, Some(MODES));
    assert_eq!(record.measurements[0].suite, "inv3");
    assert!(record.cases.iter().all(|case| case.message.is_none()));
}

#[test]
fn failed_and_skipped_cases_keep_their_reason() {
    let events = [
        started("a"),
        finished("a", CaseOutcome::Failed),
        started("b"),
        finished("b", CaseOutcome::Skipped),
        done(20),
    ];
    let record = fold(&["a", "b"], &lines(&events), &ProcessEnd::Exited(0));
    assert_eq!(outcomes(&record), [Outcome::Failed, Outcome::Skipped]);
    assert_eq!(record.run.ending, SuiteEnding::Completed);
    assert_eq!(record.cases[0].message.as_deref(), Some("why"));
}

#[test]
fn a_killed_process_leaves_one_crashed_case_and_the_rest_not_run() {
    let mut lines = lines(&good());
    lines.truncate(2);
    let record = fold(&["a", "b"], &lines, &ProcessEnd::Signalled(9));
    assert_eq!(outcomes(&record), [Outcome::Crashed, Outcome::NotRun]);
    assert_eq!(record.run.ending, SuiteEnding::Crashed);
    assert_eq!(
        record.cases[0].message.as_deref(),
        Some("while it ran, the suite's process was killed by signal 9")
    );
    assert_eq!(record.cases[0].duration_seconds, 1.0);
    assert_eq!(
        record.cases[1].message.as_deref(),
        Some("before it ran, the suite's process was killed by signal 9")
    );
}

#[test]
fn a_hanging_case_is_timed_out_and_what_passed_before_stays() {
    let mut lines = lines(&good());
    lines.truncate(5);
    let record = fold(&["a", "b", "c"], &lines, &ProcessEnd::TimedOut);
    assert_eq!(
        outcomes(&record),
        [Outcome::Passed, Outcome::TimedOut, Outcome::NotRun]
    );
    assert_eq!(record.run.ending, SuiteEnding::TimedOut);
    assert_eq!(detail(&record), "passed its limit of 300 s");
    assert_eq!(record.run.forward_passes, 10);
}

#[test]
fn an_interrupted_case_did_not_run() {
    let mut lines = lines(&good());
    lines.truncate(2);
    let record = fold(&["a", "b"], &lines, &ProcessEnd::Interrupted);
    assert_eq!(outcomes(&record), [Outcome::NotRun, Outcome::NotRun]);
    assert_eq!(record.run.ending, SuiteEnding::Interrupted);
}

#[test]
fn leaving_quietly_is_a_crash_whatever_the_status() {
    for (lines, status, reason) in [
        (vec![], 0, "exited without saying that it was done"),
        (vec![], 101, "exited with status 101"),
        (
            lines(&[done(0)]),
            0,
            "said it was done, but left out 2 cases",
        ),
        (lines(&good()), 1, "exited with status 1"),
    ] {
        let record = fold(&["a", "b"], &lines, &ProcessEnd::Exited(status));
        assert_eq!(record.run.ending, SuiteEnding::Crashed, "{reason}");
        assert_eq!(detail(&record), reason);
    }
}

#[test]
fn a_report_cut_short_spoils_the_suite() {
    let mut lines = lines(&good());
    let last = lines.last_mut().unwrap();
    last.truncate(last.len() / 2);
    let record = fold(&["a", "b"], &lines, &ProcessEnd::Exited(0));
    assert_eq!(record.run.ending, SuiteEnding::Crashed);
    assert!(
        detail(&record).starts_with("could not be believed: a report does not read: "),
        "{}",
        detail(&record)
    );
}

#[test]
fn other_output_is_not_a_report() {
    let mut lines = lines(&good());
    lines.insert(1, "loading weights".into());
    lines[2].insert_str(0, "50%");
    let record = fold(&["a", "b"], &lines, &ProcessEnd::Exited(0));
    assert_eq!(record.run.ending, SuiteEnding::Completed);
}

#[test]
fn reports_out_of_order_are_not_believed() {
    let with = |change: fn(&mut Vec<Event>)| {
        let mut events = good();
        change(&mut events);
        let record = fold(&["a", "b"], &lines(&events), &ProcessEnd::Exited(0));
        assert_eq!(record.run.ending, SuiteEnding::Crashed);
        detail(&record).replacen("could not be believed: ", "", 1)
    };
    // A case that ran again after it had failed: a retry is not a pass.
    assert_eq!(
        with(|events| {
            events[2] = finished("a", CaseOutcome::Failed);
            events.splice(3..3, passed("a"));
        }),
        "it ran a twice"
    );
    assert_eq!(
        with(|events| {
            events.remove(1);
        }),
        "it finished a, which was not running"
    );
    assert_eq!(
        with(|events| {
            events.remove(2);
        }),
        "it started b while a was running"
    );
    assert_eq!(
        with(|events| events.splice(1..1, passed("z")).for_each(drop)),
        "it reported z, which it was not asked to run"
    );
    assert_eq!(
        with(|events| events.extend(passed("a"))),
        "it reported more after saying that it was done"
    );
    assert_eq!(
        with(|events| {
            events[6] = done(3);
        }),
        "it counts 3 forward passes, and its cases 20"
    );
    assert_eq!(
        with(|events| events.insert(5, backend("scalar"))),
        "its backend changed while it ran"
    );
    assert_eq!(
        with(|events| {
            events[0] = Event::Up {
                float_modes: FloatModes {
                    flush_to_zero: true,
                    ..MODES
                },
            };
        }),
        "its floating-point modes changed while it ran"
    );
}

#[test]
fn a_retry_does_not_turn_a_failure_into_a_pass() {
    let mut events = good();
    events[2] = finished("a", CaseOutcome::Failed);
    events.splice(3..3, passed("a"));
    let record = fold(&["a", "b"], &lines(&events), &ProcessEnd::Exited(0));
    assert_eq!(outcomes(&record)[0], Outcome::Failed);
}

#[test]
fn last_words_are_kept_with_the_process() {
    let fold = Fold::new("inv3", &expected(&["a"]));
    let end = ProcessEnd::Signalled(6);
    let record = fold.end(&end, LIMIT, LIMIT, "memory allocation failed\n");
    assert_eq!(
        detail(&record),
        "was killed by signal 6; last words: memory allocation failed"
    );
}

#[test]
fn a_process_that_never_started_ran_nothing() {
    let end = ProcessEnd::NotStarted("no such file".into());
    let record = fold(&["a"], &[], &end);
    assert_eq!(outcomes(&record), [Outcome::NotRun]);
    assert_eq!(record.run.ending, SuiteEnding::NotStarted);
}

#[test]
fn what_is_shown_follows_the_reports() {
    let mut fold = Fold::new("inv3", &expected(&["a"]));
    let mut show = |event: &Event| fold.line(&event.to_line().unwrap(), Duration::ZERO);
    let [start, end] = passed("a");
    assert_eq!(show(&start), Some(Shown::Started("a".into())));
    assert_eq!(show(&start), None);
    let shown = show(&end);
    let Some(Shown::Finished(case)) = shown else {
        panic!("{shown:?}");
    };
    assert_eq!(case.outcome, Outcome::Passed);
}
