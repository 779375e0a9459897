//! Good runs with something changed: a byte anywhere in the file, or a field. None may be accepted, and nothing may
//! panic. `KAKEYA_MUTATIONS=100000 cargo test -p kakeya-evidence --test verify mutations -- --nocapture` makes so many
//! of each kind, where a plain run makes a few hundred.

use std::collections::BTreeMap;

use kakeya_evidence::statement::Statement;
use kakeya_evidence::verify::Record;
use kakeya_evidence::{Evidence, canonical};
use serde_json::Value;

use crate::world::World;

fn count() -> usize {
    let wanted = std::env::var("KAKEYA_MUTATIONS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(300)
}

fn accepted(world: &World, record: &Record, bytes: Vec<u8>) -> bool {
    let record = Record {
        bytes: Ok(bytes),
        ..record.clone()
    };
    world.verify_these(&[record]).accepted
}

#[test]
fn no_changed_byte_is_accepted() {
    let world = World::good();
    let record = world.record();
    let good = record.bytes.clone().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..count() {
        let mut bytes = good.clone();
        let at = random.usize(..bytes.len());
        match random.u8(..4) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, random.u8(..)),
            2 => bytes[at] ^= 1 << random.u8(..8),
            _ => bytes[at] = bytes[at].wrapping_add(random.u8(1..)),
        }
        if bytes == good {
            continue;
        }
        let changed = Record {
            bytes: Ok(bytes),
            ..record.clone()
        };
        let report = world.verify_these(&[changed]);
        assert!(!report.accepted, "a change at byte {at} was accepted");
        let last = report.findings.last().unwrap();
        *codes.entry(last.code.clone()).or_default() += 1;
    }
    println!("changed bytes, by the reason: {codes:?}");
}

#[test]
fn no_changed_field_is_accepted_under_the_old_digest_or_the_old_signature() {
    let mut world = World::good();
    world.sign(1);
    world.policy.request.signatures = 1;
    let record = world.record();
    let good: Value = serde_json::from_slice(record.bytes.as_ref().unwrap()).unwrap();
    let mut fields = Vec::new();
    leaves(&good["predicate"], "/predicate", &mut fields);
    let mut random = fastrand::Rng::with_seed(11);
    let unsigned = World::good();
    let (mut typed, mut resealed) = (0, BTreeMap::<String, usize>::new());
    for _ in 0..count() {
        let field = &fields[random.usize(..fields.len())];
        let mut value = good.clone();
        let leaf = value.pointer_mut(field).unwrap();
        let before = leaf.clone();
        change(leaf, &mut random);
        if *leaf == before {
            continue;
        }
        let text = serde_json::to_vec_pretty(&value).unwrap();
        assert!(!accepted(&world, &record, text), "{field} was accepted");
        // What still has the shape of a record is also written as the harness would.
        let Ok(statement) = serde_json::from_value::<Statement>(value) else {
            continue;
        };
        typed += 1;
        let mut evidence: Evidence = statement.predicate;
        let bytes = canonical::to_bytes(&evidence);
        assert!(!accepted(&world, &record, bytes), "{field} was accepted");
        canonical::seal(&mut evidence);
        let bytes = canonical::to_bytes(&evidence);
        // The digest itself is made anew by sealing.
        if Ok(&bytes) == record.bytes.as_ref() {
            continue;
        }
        assert!(
            !accepted(&world, &record, bytes.clone()),
            "{field} was accepted under a signature on another record"
        );
        let mut alone = record.clone();
        alone.envelope = None;
        alone.name = format!("{}.json", canonical::stem(&evidence));
        if accepted(&unsigned, &alone, bytes) {
            let name: String = field.replace(|letter: char| letter.is_ascii_digit(), "N");
            *resealed.entry(name).or_default() += 1;
        }
    }
    // Without a signature nothing tells a record that was made up as a whole. These are the fields that nothing else
    // in a record, and nothing in the policy, says anything about.
    println!(
        "changed fields: {typed} kept the shape of a record; sealed anew and unsigned, accepted: {resealed:?}"
    );
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                leaves(value, &format!("{path}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                leaves(value, &format!("{path}/{index}"), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

fn change(leaf: &mut Value, random: &mut fastrand::Rng) {
    *leaf = match (&*leaf, random.u8(..4)) {
        (_, 0) => Value::Null,
        (Value::Bool(flag), _) => Value::Bool(!flag),
        (Value::Number(number), 1) => (number.as_f64().unwrap() + 1.0).into(),
        (Value::Number(number), _) => match number.as_u64() {
            Some(number) => (number ^ (1 << random.u8(..16))).into(),
            None => (number.as_f64().unwrap() * 1.5).into(),
        },
        (Value::String(text), _) => {
            let mut bytes = text.clone().into_bytes();
            if bytes.is_empty() {
                bytes.push(b'x');
            } else {
                let at = random.usize(..bytes.len());
                bytes[at] = b"0123456789abcdefZ-"[random.usize(..18)];
            }
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        _ => Value::String("x".to_owned()),
    };
}
