//! What a gate is about to run, and what it would have to run to be a whole one.

use kakeya_evidence::policy::Platform;
use kakeya_evidence::{RequiredCase, Selection};
use kakeya_suite::{Case, Suite, Tier, select};

use crate::cli::GateArgs;
use crate::error::HarnessError;
use crate::fold::Expected;

/// A gate run before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How much was asked for.
    pub tier: Tier,
    /// The suites to run, in the platform's order; those with nothing selected are left out.
    pub suites: Vec<PlannedSuite>,
    /// Every case the platform and the tier require, whether selected or not.
    pub required: Vec<RequiredCase>,
    /// What was selected of it.
    pub selection: Selection,
}

/// One suite's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSuite {
    /// The suite's id.
    pub id: &'static str,
    /// Its time limit.
    pub limit: std::time::Duration,
    /// The cases to run, in order.
    pub expected: Vec<Expected>,
}

impl Plan {
    /// How many cases will run.
    pub fn cases(&self) -> usize {
        self.suites.iter().map(|suite| suite.expected.len()).sum()
    }
}

/// Plans a gate.
///
/// # Errors
/// When a suite is asked for that nobody knows, that the platform does not run, or that policy names and this
/// build does not have.
pub fn plan<C: 'static>(
    arguments: &GateArgs,
    platform: &Platform,
    registry: &[Suite<C>],
) -> Result<Plan, HarnessError> {
    let wanted = wanted_suites(arguments, platform, registry)?;
    let mut suites = Vec::new();
    for id in &wanted {
        // A build without any suite at all is the plain case of nothing to run.
        let Some(suite) = registry.iter().find(|suite| suite.id() == id) else {
            if registry.is_empty() {
                continue;
            }
            return Err(HarnessError::SuiteNotBuilt {
                platform: platform.name.clone(),
                suite: id.clone(),
            });
        };
        let expected: Vec<_> = select(suite, arguments.tier, arguments.case.as_deref())
            .into_iter()
            .map(expected)
            .collect();
        if !expected.is_empty() {
            suites.push(PlannedSuite {
                id: suite.id(),
                limit: suite.limit(arguments.tier),
                expected,
            });
        }
    }
    let required = required(platform, registry, arguments.tier);
    let selected: usize = suites.iter().map(|suite| suite.expected.len()).sum();
    let missing = platform
        .suites
        .iter()
        .any(|id| registry.iter().all(|suite| suite.id() != id));
    Ok(Plan {
        tier: arguments.tier,
        selection: Selection {
            partial: selected != required.len() || missing,
            suites: suites.iter().map(|suite| suite.id.to_owned()).collect(),
            case_filter: arguments.case.clone(),
        },
        suites,
        required,
    })
}

/// The ids to run, in the platform's order.
fn wanted_suites<C: 'static>(
    arguments: &GateArgs,
    platform: &Platform,
    registry: &[Suite<C>],
) -> Result<Vec<String>, HarnessError> {
    for id in &arguments.suite {
        if platform.suites.contains(id) {
            continue;
        }
        if registry.iter().any(|suite| suite.id() == id) {
            return Err(HarnessError::SuiteNotOnPlatform {
                platform: platform.name.clone(),
                suite: id.clone(),
                runs: platform.suites.clone(),
            });
        }
        return Err(HarnessError::UnknownSuite {
            name: id.clone(),
            known: platform.suites.clone(),
        });
    }
    let selected = |id: &&String| arguments.suite.is_empty() || arguments.suite.contains(id);
    Ok(platform.suites.iter().filter(selected).cloned().collect())
}

fn required<C: 'static>(
    platform: &Platform,
    registry: &[Suite<C>],
    tier: Tier,
) -> Vec<RequiredCase> {
    platform
        .suites
        .iter()
        .filter_map(|id| registry.iter().find(|suite| suite.id() == id))
        .flat_map(|suite| {
            suite.required(tier).map(|case| RequiredCase {
                suite: suite.id().to_owned(),
                name: case.name().to_owned(),
            })
        })
        .collect()
}

