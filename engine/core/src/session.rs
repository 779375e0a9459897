//! One session: its id, its append-only history, and the record of what its cache should hold.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{CacheConfig, Window};
use crate::tenant::Tenant;

const PREFIX: &str = "sess-";
const HEX_DIGITS: usize = 32;

/// A session's name on the wire: `sess-` and 32 lowercase hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

/// A text that is not a session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a session id: `sess-` and 32 lowercase hexadecimal digits")]
pub struct SessionIdError {
    /// The text.
    pub given: String,
}

impl SessionId {
    /// A fresh id with 122 random bits from the operating system.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        text.strip_prefix(PREFIX)
            .filter(|hex| {
                hex.len() == HEX_DIGITS
                    && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            })
            .and_then(|hex| u128::from_str_radix(hex, 16).ok())
            .map(Self)
            .ok_or_else(|| SessionIdError {
                given: text.to_owned(),
            })
    }
}

/// The tokens a session's cache should hold: the sinks and the last `window` tokens.
///
/// It is kept from the tokens alone, never from the cache, so that comparing the two (INV-1) means something.
#[derive(Debug, Clone)]
pub struct CachedTokens {
    sinks: Vec<u32>,
    sink_limit: usize,
    recent: VecDeque<u32>,
    recent_limit: Option<usize>,
}

impl CachedTokens {
    /// An empty record under the policy `cache`.
    pub fn new(cache: &CacheConfig) -> Self {
        let recent_limit = match cache.window {
            Window::Sliding(window) => Some(window as usize),
            Window::Full => None,
        };
        Self {
            sinks: Vec::new(),
            sink_limit: cache.sink as usize,
            recent: VecDeque::new(),
            recent_limit,
        }
    }

    /// Appends `tokens` to the history this record follows.
    pub fn extend(&mut self, tokens: &[u32]) {
        let to_sinks = tokens.len().min(self.sink_limit - self.sinks.len());
        let (sinks, rest) = tokens.split_at(to_sinks);
        self.sinks.extend_from_slice(sinks);
        let Some(limit) = self.recent_limit else {
            self.recent.extend(rest);
            return;
        };
        // Only the last `limit` of a long append can stay, so the ring never holds more than `limit`.
        let staying = &rest[rest.len().saturating_sub(limit)..];
        let evicted = (self.recent.len() + staying.len()).saturating_sub(limit);
        self.recent.drain(..evicted);
        self.recent.extend(staying);
    }

    /// Makes room for `additional` tokens, as far as they can stay.
    pub fn reserve(&mut self, additional: usize) {
        self.sinks
            .reserve(additional.min(self.sink_limit - self.sinks.len()));
        let staying = self.recent_limit.map_or(additional, |limit| {
            additional.min(limit - self.recent.len())
        });
        self.recent.reserve(staying);
    }

    /// Tokens recorded.
    pub fn len(&self) -> u64 {
        (self.sinks.len() + self.recent.len()) as u64
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens in the order of their positions.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.sinks.iter().chain(&self.recent).copied()
    }
}

/// A live session. `R` is what it holds of the engine (its slab and the verifier's state), handed back when
/// the session ends.
#[derive(Debug)]
pub struct Session<R> {
    pub(crate) id: SessionId,
    pub(crate) label: String,
    pub(crate) eos_token_ids: Vec<u32>,
    pub(crate) history: Vec<u32>,
    pub(crate) cached: CachedTokens,
    pub(crate) resource: R,
    pub(crate) last_used: Instant,
    pub(crate) last_position: u64,
    pub(crate) busy: bool,
    pub(crate) tenant: Arc<Tenant>,
}

impl<R> Session<R> {
    /// The id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The client's own label, for logs.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Tokens after which a generation of this session stops.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }

    /// Every token since the session began.
    pub fn history(&self) -> &[u32] {
        &self.history
    }

    /// The tokens its cache should hold.
    pub fn cached(&self) -> &CachedTokens {
        &self.cached
    }

    /// What the session holds of the engine.
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// What the session holds of the engine, to change.
    pub fn resource_mut(&mut self) -> &mut R {
        &mut self.resource
    }

    /// The end of a session's life: what it held, to be released.
    pub fn into_resource(self) -> R {
        self.resource
    }

    /// Time since the session was last used; zero if `now` is before that.
    pub fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_used)
    }

    /// The position the cache reported at the last check that passed INV-2.
    pub fn last_position(&self) -> u64 {
        self.last_position
    }

    /// Whether work is under way, so that the session must not be evicted.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whose it is, with the limits that held when it began.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }
}
