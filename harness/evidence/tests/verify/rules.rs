//! What the verifier accepts, what it says, and what waivers change.

use crate::good;
use crate::world::{World, a_waiver, change};
use kakeya_evidence::policy::Waiver;
use kakeya_evidence::verify::faults_of_the_run;
use kakeya_evidence::{ChangeKind, CommitFrom, Counts, Evidence, Outcome, canonical};

fn skip(evidence: &mut Evidence) {
    evidence.cases[3].outcome = Outcome::Skipped;
    evidence.cases[3].message = Some("no such unit".into());
    evidence.exit_status = Some(1);
    evidence.counts = Counts::of(&evidence.cases);
    good::reseal(evidence);
}

#[test]
fn all_reasons_are_told_not_the_first() {
    let mut world = World::good();
    world.evidence.host.os = "macos".into();
    world.evidence.models[0].sha256 = "0".repeat(64);
    skip(&mut world.evidence);
    assert_eq!(world.codes(), ["EV-046", "EV-081", "EV-100", "EV-105"]);
}

#[test]
fn a_waiver_excuses_its_case_and_is_shown() {
    let mut world = World::good();
    skip(&mut world.evidence);
    assert!(!world.verify().accepted);
    world.policy.waivers.waiver.push(a_waiver());
    let report = world.verify();
    assert!(report.accepted, "{:#?}", report.findings);
    assert_eq!(
        report.findings[0].waived.as_deref(),
        Some("W-1: known (someone)")
    );
}

#[test]
fn an_expired_waiver_excuses_nothing() {
    let mut world = World::good();
    skip(&mut world.evidence);
    world.policy.waivers.waiver.push(Waiver {
        expires: "2026-01-01".parse().unwrap(),
        ..a_waiver()
    });
    assert_eq!(world.codes(), ["EV-205", "EV-046"]);
}

#[test]
fn a_waiver_for_a_policy_change_lets_it_be_judged_by_the_base() {
    let mut world = World::good();
    world.checkout.edited = vec!["gates/ga.toml".into()];
    world.policy.waivers.waiver.push(Waiver {
        code: "EV-200".into(),
        subject: String::new(),
        ..a_waiver()
    });
    assert!(world.verify().accepted);
}

#[test]
fn after_a_rebase_the_tree_decides_and_not_the_commit() {
    let mut world = World::good();
    world.checkout.commits.clear();
    assert!(world.verify().accepted);
    // A stamped commit has no git to vouch for the tree.
    let source = &mut world.evidence.source;
    source.commit_from = Some(CommitFrom::Build);
    source.commit_absent_reason = Some("git does not run".into());
    source.dirty = None;
    good::reseal(&mut world.evidence);
    assert_eq!(world.codes(), ["EV-066"]);
}

#[test]
fn a_copied_tree_of_a_known_commit_is_accepted() {
    let mut world = World::good();
    let source = &mut world.evidence.source;
    source.commit_from = Some(CommitFrom::Build);
    source.commit_absent_reason = Some("git does not run".into());
    source.dirty = None;
    good::reseal(&mut world.evidence);
    assert!(world.verify().accepted);
}

#[test]
fn an_older_record_beside_a_fresh_one_is_passed_over() {
    let mut old = World::good();
    old.evidence.source.tree_sha256 = "bb".repeat(32);
    old.evidence.run_id = "0".repeat(32);
    good::reseal(&mut old.evidence);
    let mut world = World::good();
    world.others.push(old.record());
    assert!(world.verify().accepted);
}

#[test]
fn a_partial_run_beside_a_whole_one_takes_nothing_from_it() {
    let mut part = World::good();
    part.evidence.selection.partial = true;
    part.evidence.run_id = "0".repeat(32);
    good::reseal(&mut part.evidence);
    part.file_name = format!("{}.json", canonical::stem(&part.evidence));
    let mut world = World::good();
    world.others.push(part.record());
    assert!(world.verify().accepted, "{:#?}", world.verify().findings);
    assert!(!world.verify_these(&[part.record()]).accepted);
}

#[test]
fn a_failed_run_and_a_good_one_of_the_same_tree_are_no_pass() {
    let mut failed = World::good();
    skip(&mut failed.evidence);
    failed.evidence.cases[3].outcome = Outcome::Failed;
    failed.evidence.counts = Counts::of(&failed.evidence.cases);
    failed.evidence.run_id = "0".repeat(32);
    good::reseal(&mut failed.evidence);
    failed.file_name = format!("{}.json", canonical::stem(&failed.evidence));
    let mut world = World::good();
    world.others.push(failed.record());
    assert_eq!(world.codes(), ["EV-047", "EV-054"]);
}

#[test]
fn nothing_at_all_is_no_evidence() {
    let report = World::good().verify_these(&[]);
    assert!(!report.accepted);
    assert_eq!(report.findings[0].code, "EV-213");
}

#[test]
fn a_full_run_has_what_a_fast_one_is_asked_for() {
    let mut world = World::good();
    world.evidence.tier = "full".into();
    good::reseal(&mut world.evidence);
    assert!(world.verify().accepted);
}

#[test]
fn a_suite_of_another_mode_keeps_that_ones_numerics() {
    let mut world = World::good();
    let suite = &mut world.evidence.suites[1];
    suite.backend.as_mut().unwrap().numerics_version = 10_001;
    let own = (suite.id.clone(), 10_001);
    // The suites do not agree, so the run as a whole says nothing.
    world.evidence.backend = None;
    good::reseal(&mut world.evidence);
    assert_eq!(world.codes(), ["EV-092"]);
    world.policy.request.numerics_of.extend([own]);
    assert_eq!(world.codes(), [""; 0]);
}

#[test]
fn coverage_is_asked_for_where_the_policy_asks() {
    let mut world = World::good();
    world.policy.request.coverage = false;
    world.evidence.coverage = None;
    good::reseal(&mut world.evidence);
    assert!(world.verify().accepted);
}

#[test]
fn a_run_knows_of_itself_what_no_verifier_will_accept() {
    let codes = |evidence: &Evidence| -> Vec<_> {
        let faults = faults_of_the_run(evidence);
        faults
            .iter()
            .map(|fault| fault.code().to_string())
            .collect()
    };
    let mut evidence = good::good();
    assert!(codes(&evidence).is_empty());
    evidence.source.dirty = Some(true);
    evidence.source.changes = vec![change("src/a.rs", ChangeKind::Untracked)];
    evidence.source.tree_sha256_at_end = Some("0".repeat(64));
    evidence.models[0].sha256_at_end = Some("1".repeat(64));
    assert_eq!(codes(&evidence), ["EV-064", "EV-063", "EV-105"]);
}
