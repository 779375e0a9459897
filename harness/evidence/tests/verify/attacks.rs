//! Every code has an attack that is built from a good run and rejected by it. A code without one fails the last test.

use std::collections::BTreeSet;

use crate::good;
use crate::world::{World, a_waiver, change, key, secret};
use kakeya_evidence::policy::Waiver;
use kakeya_evidence::verify::{Page, Rewritten};
use kakeya_evidence::{
    ChangeKind, CommitFrom, Content, Counts, Ending, Evidence, Holds, Outcome, Place, SuiteEnding,
    canonical,
};

/// An attack: the code that must reject it, what it is, and how it is made.
struct Attack {
    code: u16,
    name: &'static str,
    make: fn(&mut World),
}

/// The harness would have written the changed record so: verdicts and digest fit it.
fn written(world: &mut World, change: impl FnOnce(&mut Evidence)) {
    change(&mut world.evidence);
    good::reseal(&mut world.evidence);
    world.file_name = format!("{}.json", canonical::stem(&world.evidence));
}

/// As [`written`], with the verdicts and counts left as they were.
fn sealed(world: &mut World, change: impl FnOnce(&mut Evidence)) {
    change(&mut world.evidence);
    canonical::seal(&mut world.evidence);
}

fn outcome(world: &mut World, outcome: Outcome) {
    written(world, |evidence| {
        let case = &mut evidence.cases[3];
        case.outcome = outcome;
        case.message = Some("so".into());
        evidence.exit_status = Some(1);
        evidence.counts = Counts::of(&evidence.cases);
    });
}

