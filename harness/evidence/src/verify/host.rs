//! The host and the build: that they are the platform's, and that the platform's backend computed.

use super::{Rejection, Rejections};
use crate::environment::{Backend, FloatModes, Rounding};
use crate::policy::platform::{self, Fact};
use crate::policy::{Observed, Platform, Request};
use crate::record::Evidence;

pub(super) fn check(
    evidence: &Evidence,
    platform: &Platform,
    request: &Request,
    reasons: &mut Rejections,
) {
    let observed = Observed {
        host: &evidence.host,
        rustc: &evidence.build.rustc,
        // What could compute is for the host that runs; what did compute is below.
        backends: &[&platform.backend],
    };
    for check in platform::check_host(platform, observed) {
        if !check.ok {
            reasons.push(mismatch(check.fact, check.found, check.wanted));
        }
    }
    let build = &evidence.build;
    if !request.opt_levels.contains(&build.opt_level) || build.debug_assertions {
        let assertions = if build.debug_assertions {
            "with"
        } else {
            "without"
        };
        reasons.push(Rejection::Unoptimised {
            found: format!(
                "optimisation level {} and {assertions} debug assertions",
                build.opt_level
            ),
        });
    }
    if !build
        .target
        .starts_with(&format!("{}-", evidence.host.arch))
    {
        reasons.push(Rejection::Translated {
            found: format!("a program for {} on {}", build.target, evidence.host.arch),
        });
    }
    for suite in &evidence.suites {
        backend(
            suite.backend.as_ref(),
            &suite.id,
            platform,
            request,
            reasons,
        );
        modes(suite.float_modes.as_ref(), reasons);
    }
}

fn mismatch(fact: Fact, found: String, wanted: String) -> Rejection {
    match fact {
        Fact::Os => Rejection::WrongOs { found, wanted },
        Fact::Architecture => Rejection::WrongArchitecture { found, wanted },
        Fact::Chip => Rejection::WrongChip { found, wanted },
        Fact::Memory => Rejection::TooLittleMemory { found, wanted },
        Fact::Disk => Rejection::TooLittleDisk { found, wanted },
        Fact::Translation => Rejection::Translated { found },
        Fact::Toolchain => Rejection::WrongToolchain { found, wanted },
        Fact::Accelerator | Fact::Backend => Rejection::NoAccelerator { found, wanted },
    }
}

fn backend(
    backend: Option<&Backend>,
    suite: &str,
    platform: &Platform,
    request: &Request,
    reasons: &mut Rejections,
) {
    let found = backend.map_or("nothing", |backend| &backend.device);
    if found != platform.backend {
        reasons.push(Rejection::WrongBackend {
            suite: suite.to_owned(),
            found: found.to_owned(),
            wanted: platform.backend.clone(),
        });
    }
    let version = backend.map(|backend| backend.numerics_version);
    let wanted = request.numerics_of(suite);
    if version.is_some_and(|version| version != wanted) {
        reasons.push(Rejection::WrongNumerics {
            found: version.unwrap_or_default().to_string(),
            wanted,
        });
    }
}

fn modes(modes: Option<&FloatModes>, reasons: &mut Rejections) {
    let wanted = FloatModes {
        flush_to_zero: false,
        denormals_are_zero: false,
        rounding: Rounding::NearestEven,
    };
    if modes != Some(&wanted) {
        reasons.push(Rejection::FloatModes {
            found: modes.map_or_else(|| "not observed".to_owned(), super::word),
        });
    }
}
