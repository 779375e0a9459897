//! The repository's own results and policy can be read and shown.

use std::fs;
use std::path::PathBuf;

use kakeya_evidence::policy::{GatePolicy, Waivers};
use kakeya_report::html::{Inputs, page};
use kakeya_report::{Collection, index};

fn root() -> PathBuf {
    // Cargo runs a test in the folder of its package.
    PathBuf::from("../..")
}

#[test]
fn every_committed_record_is_read_or_is_of_the_first_generation() {
    let folder = root().join("results/platform-tests");
    let collection = Collection::open(&folder).unwrap();
    assert_eq!(collection.unread, []);
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let gates: GatePolicy = toml::from_str(&read("gates/ga.toml")).unwrap();
    let waivers: Waivers = toml::from_str(&read("gates/waivers.toml")).unwrap();
    let text = page(&Inputs {
        collection: &collection,
        gates: &gates,
        waivers: &waivers,
        folder: "platform-tests",
    });
    let section = index::section(&collection, &gates, "platform-tests");
    let newest = collection.entries.iter().take(100).map(|entry| &entry.name);
    let older = collection.older.iter().map(|older| &older.name);
    for name in newest.chain(older) {
        assert!(text.contains(name.as_str()), "{name} is not on the page");
        assert!(
            section.contains(name.as_str()),
            "{name} is not in the index"
        );
    }
}
