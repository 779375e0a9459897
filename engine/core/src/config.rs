//! The cache policy of a session: attention sinks, a sliding window, and where positions stand.
//!
//! Visibility is a rule per query, never per chunk: the query at position `p` sees the keys `j` with
//! `j < sink` or `p - window < j <= p`. What a session keeps after `n` tokens follows from it.

use std::fmt;
use std::str::FromStr;

/// How many of the latest positions a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// The last so many positions, the query's own included.
    Sliding(u32),
    /// Every position: ordinary attention, up to the model's context.
    Full,
}

/// The distance at which a query sees the sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PositionPolicy {
    /// Sinks stand at a saturating distance, so that distances never leave the trained range and a session
    /// can run for ever (the StreamingLLM result).
    #[default]
    Streaming,
    /// Sinks stand at their true distance, however far.
    Global,
}

/// The element type of stored keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KvElement {
    /// IEEE binary16, two bytes.
    #[default]
    F16,
    /// IEEE binary32, four bytes.
    F32,
    /// Integers from -127 to 127 in blocks of [`KvElement::BLOCK`] elements of one head, each block with a scale in
    /// bfloat16: 34 bytes for 32 elements.
    Int8,
}

/// Why a cache setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A window of 0 hides a query from itself.
    #[error("window is 0: a query must at least see itself, so the window is 1 or more, or `full`")]
    ZeroWindow,
    /// More sinks than window positions.
    #[error(
        "sink {sink} is beyond the window {window}: use at most as many sinks as window positions"
    )]
    SinkBeyondWindow {
        /// Sinks asked for.
        sink: u32,
        /// Window asked for.
        window: u32,
    },
    /// `sink + window` does not fit the type positions are counted in.
    #[error("sink {sink} + window {window} is more than {} positions", u32::MAX)]
    TooLong {
        /// Sinks asked for.
        sink: u32,
        /// Window asked for.
        window: u32,
    },
    /// A setting that could not be read.
    #[error("{setting} `{given}` is not {expected}")]
    Unreadable {
        /// The setting's name.
        setting: &'static str,
        /// What was given.
        given: String,
        /// What would have been read.
        expected: &'static str,
    },
}

/// The cache policy of every session of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheConfig {
    /// Positions at the start of the history that are never evicted.
    pub sink: u32,
    /// The sliding window.
    pub window: Window,
    /// Where the sinks stand once they are out of the window.
    pub positions: PositionPolicy,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            sink: 4,
            window: Window::Sliding(1024),
            positions: PositionPolicy::Streaming,
        }
    }
}

impl CacheConfig {
    /// Refuses settings that no session could run under.
    ///
    /// # Errors
    /// A sliding window of 0, more sinks than window, or a sum beyond `u32::MAX`. `Window::Full` never
    /// evicts, so any number of sinks is legal with it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sink = self.sink;
        match self.window {
            Window::Full => Ok(()),
            Window::Sliding(0) => Err(ConfigError::ZeroWindow),
            Window::Sliding(window) if sink > window => {
                Err(ConfigError::SinkBeyondWindow { sink, window })
            }
            Window::Sliding(window) if sink.checked_add(window).is_none() => {
                Err(ConfigError::TooLong { sink, window })
            }
            Window::Sliding(_) => Ok(()),
        }
    }

    /// The most positions a session keeps, `sink + window`; `None` when the window is full.
    pub fn cached_limit(&self) -> Option<u64> {
        match self.window {
            Window::Sliding(window) => Some(u64::from(self.sink) + u64::from(window)),
            Window::Full => None,
        }
    }

    /// Positions kept after `history` tokens: `min(history, sink + window)`, or all of them.
    pub fn cached_length(&self, history: u64) -> u64 {
        self.cached_limit()
            .map_or(history, |limit| history.min(limit))
    }

    /// Whether `position` is kept after `history` tokens. A position that is not there yet is not.
    pub fn is_cached(&self, position: u64, history: u64) -> bool {
        let in_window = match self.window {
            Window::Sliding(window) => position >= history.saturating_sub(u64::from(window)),
            Window::Full => true,
        };
        position < history && (position < u64::from(self.sink) || in_window)
    }
}

impl KvElement {
    /// Elements of a block that share a scale.
    pub const BLOCK: usize = 32;

    /// Bytes of one key or value vector of `head_dim` elements, its scales included; `None` when they are more than can
    /// be counted.
    pub const fn vector_bytes(self, head_dim: usize) -> Option<usize> {
        match self {
            Self::F16 => head_dim.checked_mul(2),
            Self::F32 => head_dim.checked_mul(4),
            Self::Int8 => head_dim.checked_add(2 * head_dim.div_ceil(Self::BLOCK)),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sliding(window) => write!(f, "{window}"),
            Self::Full => f.write_str("full"),
        }
    }
}

impl FromStr for Window {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text == "full" {
            return Ok(Self::Full);
        }
        text.parse()
            .map(Self::Sliding)
            .map_err(|_| unreadable("window", text, "a number of positions or `full`"))
    }
}

impl fmt::Display for PositionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streaming => "streaming",
            Self::Global => "global",
        })
    }
}

impl FromStr for PositionPolicy {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "streaming" => Ok(Self::Streaming),
            "global" => Ok(Self::Global),
            _ => Err(unreadable("positions", text, "`streaming` or `global`")),
        }
    }
}

impl fmt::Display for KvElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for KvElement {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "f16" => Ok(Self::F16),
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            _ => Err(unreadable("kv element", text, "`f16`, `f32` or `int8`")),
        }
    }
}

fn unreadable(setting: &'static str, given: &str, expected: &'static str) -> ConfigError {
    ConfigError::Unreadable {
        setting,
        given: given.to_owned(),
        expected,
    }
}
