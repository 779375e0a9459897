//! Policy and code agree: what the platforms ask for is what this build has.
#![cfg(feature = "engine")]

use harness::policy;
use kakeya_evidence::policy::ListedCase;
use kakeya_gates::{OF_A_GPU, Tier, Workspace, registry, select};

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
    let platform = |name| policy::platform(&workspace(), name).unwrap();
    for suite in registry() {
        let (wanted, other) = match OF_A_GPU.contains(&suite.id()) {
            true => (platform("linux-cuda"), Some(platform("linux-cpu"))),
            false => (platform("linux-cpu"), None),
        };
        let runs = |suites: &[String]| suites.iter().any(|id| id == suite.id());
        assert!(
            runs(&wanted.suites),
            "no gate of {} runs {}",
            wanted.name,
            suite.id()
        );
        assert!(
            !other.is_some_and(|other| runs(&other.suites)),
            "{} needs a GPU",
            suite.id()
        );
    }
}

/// If this fails, run a whole gate, then `harness required --from RECORD > gates/required.toml`.
#[test]
fn the_required_list_is_what_the_suites_have() {
    let policy = policy::load(policy::Place::Checkout(&workspace())).unwrap();
    let listed: Vec<_> = policy
        .required
        .suite
        .iter()
        .flat_map(|suite| {
            let id = suite.id.clone();
            let of = move |case: &ListedCase| {
                let history = case.history.clone();
                (id.clone(), case.name.clone(), case.tier.clone(), history)
            };
            suite.case.iter().map(of)
        })
        .collect();
    let built: Vec<_> = registry()
        .iter()
        .flat_map(|suite| {
            let id = suite.id();
            select(suite, Tier::Full, None)
                .into_iter()
                .map(move |case| {
                    (
                        id.to_owned(),
                        case.name().to_owned(),
                        case.tier().to_string(),
                        case.history_name().map(str::to_owned),
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect();
    for (listed, built) in listed.iter().zip(&built) {
        assert_eq!(listed, built);
    }
    assert_eq!(listed.len(), built.len());
}

#[test]
fn comparing_and_computing_are_asked_of_the_suite_that_is_about_it() {
    let policy = policy::load(policy::Place::Checkout(&workspace())).unwrap();
    let inv3 = policy.required.suite("inv3").unwrap();
    let fast = || inv3.case.iter().filter(|case| case.tier == "fast");
    // Kernels are called by themselves; whatever has a history goes through the model.
    let through_the_model =
        |case: &&ListedCase| case.name.contains(".prose") || case.name.contains(".code");
    assert!(fast().filter(through_the_model).count() > 20);
    assert!(fast().filter(through_the_model).all(|case| case.passes > 0));
    // All but the negative controls, which show that a wrong engine is caught.
    let control = |case: &&ListedCase| case.name.ends_with("_is_caught");
    assert!(fast().all(|case| case.compares != control(&case)));
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

/// If this fails, `harness report --index` mends it.
#[test]
fn the_index_of_results_lists_the_records_that_are_there() {
    assert!(!harness::report::is_index_stale(&workspace()).unwrap());
}
