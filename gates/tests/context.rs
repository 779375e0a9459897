//! What cases get to work with, and the list of them.
//!
//! Beside the library and not in it: its suites take minutes to compile, and need not be compiled once more for these.

use std::path::PathBuf;

use kakeya_gates::{ModelFile, SuiteContext, SuiteSettings, Tier, check_registry, registry};
use kakeya_model::Isa;

/// Settings that name no file at all: whatever asks for the model fails.
fn without_model() -> SuiteContext {
    SuiteContext::new(SuiteSettings {
        model: ModelFile {
            name: "absent".to_owned(),
            path: PathBuf::from("absent.gguf"),
            sha256: "0".repeat(64),
        },
        threads: 1,
        isa: Isa::Scalar,
        tier: Tier::Fast,
        goldens: PathBuf::from("goldens"),
    })
}

#[test]
fn a_model_that_does_not_load_fails_every_case_that_asks() {
    let context = without_model();
    for _ in 0..2 {
        let message = context.model().map(|_| ()).unwrap_err().to_string();
        assert!(
            message.starts_with("the model does not load: "),
            "{message}"
        );
        assert!(message.contains("absent.gguf"), "{message}");
    }
}

#[test]
fn scratch_directories_are_fresh_and_go_with_the_suite() {
    let context = without_model();
    let (first, second) = (context.scratch().unwrap(), context.scratch().unwrap());
    assert_ne!(first, second);
    assert!(first.is_dir());
    drop(context);
    assert!(!first.exists());
}

#[test]
fn the_shipped_registry_is_well_formed() {
    assert_eq!(check_registry(&registry()), Ok(()));
}
