//! A good record with a few edits anywhere: as it is, under its own file name, and beside a signature on the record
//! that it was. None may be accepted.

#![no_main]

use arbitrary::Arbitrary;
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
        let mut world = World::good();
        world.sign(1);
        let record = world.record();
        (world, record)
    };
}

#[derive(Debug, Arbitrary)]
enum Edit {
    Set { at: u16, to: u8 },
    Insert { at: u16, bytes: Vec<u8> },
    Remove { at: u16, length: u8 },
    Copy { from: u16, to: u16, length: u8 },
}

impl Edit {
    fn apply(self, text: &mut Vec<u8>) {
        let place = |at: u16, text: &[u8]| usize::from(at) % text.len().max(1);
        match self {
            Self::Set { at, to } => {
                let at = place(at, text);
                if let Some(byte) = text.get_mut(at) {
                    *byte = to;
                }
            }
            Self::Insert { at, bytes } => {
                let at = place(at, text);
                text.splice(at..at, bytes);
            }
            Self::Remove { at, length } => {
                let at = place(at, text);
                let end = (at + usize::from(length)).min(text.len());
                text.drain(at..end);
            }
            Self::Copy { from, to, length } => {
                let (from, to) = (place(from, text), place(to, text));
                let end = (from + usize::from(length)).min(text.len());
                let piece = text[from..end].to_vec();
                text.splice(to..to, piece);
            }
        }
    }
}

fuzz_target!(|edits: Vec<Edit>| GOOD.with(|(world, good)| judge(world, good, edits)));

fn judge(world: &World, good: &Record, edits: Vec<Edit>) {
    let mut text = good.bytes.clone().unwrap_or_default();
    for edit in edits {
        edit.apply(&mut text);
    }
    if good.bytes.as_ref() == Ok(&text) {
        return;
    }
    for envelope in [good.envelope.clone(), None] {
        let mut record = good.clone();
        record.bytes = Ok(text.clone());
        record.envelope = envelope;
        let report = world.verify_these(&[record]);
        assert!(!report.accepted, "accepted: {report:?}");
    }
}
