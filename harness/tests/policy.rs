//! Policy and code agree: what the platforms ask for is what this build has.

use harness::policy;
use kakeya_gates::{Workspace, registry};

fn workspace() -> Workspace {
    // Cargo runs a test in the folder of its package.
    Workspace::find(&std::env::current_dir().unwrap()).unwrap()
}

#[test]
fn every_suite_a_platform_asks_for_is_built() {
    let built: Vec<_> = registry().iter().map(|suite| suite.id()).collect();
    for platform in policy::platforms(&workspace()).unwrap() {
        for suite in &platform.suites {
            assert!(
                built.contains(&suite.as_str()),
                "{} asks for {suite}, which is not among {built:?}",
                platform.name
            );
        }
    }
}

#[test]
fn no_suite_is_forgotten_by_the_platform_everybody_has() {
    let platform = policy::platform(&workspace(), "linux-cpu").unwrap();
    for suite in registry() {
        assert!(
            platform.suites.iter().any(|id| id == suite.id()),
            "no gate of linux-cpu runs {}",
            suite.id()
        );
    }
}

#[test]
fn every_model_a_platform_asks_for_is_in_the_lock() {
    let text = std::fs::read_to_string(workspace().models()).unwrap();
    let catalogue = kakeya_model::catalogue::Catalogue::parse(&text).unwrap();
    for platform in policy::platforms(&workspace()).unwrap() {
        for model in &platform.models {
            assert!(
                catalogue.get(model).is_ok(),
                "{} asks for {model}",
                platform.name
            );
        }
    }
}
