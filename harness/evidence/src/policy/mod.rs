//! The policy a run is judged by: what a platform asks of a host, what a gate asks of the cases, which files a run
//! is bound to, whose signatures count. All of it is data in the checkout; this module gives it a checked shape.

pub mod coverage;
pub mod gate;
pub mod guarded;
pub mod keys;
pub mod lock;
pub mod platform;
pub mod request;
pub mod required;
pub mod waivers;

pub use coverage::{CoveragePolicy, CoveredModule, Excuse};
pub use gate::{Gate, GatePolicy, Rule};
pub use guarded::{GuardedFiles, GuardedPolicy, PatternError};
pub use keys::{Key, Keys};
pub use lock::{LockedFile, LockedModel, ModelLock};
pub use platform::{Check, Observed, Platform, check_host};
pub use request::{GaRequest, Request};
pub use required::{Limit, ListedCase, RequiredPolicy, RequiredSuite};
pub use waivers::{Waiver, Waivers};

/// All of it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `gates/evidence.toml`.
    pub request: Request,
    /// `gates/platforms/*.toml`.
    pub platforms: Vec<Platform>,
    /// `gates/ga.toml`.
    pub gates: GatePolicy,
    /// `gates/guarded.toml`.
    pub guarded: GuardedFiles,
    /// `gates/required.toml`.
    pub required: RequiredPolicy,
    /// `gates/models.toml`.
    pub lock: ModelLock,
    /// `gates/keys.toml`.
    pub keys: Keys,
    /// `gates/waivers.toml`.
    pub waivers: Waivers,
    /// `gates/coverage.toml`.
    pub coverage: CoveragePolicy,
}

impl Policy {
    /// The platform of that name.
    pub fn platform(&self, name: &str) -> Option<&Platform> {
        self.platforms.iter().find(|platform| platform.name == name)
    }
}
