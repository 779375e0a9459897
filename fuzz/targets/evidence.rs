//! Any bytes as a record, as an envelope beside a good record, and as a coverage report: each is refused, or read.

#![no_main]

use std::path::Path;

use kakeya_evidence::coverage;
use kakeya_evidence::policy::CoveragePolicy;
use libfuzzer_sys::fuzz_target;

#[path = "../../harness/evidence/tests/support/good.rs"]
mod good;
#[path = "../../harness/evidence/tests/verify/world.rs"]
#[expect(dead_code, reason = "the targets use a part of it")]
mod world;

use kakeya_evidence::verify::Record;
use world::World;

thread_local! {
    static GOOD: (World, Record) = {
        let world = World::good();
        let record = world.record();
        (world, record)
    };
}

fuzz_target!(|bytes: &[u8]| GOOD.with(|(world, good)| judge(world, good, bytes)));

fn judge(world: &World, good: &Record, bytes: &[u8]) {
    if good.bytes.as_deref() != Ok(bytes) {
        let mut record = good.clone();
        record.bytes = Ok(bytes.to_vec());
        let report = world.verify_these(&[record]);
        assert!(!report.accepted, "accepted: {report:?}");
    }
    let mut record = good.clone();
    record.envelope = Some(bytes.to_vec());
    let report = world.verify_these(&[record]);
    assert!(!report.accepted, "the envelope was accepted: {report:?}");
    let policy = CoveragePolicy { module: Vec::new() };
    if let Ok(outcome) = coverage::measure(bytes, Path::new("/checkout"), &policy, &|_| None) {
        assert!(!outcome.problems.is_empty(), "a policy of no modules holds");
    }
}
