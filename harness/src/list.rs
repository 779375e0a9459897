//! `harness list`: what there is to run. Never loads a model.

use std::collections::BTreeSet;
use std::io::Write;

use kakeya_evidence::policy::Platform;
use kakeya_suite::{Case, Suite, Tier, Workspace, check_registry};
use serde::Serialize;

use crate::cli::{Format, ListArgs};
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::policy;
use crate::subject::Subject;
use crate::table::table;

#[derive(Debug, Serialize)]
struct Listing {
    platforms: Vec<ListedPlatform>,
    suites: Vec<ListedSuite>,
}

#[derive(Debug, Serialize)]
struct ListedPlatform {
    name: String,
    about: String,
    backend: String,
    models: Vec<String>,
    suites: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ListedSuite {
    id: String,
    about: String,
    fast_limit_seconds: u64,
    full_limit_seconds: u64,
    cases: Vec<ListedCase>,
}

#[derive(Debug, Serialize)]
struct ListedCase {
    name: String,
    tier: &'static str,
    history: Option<String>,
}

/// Prints platforms, suites and cases.
///
/// # Errors
/// When a name is unknown, policy is malformed, or the output cannot be written.
pub fn run<S: Subject>(
    arguments: &ListArgs,
    subject: &S,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let suites = subject.suites();
    check_registry(&suites)?;
    let platforms = match &arguments.platform {
        Some(name) => vec![policy::platform(workspace, name)?],
        None => policy::platforms(workspace)?,
    };
    let listing = select(arguments, platforms, &suites)?;
    match arguments.format {
        Format::Text => write!(output, "{}", text(&listing)),
        Format::Json => serde_json::to_writer_pretty(&mut *output, &listing)
            .map_err(Into::into)
            .and_then(|()| writeln!(output)),
    }
    .map_err(HarnessError::system("write the list"))?;
    Ok(Exit::Success)
}

fn select<C: 'static>(
    arguments: &ListArgs,
    platforms: Vec<Platform>,
    suites: &[Suite<C>],
) -> Result<Listing, HarnessError> {
    let runs: BTreeSet<_> = platforms
        .iter()
        .flat_map(|platform| platform.suites.iter().map(String::as_str))
        .collect();
    let on_platform = |id: &str| arguments.platform.is_none() || runs.contains(id);
    if let Some(wanted) = &arguments.suite {
        let known: Vec<_> = suites
            .iter()
            .map(|suite| suite.id().to_owned())
            .filter(|id| on_platform(id))
            .collect();
        if !known.contains(wanted) {
            let name = wanted.clone();
            return Err(HarnessError::UnknownSuite { name, known });
        }
    }
    let listed = suites
        .iter()
        .filter(|suite| on_platform(suite.id()))
        .filter(|suite| arguments.suite.as_deref().is_none_or(|id| id == suite.id()))
        .map(listed)
        .collect();
    Ok(Listing {
        suites: listed,
        platforms: platforms
            .into_iter()
            .map(|platform| ListedPlatform {
                name: platform.name,
                about: platform.about,
                backend: platform.backend,
                models: platform.models,
                suites: platform.suites,
            })
            .collect(),
    })
}

fn listed<C: 'static>(suite: &Suite<C>) -> ListedSuite {
    let case = |case: &Case<C>| ListedCase {
        name: case.name().to_owned(),
        tier: case.tier().as_str(),
        history: case.history_name().map(str::to_owned),
    };
    ListedSuite {
        id: suite.id().to_owned(),
        about: suite.about().to_owned(),
        fast_limit_seconds: suite.limit(Tier::Fast).as_secs(),
        full_limit_seconds: suite.limit(Tier::Full).as_secs(),
        cases: suite.all_cases().iter().map(case).collect(),
    }
}

fn text(listing: &Listing) -> String {
    let platforms = table(
        &["platform", "about", "models", "suites"],
        listing.platforms.iter().map(|platform| {
            vec![
                platform.name.clone(),
                platform.about.clone(),
                platform.models.join(", "),
                platform.suites.join(", "),
            ]
        }),
    );
    let mut text = format!("{platforms}\n");
    for suite in &listing.suites {
        text.push_str(&format!(
            "\n{}: {} (limit {} s fast, {} s full)\n",
            suite.id, suite.about, suite.fast_limit_seconds, suite.full_limit_seconds
        ));
        for case in &suite.cases {
            text.push_str(&format!("  {:4}  {}::{}\n", case.tier, suite.id, case.name));
        }
    }
    let cases: usize = listing.suites.iter().map(|suite| suite.cases.len()).sum();
    text.push_str(&format!(
        "\n{} suites, {cases} cases\n",
        listing.suites.len()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites() -> Vec<Suite<()>> {
        vec![
            Suite::new("inv3", "bits stay equal")
                .case(Case::fast("chunks_of_7", |_| Ok(())).history("prose"))
                .case(Case::full("chunks_of_n", |_| Ok(()))),
            Suite::new("http", "the shim").case(Case::fast("answers", |_| Ok(()))),
        ]
    }

    fn platform() -> Platform {
        toml::from_str(
            "name = 'p'\nabout = 'a host'\nbackend = 'cpu'\nmin_rustc = '1.89'\nmodels = ['m']\n\
             suites = ['inv3']\n[host]\nos = 'linux'\narch = []\nchip = []\nmin_memory_gib = 1\n\
             min_free_disk_gib = 1\n",
        )
        .unwrap()
    }

    fn arguments(platform: Option<&str>, suite: Option<&str>) -> ListArgs {
        ListArgs {
            platform: platform.map(Into::into),
            suite: suite.map(Into::into),
            format: Format::Text,
        }
    }

    #[test]
    fn every_case_is_shown_with_its_tier() {
        let listing = select(&arguments(None, None), vec![platform()], &suites()).unwrap();
        let text = text(&listing);
        for part in [
            "inv3: bits stay equal (limit 300 s fast, 3600 s full)\n",
            "  fast  inv3::chunks_of_7\n",
            "  full  inv3::chunks_of_n\n",
            "  fast  http::answers\n",
            "\n2 suites, 3 cases\n",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn a_platform_shows_only_what_it_runs() {
        let listing = select(&arguments(Some("p"), None), vec![platform()], &suites()).unwrap();
        let ids: Vec<_> = listing.suites.iter().map(|suite| &suite.id).collect();
        assert_eq!(ids, ["inv3"]);
        let error = select(
            &arguments(Some("p"), Some("http")),
            vec![platform()],
            &suites(),
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "unknown suite `http`; known suites: inv3"
        );
    }

    #[test]
    fn json_has_the_same_names() {
        let listing = select(&arguments(None, Some("inv3")), vec![platform()], &suites()).unwrap();
        let json = serde_json::to_value(&listing).unwrap();
        assert_eq!(json["suites"][0]["cases"][0]["history"], "prose");
        assert_eq!(json["suites"][0]["cases"][1]["tier"], "full");
        assert_eq!(json["platforms"][0]["suites"][0], "inv3");
        assert_eq!(json["suites"].as_array().map(Vec::len), Some(1));
    }
}
