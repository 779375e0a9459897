//! What a suite is: a stable id, a time limit and an ordered list of named cases.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::failure::{CaseFailure, CaseResult};

const DEFAULT_FAST_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_FULL_TIMEOUT: Duration = Duration::from_secs(3600);

/// How much of a suite a run asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// What `cargo test`, continuous integration and a plain `gate` run.
    Fast,
    /// Everything, [`Tier::Fast`] included.
    Full,
}

impl Tier {
    /// Whether a run of this tier includes a case of tier `case`.
    pub fn includes(self, case: Tier) -> bool {
        case <= self
    }

    /// The name used on the command line and in evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Fast => "fast",
            Tier::Full => "full",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tier name that is neither `fast` nor `full`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown tier `{0}`, expected `fast` or `full`")]
pub struct UnknownTier(String);

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fast" => Ok(Tier::Fast),
            "full" => Ok(Tier::Full),
            other => Err(UnknownTier(other.to_owned())),
        }
    }
}

type CaseBody<C> = Box<dyn Fn(&C) -> CaseResult + Send + Sync>;

/// One rule and the code that tries to break it. `C` is what its suite gives it to work with.
pub struct Case<C> {
    name: String,
    tier: Tier,
    history: Option<String>,
    body: CaseBody<C>,
}

impl<C> fmt::Debug for Case<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("tier", &self.tier)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl<C: 'static> Case<C> {
    /// A case of the fast tier.
    pub fn fast(
        name: impl Into<String>,
        body: impl Fn(&C) -> CaseResult + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Tier::Fast, body)
    }

    /// A case of the full tier only.
    pub fn full(
        name: impl Into<String>,
        body: impl Fn(&C) -> CaseResult + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Tier::Full, body)
    }

    fn new(
        name: impl Into<String>,
        tier: Tier,
        body: impl Fn(&C) -> CaseResult + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            tier,
            history: None,
            body: Box::new(body),
        }
    }

    /// Names the token history the case proves something about. Gate G3 counts distinct histories.
    #[must_use]
    pub fn history(mut self, history: impl Into<String>) -> Self {
        self.history = Some(history.into());
        self
    }

    /// Runs the case in a context that is made of the suite's own each time: with another model, say. Where there is none
    /// to be had, the case fails with that reason.
    #[must_use]
    pub fn within(
        self,
        enter: impl Fn(&C) -> Result<C, CaseFailure> + Send + Sync + 'static,
    ) -> Self {
        let body = self.body;
        Self {
            body: Box::new(move |context| body(&enter(context)?)),
            ..self
        }
    }

    /// The stable name, unique within its suite.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The smallest tier that runs the case.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The input history, where the case is about one.
    pub fn history_name(&self) -> Option<&str> {
        self.history.as_deref()
    }

    /// Runs it, as a part of another case. A panic goes through.
    ///
    /// # Errors
    /// Its own.
    pub fn call(&self, context: &C) -> CaseResult {
        (self.body)(context)
    }
}

/// An ordered list of cases that share one process and one loaded model.
#[derive(Debug)]
pub struct Suite<C> {
    id: &'static str,
    about: &'static str,
    fast_timeout: Duration,
    full_timeout: Duration,
    cases: Vec<Case<C>>,
}

