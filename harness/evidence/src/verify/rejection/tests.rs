use super::*;

#[test]
fn codes_are_unique_and_ascend() {
    let codes: Vec<_> = Page::ALL.iter().map(|page| page.code).collect();
    assert!(codes.is_sorted_by(|a, b| a < b));
    assert!(codes.len() > 90);
}

#[test]
fn a_code_is_read_as_it_is_shown() {
    for page in Page::ALL {
        assert_eq!(Code::parse(&page.code.to_string()), Some(page.code));
    }
    for wrong in ["EV-16", "EV-0017", "EV-999", "ev-017", "17", "EV-0x1"] {
        assert_eq!(Code::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_reason_says_what_was_found_and_has_a_page() {
    let rejection = Rejection::CountsDisagree {
        stored: "2 passed".into(),
        counted: "1 passed".into(),
    };
    assert_eq!(rejection.code().to_string(), "EV-049");
    assert_eq!(
        rejection.to_string(),
        "the record counts 2 passed, and its cases are 1 passed"
    );
    assert_eq!(rejection.page().group, "Cases");
    assert_eq!(rejection.subject(), None);
}

#[test]
fn what_can_be_waived_one_by_one_names_what_it_is_about() {
    let name = || "a".to_owned();
    let (case, reason) = (name, String::new);
    for rejection in [
        Rejection::CaseMissing { case: case() },
        Rejection::CaseNotRequired { case: case() },
        Rejection::CaseSkipped {
            case: case(),
            reason: reason(),
        },
        Rejection::CaseFailed {
            case: case(),
            reason: reason(),
        },
        Rejection::CaseDied {
            case: case(),
            outcome: reason(),
            reason: reason(),
        },
        Rejection::Flake {
            case: case(),
            run_id: reason(),
        },
        Rejection::TooFewForwardPasses {
            case: case(),
            found: 0,
            least: 1,
        },
        Rejection::MeasurementMissing { name: name() },
        Rejection::OutsideLimits {
            name: name(),
            value: reason(),
            low: reason(),
            high: reason(),
        },
        Rejection::GateDoesNotHold {
            gate: name(),
            reason: reason(),
        },
        Rejection::CoverageLow {
            module: name(),
            found: reason(),
            wanted: reason(),
        },
    ] {
        assert_eq!(rejection.subject(), Some("a"));
        assert_eq!(rejection.page().waivable, Waivable::Each);
    }
    let each = |page: &&Page| page.waivable == Waivable::Each;
    assert_eq!(Page::ALL.iter().filter(each).count(), 11);
}

#[test]
fn what_stops_verifying_has_its_codes_too() {
    let reason = || "git does not run".to_owned();
    for (rejection, code, text) in [
        (
            Rejection::NoHistory { reason: reason() },
            210,
            "the base cannot be compared with: git does not run",
        ),
        (
            Rejection::BaseUnknown {
                base: "main".into(),
                reason: reason(),
            },
            212,
            "the base main is not a commit here: git does not run",
        ),
        (
            Rejection::NoEvidence {
                platform: "mac-m4".into(),
            },
            213,
            "no record for platform mac-m4 is of this tree",
        ),
        (
            Rejection::BaseWithoutPolicy {
                base: "v1".into(),
                path: "gates/evidence.toml".into(),
            },
            214,
            "the base v1 has no gates/evidence.toml, so nothing there says what evidence a change needs",
        ),
    ] {
        assert_eq!(rejection.code(), Code(code));
        assert_eq!(rejection.to_string(), text);
        assert_eq!(rejection.page().group, "The repository");
    }
}
