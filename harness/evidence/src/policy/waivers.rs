//! Faults that are accepted for a while (`gates/waivers.toml`).

use jiff::civil::Date;
use serde::Deserialize;

use crate::verify::{Code, Page, Rejection, Waivable};

/// The longest a waiver may last, in days.
pub const LONGEST: i32 = 90;

/// The waivers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waivers {
    /// The waivers.
    #[serde(default)]
    pub waiver: Vec<Waiver>,
}

/// One waiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// What reports call it.
    pub id: String,
    /// The code it is about: `EV-046`.
    pub code: String,
    /// The platform it is for.
    pub platform: String,
    /// The case, measurement, gate or module it is about. Empty for a code that is about none.
    #[serde(default)]
    pub subject: String,
    /// Why the fault is accepted.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When it was granted.
    pub granted: Date,
    /// The last day it is good.
    pub expires: Date,
}

impl Waiver {
    /// What is wrong with the waiver itself.
    pub fn faults(&self, today: Date) -> Vec<Rejection> {
        let waiver = || self.id.clone();
        let mut faults = Vec::new();
        if self.expires < today {
            faults.push(Rejection::WaiverExpired {
                waiver: waiver(),
                expired: self.expires.to_string(),
            });
        }
        if self.reason.trim().is_empty() || self.owner.trim().is_empty() {
            faults.push(Rejection::WaiverUnreasoned { waiver: waiver() });
        }
        if let Some(why) = self.breadth() {
            faults.push(Rejection::WaiverTooBroad {
                waiver: waiver(),
                why,
            });
        }
        faults
    }

    /// Why it would excuse too much.
    fn breadth(&self) -> Option<String> {
        let wild = |text: &str| text.contains(['*', '?']);
        let days = (self.expires - self.granted).get_days();
        if days > LONGEST {
            return Some(format!("it lasts {days} days, and may last {LONGEST}"));
        }
        if wild(&self.code) || wild(&self.platform) || wild(&self.subject) {
            return Some("it has a wildcard".to_owned());
        }
        if self.platform.is_empty() {
            return Some("it names no platform".to_owned());
        }
        let Some(page) = Code::parse(&self.code).and_then(Page::of) else {
            return Some(format!("there is no code {}", self.code));
        };
        if page.waivable == Waivable::Never {
            return Some(format!("{} is never waived", self.code));
        }
        (page.waivable == Waivable::Each && self.subject.is_empty())
            .then(|| "it names no case, measurement, gate or module".to_owned())
    }

    /// Whether it excuses a reason on a platform.
    pub fn excuses(&self, rejection: &Rejection, platform: &str) -> bool {
        self.code == rejection.code().to_string()
            && self.platform == platform
            && self.subject == rejection.subject().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn waiver() -> Waiver {
        Waiver {
            id: "W-1".into(),
            code: "EV-046".into(),
            platform: "linux-cpu".into(),
            subject: "perf::a".into(),
            reason: "no such unit on this host".into(),
            owner: "someone@example.org".into(),
            granted: date(2026, 1, 1),
            expires: date(2026, 2, 1),
        }
    }

    fn faults(change: impl FnOnce(&mut Waiver)) -> Vec<String> {
        let mut waiver = waiver();
        change(&mut waiver);
        waiver
            .faults(date(2026, 1, 15))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_narrow_waiver_with_a_reason_and_an_end_is_good_until_its_last_day() {
        assert_eq!(faults(|_| ()), Vec::<String>::new());
        assert!(waiver().faults(date(2026, 2, 1)).is_empty());
        let late = waiver().faults(date(2026, 2, 2));
        assert_eq!(late[0].to_string(), "waiver W-1 expired on 2026-02-01");
    }

    #[test]
    fn a_waiver_says_why_and_who() {
        for change in [
            (|waiver: &mut Waiver| waiver.reason = " ".into()) as fn(&mut Waiver),
            |waiver| waiver.owner.clear(),
        ] {
            assert_eq!(faults(change), ["waiver W-1 has no reason or no owner"]);
        }
    }

    #[test]
    fn a_waiver_is_for_one_thing_and_not_for_long() {
        for (change, why) in [
            (
                (|waiver| waiver.expires = date(2026, 4, 2)) as fn(&mut Waiver),
                "it lasts 91 days, and may last 90",
            ),
            (
                |waiver| waiver.subject = "perf::*".into(),
                "it has a wildcard",
            ),
            (|waiver| waiver.platform.clear(), "it names no platform"),
            (
                |waiver| waiver.subject.clear(),
                "it names no case, measurement, gate or module",
            ),
            (
                |waiver| waiver.code = "EV-999".into(),
                "there is no code EV-999",
            ),
            (
                |waiver| waiver.code = "EV-012".into(),
                "EV-012 is never waived",
            ),
        ] {
            assert_eq!(faults(change), [format!("waiver W-1 is too broad: {why}")]);
        }
        let memory = faults(|waiver| {
            waiver.code = "EV-084".into();
            waiver.subject.clear();
        });
        assert!(memory.is_empty(), "{memory:?}");
    }

    #[test]
    fn it_excuses_its_own_code_platform_and_subject() {
        let skipped = |case: &str| Rejection::CaseSkipped {
            case: case.into(),
            reason: "r".into(),
        };
        let failed = Rejection::CaseFailed {
            case: "perf::a".into(),
            reason: "r".into(),
        };
        let waiver = waiver();
        assert!(waiver.excuses(&skipped("perf::a"), "linux-cpu"));
        assert!(!waiver.excuses(&skipped("perf::b"), "linux-cpu"));
        assert!(!waiver.excuses(&skipped("perf::a"), "mac-m4"));
        assert!(!waiver.excuses(&failed, "linux-cpu"));
    }
}
