//! Where the cache is and how patient to be: the one place that reads the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ResolveError;

/// Everything about the machine that resolving depends on.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// The cache's root, which holds the `models--owner--name` folders.
    pub cache: PathBuf,
    /// Fetch nothing.
    pub offline: bool,
    /// The Python that runs pip.
    pub python: PathBuf,
    /// Variables set for pip on top of those it inherits, such as `PIP_INDEX_URL`.
    pub pip_environment: Vec<(OsString, OsString)>,
    /// The hub's address where it is not the public one.
    pub hub_endpoint: Option<String>,
    /// How long a source may take to say anything before the next one is tried.
    pub answer_timeout: Duration,
    /// How long a source that has answered may go without delivering a byte.
    pub stall_timeout: Duration,
}

impl CacheSettings {
    /// Settings for a cache at that place, with everything else at its default.
    #[must_use]
    pub fn at(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            offline: false,
            python: PathBuf::from("python3"),
            pip_environment: Vec::new(),
            hub_endpoint: None,
            answer_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(120),
        }
    }

    /// Reads the process environment.
    ///
    /// The cache is `HF_HUB_CACHE`, or `HF_HOME/hub`, or `XDG_CACHE_HOME/huggingface/hub`, or
    /// `~/.cache/huggingface/hub`. `HF_HUB_OFFLINE` forbids fetching, `HF_ENDPOINT` names another hub, and
    /// `KAKEYA_PYTHON` another Python. An empty variable counts as unset. Tokens are left to the hub's own
    /// client, which reads them itself.
    ///
    /// # Errors
    ///
    /// [`ResolveError::NoCacheFolder`] where none of the cache variables nor `HOME` is set.
    pub fn from_env() -> Result<Self, ResolveError> {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// As [`CacheSettings::from_env`], from any source of variables.
    ///
    /// # Errors
    ///
    /// As [`CacheSettings::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, ResolveError> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let folder = |name: &str| set(name).map(|value| expand_home(value.into(), home.as_deref()));

        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| folder("HF_HOME").map(|path| path.join("hub")))
            .or_else(|| folder("XDG_CACHE_HOME").map(|path| path.join("huggingface/hub")))
            .or_else(|| {
                home.as_ref()
                    .map(|path| path.join(".cache/huggingface/hub"))
            })
            .ok_or(ResolveError::NoCacheFolder)?;

        let mut settings = Self::at(cache);
        settings.offline = set("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value));
        settings.hub_endpoint = set("HF_ENDPOINT").and_then(|value| value.into_string().ok());
        if let Some(python) = set("KAKEYA_PYTHON") {
            settings.python = python.into();
        }
        Ok(settings)
    }
}

/// The values that the hub's own clients take as true.
fn is_true(value: &OsString) -> bool {
    value
        .to_str()
        .is_some_and(|text| ["1", "true", "yes", "on"].contains(&text.to_lowercase().as_str()))
}

/// Container files set `HF_HOME=~/models`, where no shell expands it; the hub's Python client does, so
/// leaving it alone would look in another folder.
fn expand_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}