impl<C: 'static> Suite<C> {
    /// An empty suite with the default time limits.
    pub fn new(id: &'static str, about: &'static str) -> Self {
        Self {
            id,
            about,
            fast_timeout: DEFAULT_FAST_TIMEOUT,
            full_timeout: DEFAULT_FULL_TIMEOUT,
            cases: Vec::new(),
        }
    }

    /// Sets how long the whole suite may take in the fast tier, the loading of the model included.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.fast_timeout = limit;
        self
    }

    /// Sets how long the whole suite may take in the full tier.
    #[must_use]
    pub fn full_timeout(mut self, limit: Duration) -> Self {
        self.full_timeout = limit;
        self
    }

    /// Adds one case at the end.
    #[must_use]
    pub fn case(mut self, case: Case<C>) -> Self {
        self.cases.push(case);
        self
    }

    /// Adds cases at the end, in order.
    #[must_use]
    pub fn cases(mut self, cases: impl IntoIterator<Item = Case<C>>) -> Self {
        self.cases.extend(cases);
        self
    }

    /// Runs the cases so far in other contexts ([`Case::within`]).
    #[must_use]
    pub fn within(
        mut self,
        enter: impl Fn(&C) -> Result<C, CaseFailure> + Clone + Send + Sync + 'static,
    ) -> Self {
        self.cases = self
            .cases
            .into_iter()
            .map(|case| case.within(enter.clone()))
            .collect();
        self
    }

    /// The stable id.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// One line on what the suite proves.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// The suite's time limit in a run of `tier`.
    pub fn limit(&self, tier: Tier) -> Duration {
        match tier {
            Tier::Fast => self.fast_timeout,
            Tier::Full => self.full_timeout,
        }
    }

    /// Every case, in running order.
    pub fn all_cases(&self) -> &[Case<C>] {
        &self.cases
    }

    /// The cases a run of `tier` must execute, in running order.
    pub fn required(&self, tier: Tier) -> impl Iterator<Item = &Case<C>> {
        self.cases
            .iter()
            .filter(move |case| tier.includes(case.tier))
    }
}

/// A registry that could not give trustworthy evidence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// Two suites share an id.
    #[error("suite id `{0}` is used twice")]
    DuplicateSuite(String),
    /// Two cases of a suite share a name.
    #[error("case `{suite}::{case}` is listed twice")]
    DuplicateCase {
        /// The suite.
        suite: String,
        /// The case.
        case: String,
    },
    /// A suite has no case in the fast tier, so a plain run of it would prove nothing.
    #[error("suite `{0}` has no case in the fast tier")]
    EmptySuite(String),
    /// A name that could not be a stable id.
    #[error(
        "`{0}` is not a stable name: use lower-case letters, digits, `_`, `-` and `.`, and start with a letter or digit"
    )]
    BadName(String),
}