fn expected<C: 'static>(case: &Case<C>) -> Expected {
    Expected {
        name: case.name().to_owned(),
        tier: case.tier().to_string(),
        history: case.history_name().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::SoakArgs;

    fn platform() -> Platform {
        toml::from_str(
            "name = 'p'\nabout = 'a host'\nbackend = 'cpu'\nmin_rustc = '1.89'\nmodels = ['m']\n\
             suites = ['inv3', 'grpc']\n[host]\nos = 'linux'\narch = []\nchip = []\nmin_memory_gib = 1\n\
             min_free_disk_gib = 1\n",
        )
        .unwrap()
    }

    fn suites() -> Vec<Suite<()>> {
        vec![
            Suite::new("http", "h").case(Case::fast("shim", |_| Ok(()))),
            Suite::new("grpc", "g").case(Case::fast("eos", |_| Ok(()))),
            Suite::new("inv3", "i")
                .case(Case::fast("chunks_of_7", |_| Ok(())))
                .case(Case::full("chunks_of_n", |_| Ok(()))),
        ]
    }

    fn arguments(tier: Tier, suite: &[&str], case: Option<&str>) -> GateArgs {
        GateArgs {
            platform: "p".into(),
            tier,
            suite: suite.iter().map(|id| (*id).to_owned()).collect(),
            case: case.map(Into::into),
            out: None,
            sign: Vec::new(),
            soak: SoakArgs::default(),
            export: None,
            coverage: None,
        }
    }

    fn planned(arguments: &GateArgs) -> Plan {
        plan(arguments, &platform(), &suites()).unwrap()
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.suites
            .iter()
            .flat_map(|suite| {
                let id = suite.id;
                suite
                    .expected
                    .iter()
                    .map(move |case| format!("{id}::{}", case.name))
            })
            .collect()
    }

    #[test]
    fn a_plain_gate_runs_the_fast_tier_in_the_platforms_order_and_is_whole() {
        let plan = planned(&arguments(Tier::Fast, &[], None));
        assert_eq!(names(&plan), ["inv3::chunks_of_7", "grpc::eos"]);
        assert!(!plan.selection.partial);
        assert_eq!(plan.required.len(), 2);
    }

    #[test]
    fn the_full_tier_has_its_own_required_cases() {
        let plan = planned(&arguments(Tier::Full, &[], None));
        assert_eq!(plan.cases(), 3);
        assert_eq!(plan.required.len(), 3);
        assert!(!plan.selection.partial);
    }

    #[test]
    fn a_filtered_run_is_partial_and_requires_as_much_as_a_whole_one() {
        for arguments in [
            arguments(Tier::Fast, &["inv3"], None),
            arguments(Tier::Fast, &[], Some("eos")),
        ] {
            let plan = planned(&arguments);
            assert_eq!(plan.cases(), 1);
            assert!(plan.selection.partial);
            assert_eq!(plan.required.len(), 2);
        }
    }

    #[test]
    fn a_filter_that_selects_all_is_no_filter() {
        let plan = planned(&arguments(Tier::Fast, &["grpc", "inv3"], Some("::")));
        assert!(!plan.selection.partial);
    }

    #[test]
    fn a_filter_that_matches_nothing_plans_nothing() {
        let plan = planned(&arguments(Tier::Fast, &[], Some("nothing")));
        assert_eq!(plan.cases(), 0);
        assert!(plan.selection.partial);
    }

    #[test]
    fn suites_that_are_unknown_elsewhere_or_not_built_are_told_apart() {
        let error = |suite: &str, registry: &[Suite<()>]| {
            plan(
                &arguments(Tier::Fast, &[suite], None),
                &platform(),
                registry,
            )
            .unwrap_err()
            .to_string()
        };
        assert_eq!(
            error("nope", &suites()),
            "unknown suite `nope`; known suites: inv3, grpc"
        );
        assert_eq!(
            error("http", &suites()),
            "platform `p` does not run suite `http`; it runs: inv3, grpc"
        );
        assert_eq!(
            error("inv3", &suites()[..2]),
            "platform `p` asks for suite `inv3`, which this build does not have"
        );
    }

    #[test]
    fn a_run_while_the_build_lacks_a_suite_is_partial() {
        let grpc = arguments(Tier::Fast, &["grpc"], None);
        let plan = plan(&grpc, &platform(), &suites()[..2]).unwrap();
        assert_eq!(plan.cases(), 1);
        assert!(plan.selection.partial);
    }

    #[test]
    fn a_build_without_suites_has_nothing_to_run() {
        let plan = plan(
            &arguments(Tier::Fast, &[], None),
            &platform(),
            &[] as &[Suite<()>],
        )
        .unwrap();
        assert_eq!(plan.cases(), 0);
        assert!(plan.selection.partial);
    }
}