fn text(world: &mut World, from: &'static str, to: &'static str) {
    world.text = Box::new(move |text| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
}

fn waiver(world: &mut World, change: fn(&mut Waiver)) {
    let mut waiver = a_waiver();
    change(&mut waiver);
    world.policy.waivers.waiver.push(waiver);
}

macro_rules! attacks {
    ($($code:literal $name:literal $make:expr;)*) => {
        const ATTACKS: &[Attack] = &[$(Attack { code: $code, name: $name, make: $make },)*];
    };
}

attacks! {
    1 "an unreadable file" |w| w.unreadable = true;
    2 "two hundred megabytes" |w| w.text = Box::new(|text| text + &" ".repeat(200 << 20));
    3 "truncated JSON" |w| w.text = Box::new(|text| text[..text.len() / 2].to_owned());
    4 "a NaN" |w| text(w, "640.5", "NaN");
    4 "a number beyond all numbers" |w| text(w, "640.5", "1e999");
    5 "duplicate keys" |w| text(w, "\"exit_status\": 0", "\"exit_status\": 1, \"exit_status\": 0");
    6 "an unknown major version" |w| text(w, "\"2.0\"", "\"9.0\"");
    7 "an unknown outcome" |w| text(w, "\"outcome\": \"passed\"", "\"outcome\": \"fine\"");
    8 "an unknown field" |w| text(w, "\"tier\":", "\"verified\": true, \"tier\":");
    9 "a missing field" |w| text(w, "\"tier\": \"fast\",", "");
    10 "an absent measurement" |w| text(w, "640.5", "null");
    11 "Windows line endings in the record" |w| w.text = Box::new(|text| text.replace('\n', "\r\n"));
    12 "an edited record" |w| text(w, "AMD EPYC 7B13", "AMD EPYC 7B14");
    13 "evidence copied under another name" |w| w.file_name = "linux-cpu-1-copy.json".into();
    14 "a run id used twice" |w| {
        let mut copy = w.record();
        copy.name.insert(0, 'x');
        w.others.push(copy);
    };
    15 "a JUnit file of another run" |w| w.junit_agrees = false;

    20 "a run without an end" |w| written(w, |e| { e.ended = None; e.ending = Ending::Unfinished; });
    20 "a run without a status" |w| written(w, |e| e.exit_status = None);
    21 "an end before the start" |w| written(w, |e| e.ended = "2026-01-02T03:04:04Z".parse().ok());
    22 "a time in the future" |w| w.question.now = "2026-01-02T03:00:00Z".parse().unwrap();
    23 "a run of zero duration" |w| written(w, |e| e.ended = Some(e.started));
    23 "a case of zero duration" |w| written(w, |e| e.cases[0].duration_seconds = 0.0);
    24 "a case longer than its run" |w| written(w, |e| e.cases[0].duration_seconds = 121.0);
    24 "a case of negative duration" |w| written(w, |e| e.cases[0].duration_seconds = -1.0);
    25 "cases longer than their suite" |w| written(w, |e| e.suites[0].duration_seconds = 0.2);
    25 "a suite longer than its run" |w| written(w, |e| e.suites[0].duration_seconds = 999.0);
    26 "an interrupted run" |w| written(w, |e| e.ending = Ending::Interrupted);
    27 "a partial run" |w| written(w, |e| e.selection.partial = true);
    28 "a status without a failure" |w| written(w, |e| e.exit_status = Some(7));
    29 "a failure with status zero" |w| { outcome(w, Outcome::Failed); sealed(w, |e| e.exit_status = Some(0)); };
    30 "a tier too low" |w| w.policy.request.tier = "full".into();

    40 "zero tests" |w| written(w, |e| { e.cases.clear(); e.counts = Counts::default(); });
    41 "a filter that matched nothing" |w| written(w, |e| {
        e.cases.clear();
        e.selection.case_filter = Some("nothing".into());
    });
    42 "a required case missing" |w| written(w, |e| { e.cases.remove(0); e.counts.passed = 3; });
    42 "a required case renamed" |w| written(w, |e| e.cases[0].name = "chunks_of_8.prose".into());
    43 "a renamed case" |w| written(w, |e| e.cases[0].name = "chunks_of_8.prose".into());
    44 "a case duplicated" |w| written(w, |e| {
        e.cases.push(e.cases[0].clone());
        e.counts.passed = 5;
    });
    44 "fail, then pass on a retry" |w| written(w, |e| {
        let mut first = e.cases[0].clone();
        first.outcome = Outcome::Failed;
        first.message = Some("flaky".into());
        e.cases.insert(0, first);
        e.counts = Counts::of(&e.cases);
    });
    45 "all ignored" |w| written(w, |e| {
        for case in &mut e.cases {
            case.outcome = Outcome::Skipped;
            case.message = Some("ignored".into());
        }
        e.counts = Counts::of(&e.cases);
    });
    46 "a case ignored at run time" |w| outcome(w, Outcome::Skipped);
    47 "a failed case" |w| outcome(w, Outcome::Failed);
    48 "a crashed case" |w| outcome(w, Outcome::Crashed);
    48 "a case out of time" |w| outcome(w, Outcome::TimedOut);
    48 "a case that never ran" |w| outcome(w, Outcome::NotRun);
    49 "counts that disagree with the cases" |w| written(w, |e| e.counts.passed = 5);
    50 "a passing verdict over a failed case" |w| {
        written(w, |e| {
            e.cases[0].outcome = Outcome::Failed;
            e.cases[0].message = Some("so".into());
        });
        sealed(w, |e| e.verdicts[2].holds = Holds::Yes);
    };
    50 "a verdict on a gate of its own" |w| sealed(w, |e| {
        let mut own = e.verdicts[2].clone();
        own.gate = "G0".into();
        e.verdicts.push(own);
    });
    50 "a verdict left out" |w| sealed(w, |e| drop(e.verdicts.remove(2)));
    51 "too few histories" |w| written(w, |e| e.cases[0].history = Some("code".into()));
    51 "memory that falls by 360 MB" |w| written(w, |e| {
        let session = e.long_session.as_mut().unwrap();
        for bucket in &mut session.buckets { bucket.resident_bytes_peak = 500_000_000; }
        session.buckets[2].resident_bytes_peak -= 360_000_000;
    });
    52 "a suite that died" |w| written(w, |e| e.suites[1].ending = SuiteEnding::Crashed);
    53 "a record that requires less" |w| written(w, |e| drop(e.required.remove(0)));
    54 "fail, then pass in a second run" |w| {
        let mut first = World::good();
        outcome(&mut first, Outcome::Failed);
        written(&mut first, |e| e.run_id = "0".repeat(32));
        w.others.push(first.record());
    };
    55 "a failure without a reason" |w| { outcome(w, Outcome::Failed); sealed(w, |e| e.cases[3].message = None); };
    55 "a pass with a reason" |w| written(w, |e| e.cases[0].message = Some("nearly".into()));

    56 "a case without a process" |w| written(w, |e| e.suites[1].id = "other".into());
    56 "a suite without a process" |w| written(w, |e| { e.suites.pop(); e.cases.pop(); });
    56 "a suite that was not selected" |w| written(w, |e| drop(e.selection.suites.pop()));
    56 "a backend that no suite had" |w| written(w, |e| e.backend.as_mut().unwrap().isa = "neon".into());
    56 "modes that no suite had" |w| written(w, |e| e.float_modes = None);
    57 "a history that was never run" |w| written(w, |e| e.cases[0].history = Some("poetry".into()));
    57 "another tier" |w| written(w, |e| e.cases[0].tier = "full".into());
    52 "a suite that completed with last words" |w| written(w, |e| e.suites[0].detail = Some("was killed".into()));

    60 "evidence of an older tree" |w| w.checkout.tree = "bb".repeat(32);
    61 "a dirty tree" |w| written(w, |e| {
        e.source.dirty = Some(true);
        e.source.changes = vec![change("engine/a.rs", ChangeKind::Modified)];
    });
    61 "a dirty tree that names no file" |w| written(w, |e| e.source.dirty = Some(true));
    62 "staged files" |w| written(w, |e| e.source.changes = vec![change("engine/a.rs", ChangeKind::Staged)]);
    63 "untracked files" |w| written(w, |e| e.source.changes = vec![change("engine/a.rs", ChangeKind::Untracked)]);
    64 "a tree that changed during the run" |w| written(w, |e| e.source.tree_sha256_at_end = Some("cc".into()));
    65 "a tree that is not its commit's" |w| drop(w.checkout.commits.insert(good::COMMIT.into(), "ee".into()));
    66 "a stamped commit that nobody knows" |w| {
        written(w, |e| e.source.commit_from = Some(CommitFrom::Build));
        w.checkout.commits.clear();
    };
    67 "no commit at all" |w| written(w, |e| {
        e.source.commit = None;
        e.source.commit_absent_reason = Some("no git".into());
    });
    68 "a checkout with changes" |w| w.checkout.changes = vec![change("engine/a.rs", ChangeKind::Staged)];
    69 "a base that moved under guarded paths" |w| w.checkout.base_moved = vec!["engine/a.rs".into()];
    70 "converted line endings" |w| {
        w.checkout.changes = vec![change("engine/a.rs", ChangeKind::Modified)];
        w.checkout.line_endings = vec!["engine/a.rs".into()];
    };

    64 "a tree that nobody looked at again" |w| written(w, |e| e.source.tree_sha256_at_end = None);
    71 "a commit that nobody named" |w| written(w, |e| e.source.commit_from = None);
    71 "git that tells of no changes" |w| written(w, |e| e.source.dirty = None);
    71 "a reason for what is there" |w| written(w, |e| e.source.commit_absent_reason = Some("so".into()));
    72 "a harness of another commit" |w| written(w, |e| e.build.commit = Some("b0".repeat(20)));
    72 "a harness of no commit" |w| written(w, |e| e.build.commit = None);
    73 "another Cargo.lock" |w| w.checkout.lock = Some("0".repeat(64));

    80 "a platform that is not declared" |w| {
        written(w, |e| e.platform = "toaster".into());
        w.question.platforms = vec!["toaster".into()];
    };
    81 "another operating system" |w| written(w, |e| e.host.os = "macos".into());
    82 "another architecture" |w| written(w, |e| e.host.arch = "aarch64".into());
    83 "another chip" |w| w.policy.platforms[0].host.chip = vec!["Apple M4".into()];
    83 "an unknown chip" |w| {
        w.policy.platforms[0].host.chip = vec!["Apple M4".into()];
        written(w, |e| e.host.chip = None);
    };
    84 "too little memory" |w| written(w, |e| e.host.memory_bytes = 1 << 30);
    85 "too little disk" |w| written(w, |e| e.host.free_disk_bytes = Some(1 << 20));
    86 "a translated process" |w| written(w, |e| e.host.translated = Some(true));
    86 "a process of which nobody knows" |w| written(w, |e| e.host.translated = None);
    86 "a program for another architecture" |w| written(w, |e| e.build.target = "aarch64-unknown-linux-gnu".into());
    87 "no accelerator" |w| w.policy.platforms[0].host.accelerator = Some("NVIDIA".into());
    88 "the CPU where an accelerator should compute" |w| w.policy.platforms[0].backend = "cuda".into();
    88 "one suite on the CPU" |w| {
        w.policy.platforms[0].backend = "cuda".into();
        written(w, |e| e.suites[0].backend.as_mut().unwrap().device = "cuda".into());
    };
    88 "a suite that computed on nothing" |w| written(w, |e| e.suites[0].backend = None);
    89 "a debug build" |w| written(w, |e| e.build.opt_level = "0".into());
    89 "debug assertions" |w| written(w, |e| e.build.debug_assertions = true);
    90 "an old compiler" |w| written(w, |e| e.build.rustc = "rustc 1.70.0".into());
    91 "flushing to zero" |w| written(w, |e| e.suites[0].float_modes.as_mut().unwrap().flush_to_zero = true);
    91 "modes that nobody looked at" |w| written(w, |e| e.suites[0].float_modes = None);
    92 "a build free to reorder" |w| written(w, |e| e.suites[1].backend.as_mut().unwrap().numerics_version = 0);
    92 "the exact mode where another is asked for" |w| {
        w.policy.request.numerics_of.insert("perf".into(), 10_001);
    };

    100 "one flipped byte in the weights" |w| written(w, |e| e.models[0].sha256 = "0".repeat(64));
    101 "the right name with wrong bytes" |w| written(w, |e| e.models[0].size_bytes = 5);
    102 "a moved ref" |w| written(w, |e| e.models[0].revision = "main".into());
    103 "a symlink out of the cache" |w| written(w, |e| e.models[0].place = Place::OutsideCache);
    104 "a git-lfs pointer" |w| written(w, |e| e.models[0].content = Content::GitLfsPointer);
    105 "weights changed after hashing" |w| written(w, |e| e.models[0].sha256_at_end = Some("0".repeat(64)));
    105 "weights that nobody hashed again" |w| written(w, |e| e.models[0].sha256_at_end = None);
    106 "the network used while offline" |w| written(w, |e| {
        e.network.offline = true;
        e.network.fetched = vec!["smollm2-135m".into()];
    });
    107 "no model" |w| written(w, |e| e.models.clear());
    108 "a model that is not in the lock" |w| written(w, |e| e.models[0].model = "another".into());

    120 "a forward-pass counter at zero" |w| written(w, |e| {
        e.suites[0].forward_passes = 0;
        e.forward_passes = 20;
    });
    121 "too few forward passes for a case" |w| written(w, |e| e.cases[0].forward_passes = Some(9));
    121 "a case that does not say" |w| written(w, |e| e.cases[0].forward_passes = None);
    122 "a suite with fewer passes than its cases" |w| written(w, |e| {
        e.suites[0].forward_passes = 30;
        e.forward_passes = 50;
    });
    122 "a run with more passes than its suites" |w| written(w, |e| e.forward_passes = 61);
    123 "a comparison of a thing with itself" |w| written(w, |e| {
        let comparison = &mut e.cases[0].comparisons[0];
        comparison.right = comparison.left;
    });
    124 "a comparison of two empty streams" |w| written(w, |e| e.cases[0].comparisons[0].values = 0);
    125 "an INV-3 case without a comparison" |w| written(w, |e| e.cases[0].comparisons.clear());

    140 "an absent measurement" |w| written(w, |e| e.measurements.clear());
    141 "a negative measurement" |w| written(w, |e| e.measurements[0].value = -1.0);
    142 "a measurement twice" |w| written(w, |e| e.measurements.push(e.measurements[0].clone()));
    143 "a limit met only on one side" |w| written(w, |e| e.measurements[0].value = 1e6);
    143 "a limit met only on the other" |w| written(w, |e| e.measurements[0].value = 0.5);
    144 "another unit" |w| written(w, |e| e.measurements[0].unit = "tokens/minute".into());
    145 "a coverage report of no files" |w| written(w, |e| e.coverage.as_mut().unwrap().modules[0].files = 0);
    145 "a coverage report without the module" |w| written(w, |e| e.coverage.as_mut().unwrap().modules.clear());
    146 "too little coverage" |w| written(w, |e| e.coverage.as_mut().unwrap().modules[0].covered = 900);
    146 "more excuses than the policy has" |w| written(w, |e| {
        let module = &mut e.coverage.as_mut().unwrap().modules[0];
        module.covered = 998;
        module.excused = 2;
    });
    146 "more lines covered than there are" |w| written(w, |e| e.coverage.as_mut().unwrap().modules[0].covered = 2000);
    147 "no coverage" |w| written(w, |e| e.coverage = None);

    160 "no long session" |w| {
        *w = World::generally_available();
        written(w, |e| e.long_session = None);
    };
    161 "a short long session" |w| {
        *w = World::generally_available();
        w.policy.request.ga.long_session_seconds = 14_400.0;
    };
    162 "a long session that was cut short" |w| {
        *w = World::generally_available();
        written(w, |e| e.long_session.as_mut().unwrap().complete = false);
    };
    163 "buckets with a gap" |w| written(w, |e| { e.long_session.as_mut().unwrap().buckets.remove(1); });
    163 "no buckets" |w| written(w, |e| e.long_session.as_mut().unwrap().buckets.clear());
    163 "buckets before the run" |w| written(w, |e| {
        e.long_session.as_mut().unwrap().buckets[0].from = "2026-01-01T00:00:00Z".parse().unwrap();
    });
    163 "a session longer than its buckets" |w| written(w, |e| e.long_session.as_mut().unwrap().ran_seconds = 14_400.0);
    163 "more turns than the buckets have" |w| written(w, |e| e.long_session.as_mut().unwrap().turns = 31);
    163 "a turn of negative time" |w| written(w, |e| {
        e.long_session.as_mut().unwrap().buckets[1].turn_p50_seconds = -1.0;
    });

    163 "a median above the 95th percentile" |w| written(w, |e| {
        e.long_session.as_mut().unwrap().buckets[1].turn_p95_seconds = 0.25;
    });
    163 "a fault of a session that had none" |w| written(w, |e| {
        e.long_session.as_mut().unwrap().fault = Some("so".into());
    });
    163 "counters that go back" |w| written(w, |e| {
        e.long_session.as_mut().unwrap().buckets[0].violations.inv1 = 1;
    });
    163 "counters that the end forgot" |w| written(w, |e| {
        e.long_session.as_mut().unwrap().violations.inv2 = 1;
    });

    180 "no signature where one is asked for" |w| w.policy.request.signatures = 1;
    181 "an unknown key" |w| w.signers.push(secret(5));
    182 "a payload edited after signing" |w| {
        w.sign(1);
        w.envelope = |envelope| envelope.payload.replace_range(8..12, "AAAA");
    };
    183 "an altered payload type" |w| {
        w.sign(1);
        w.envelope = |envelope| envelope.payload_type = "application/json".into();
    };
    184 "an expired key" |w| {
        w.sign(1);
        w.policy.keys.key[0].until = "2026-01-02T00:00:00Z".parse().unwrap();
    };
    185 "a key of the future" |w| {
        w.sign(1);
        w.policy.keys.key[0].from = "2026-06-01T00:00:00Z".parse().unwrap();
    };
    186 "a revoked key" |w| {
        w.sign(1);
        w.policy.keys.key[0].revoked = Some("stolen".into());
    };
    187 "a key that the change adds" |w| {
        w.signers.push(secret(5));
        w.checkout.keys.key.push(key(5));
    };
    188 "one key counted twice" |w| {
        w.sign(1);
        w.signers.push(secret(1));
        w.policy.request.signatures = 2;
    };
    189 "a valid signature for another repository" |w| {
        w.sign(1);
        written(w, |e| e.repository = "neighbour".into());
    };
    190 "a statement about another tree" |w| w.text = Box::new(|text| {
        text.replacen(good::TREE, &"0".repeat(64), 1)
    });
    191 "an envelope that is none" |w| {
        w.sign(1);
        w.envelope = |envelope| envelope.payload.insert(0, '!');
    };
    192 "a test-result statement" |w| text(w, "urn:kakeya:evidence:v2", "https://in-toto.io/attestation/test-result/v0.1");

    200 "a change that edits policy" |w| w.checkout.edited = vec!["gates/ga.toml".into()];
    201 "a change that edits keys" |w| w.checkout.edited = vec!["gates/keys.toml".into()];
    202 "a change that edits waivers" |w| w.checkout.edited = vec!["gates/waivers.toml".into()];
    203 "committed evidence edited later" |w| w.checkout.rewritten = vec![Rewritten {
        path: "results/platform-tests/a.json".into(),
        commit: "c1".into(),
        deleted: false,
    }];
    204 "committed evidence deleted later" |w| w.checkout.rewritten = vec![Rewritten {
        path: "results/platform-tests/a.json".into(),
        commit: "c1".into(),
        deleted: true,
    }];
    205 "an expired waiver" |w| waiver(w, |waiver| waiver.expires = "2026-01-01".parse().unwrap());
    206 "an unreasoned waiver" |w| waiver(w, |waiver| waiver.reason.clear());
    207 "an over-broad waiver" |w| waiver(w, |waiver| waiver.subject = "*".into());
    211 "a shallow clone" |w| w.checkout.shallow = true;
    213 "no evidence for the platform" |w| w.question.platforms = vec!["mac-m4".into()];
}

/// Codes that say why there is no checkout to verify. The harness's own tests build them.
const BEFORE_VERIFYING: [u16; 3] = [210, 212, 214];

#[test]
fn the_good_run_is_accepted() {
    let report = World::good().verify();
    assert!(report.accepted, "{:#?}", report.findings);
    assert_eq!(report.findings, []);
    let report = World::generally_available().verify();
    assert!(report.accepted, "{:#?}", report.findings);
    assert_eq!(report.platforms[0].records[0].signed_by, ["key 1"]);
}

#[test]
fn each_attack_is_rejected_with_its_code() {
    for attack in ATTACKS {
        let mut world = World::good();
        (attack.make)(&mut world);
        let report = world.verify();
        let code = format!("EV-{:03}", attack.code);
        let codes = world.codes();
        assert!(!report.accepted, "{}: accepted", attack.name);
        assert!(
            codes.contains(&code),
            "{}: {codes:?} lacks {code}",
            attack.name
        );
    }
}

#[test]
fn every_code_has_an_attack() {
    let attacked: BTreeSet<_> = ATTACKS
        .iter()
        .map(|attack| attack.code)
        .chain(BEFORE_VERIFYING)
        .collect();
    let codes: BTreeSet<_> = Page::ALL.iter().map(|page| page.code.0).collect();
    assert_eq!(attacked, codes);
}