/// Checks that names are unique, stable and present.
///
/// # Errors
/// The first fault found.
pub fn check_registry<C: 'static>(suites: &[Suite<C>]) -> Result<(), RegistryError> {
    let mut ids = HashSet::new();
    for suite in suites {
        check_name(suite.id)?;
        if !ids.insert(suite.id) {
            return Err(RegistryError::DuplicateSuite(suite.id.to_owned()));
        }
        if suite.required(Tier::Fast).next().is_none() {
            return Err(RegistryError::EmptySuite(suite.id.to_owned()));
        }
        let mut names = HashSet::new();
        for case in &suite.cases {
            check_name(&case.name)?;
            if !names.insert(case.name.as_str()) {
                return Err(RegistryError::DuplicateCase {
                    suite: suite.id.to_owned(),
                    case: case.name.clone(),
                });
            }
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    let stable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.starts_with(stable)
        && name
            .chars()
            .all(|c| stable(c) || matches!(c, '_' | '-' | '.'));
    if good {
        Ok(())
    } else {
        Err(RegistryError::BadName(name.to_owned()))
    }
}

/// The cases of `suite` that a run of `tier` with the filter `text` executes.
///
/// The filter is a plain substring of `suite::case`; none selects every case of the tier.
pub fn select<'a, C: 'static>(
    suite: &'a Suite<C>,
    tier: Tier,
    text: Option<&str>,
) -> Vec<&'a Case<C>> {
    suite
        .required(tier)
        .filter(|case| {
            text.is_none_or(|text| format!("{}::{}", suite.id, case.name).contains(text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(_: &()) -> CaseResult {
        Ok(())
    }

    fn case(name: &str) -> Case<()> {
        Case::fast(name, fine)
    }

    #[test]
    fn full_includes_fast_and_not_the_other_way_round() {
        assert!(Tier::Full.includes(Tier::Fast));
        assert!(Tier::Full.includes(Tier::Full));
        assert!(Tier::Fast.includes(Tier::Fast));
        assert!(!Tier::Fast.includes(Tier::Full));
    }

    #[test]
    fn tier_names_round_trip() {
        for tier in [Tier::Fast, Tier::Full] {
            assert_eq!(tier.to_string().parse::<Tier>(), Ok(tier));
        }
        assert_eq!(
            "slow".parse::<Tier>().map_err(|e| e.to_string()),
            Err("unknown tier `slow`, expected `fast` or `full`".to_owned())
        );
    }

    #[test]
    fn required_names_follow_the_tier_and_keep_the_order() {
        let suite = Suite::new("s", "about")
            .case(case("b"))
            .case(Case::full("c", fine))
            .cases([case("a")]);
        let names = |tier| suite.required(tier).map(Case::name).collect::<Vec<_>>();
        assert_eq!(names(Tier::Fast), ["b", "a"]);
        assert_eq!(names(Tier::Full), ["b", "c", "a"]);
        let tiers: Vec<_> = suite.required(Tier::Full).map(Case::tier).collect();
        assert_eq!(tiers, [Tier::Fast, Tier::Full, Tier::Fast]);
        for case in suite.required(Tier::Full) {
            assert!(case.call(&()).is_ok());
        }
    }

    #[test]
    fn limits_belong_to_a_tier() {
        let suite = Suite::<()>::new("s", "about")
            .timeout(Duration::from_secs(7))
            .full_timeout(Duration::from_secs(70));
        assert_eq!(suite.limit(Tier::Fast), Duration::from_secs(7));
        assert_eq!(suite.limit(Tier::Full), Duration::from_secs(70));
    }

    #[test]
    fn selection_matches_any_part_of_the_full_name() {
        let suite = Suite::new("inv3", "about")
            .case(case("chunks_of_7"))
            .case(case("chunks_of_8"));
        let names = |text| {
            select(&suite, Tier::Fast, text)
                .into_iter()
                .map(Case::name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["chunks_of_7", "chunks_of_8"]);
        assert_eq!(names(Some("inv3::chunks_of_8")), ["chunks_of_8"]);
        assert_eq!(names(Some("nothing")), Vec::<&str>::new());
    }

    #[test]
    fn rejects_a_registry_that_could_hide_a_case() {
        let twice = || Suite::new("s", "about").case(case("a"));
        assert_eq!(
            check_registry(&[twice(), twice()]),
            Err(RegistryError::DuplicateSuite("s".into()))
        );
        assert_eq!(
            check_registry(&[twice().case(case("a"))]),
            Err(RegistryError::DuplicateCase {
                suite: "s".into(),
                case: "a".into()
            })
        );
        assert_eq!(
            check_registry(&[Suite::<()>::new("s", "about").case(Case::full("a", fine))]),
            Err(RegistryError::EmptySuite("s".into()))
        );
        for bad in ["Upper", "", "two words", "_a"] {
            assert_eq!(
                check_registry(&[twice().case(case(bad))]),
                Err(RegistryError::BadName(bad.into()))
            );
        }
        assert_eq!(check_registry(&[twice()]), Ok(()));
    }

    #[test]
    fn a_case_within_another_context_sees_that_one() {
        let odd = |context: &u8| match context % 2 {
            1 => Ok(context + 10),
            _ => Err(CaseFailure::violated(format!("{context} is even"))),
        };
        let suite = Suite::new("s", "about")
            .case(Case::fast("a", |context: &u8| match context {
                13 => Ok(()),
                other => Err(CaseFailure::violated(other.to_string())),
            }))
            .within(odd);
        let case = &suite.all_cases()[0];
        assert!(case.call(&3).is_ok());
        let failed = |context| case.call(&context).unwrap_err().to_string();
        assert_eq!(failed(5), "15");
        assert_eq!(failed(4), "4 is even");
    }

    #[test]
    fn a_case_shows_what_is_plain_of_it() {
        let case = case("a").history("prose");
        assert_eq!(case.history_name(), Some("prose"));
        let shown = format!("{case:?}");
        assert!(shown.contains("prose") && shown.contains("Fast"), "{shown}");
        let suite = Suite::new("s", "about").case(case);
        assert_eq!((suite.id(), suite.about()), ("s", "about"));
    }
}
