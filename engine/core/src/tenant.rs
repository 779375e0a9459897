//! Who asks, what belongs to them, and how much they may have.
//!
//! A server without keys has one tenant, whom everybody is. With keys, each is a tenant. Sessions remember theirs, and
//! the step loop answers NOT_FOUND to everybody else: there, in one place, and not in each RPC.

use std::sync::Arc;
use std::time::Instant;

use crate::meter::{Charge, Meter, StreamPermit};
use crate::prefix::PrefixOwner;

/// Whose a session is. It says nothing of who that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u128);

impl Owner {
    /// Everybody, where nobody is told apart.
    pub const EVERYBODY: Self = Self(0);

    /// The owner with a number of its own.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// That number, for what outlives the process.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }
}

/// What one tenant may have; `None` is as much as the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Tokens of one session's history, those to be generated included. A session keeps the limit it began with.
    pub max_history: Option<u64>,
    /// Tokens of one generation.
    pub max_new_tokens: Option<u32>,
    /// Sessions that live at once, those behind single-shot requests included.
    pub max_sessions: Option<u32>,
    /// Generations at once, waiting ones included.
    pub max_streams: Option<u32>,
    /// Tokens appended and generated in a minute, over all sessions.
    pub tokens_per_minute: Option<u32>,
}

/// What was refused because it is more than its tenant may have. `who` is how the tenant is called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// As many generations are under way as may be.
    #[error("{who} may have {limit} generations at once (max_streams): wait until one has ended")]
    Streams {
        /// The tenant.
        who: String,
        /// The limit.
        limit: u32,
    },
    /// As many sessions live as may.
    #[error("{who} may have {limit} sessions at once (max_sessions): close one")]
    Sessions {
        /// The tenant.
        who: String,
        /// The limit.
        limit: u32,
    },
    /// The tokens of this minute are used up.
    #[error(
        "{who} may use {limit} tokens in a minute (tokens_per_minute), and has: ask again in {} seconds",
        retry_after.as_secs_f64().ceil()
    )]
    Rate {
        /// The tenant.
        who: String,
        /// The limit.
        limit: u32,
        /// When there will be enough.
        retry_after: std::time::Duration,
    },
    /// A request of more tokens than a minute has.
    #[error(
        "{asked} tokens in one request are more than {who} may use in a minute ({limit}, tokens_per_minute): send fewer"
    )]
    RequestTokens {
        /// The tenant.
        who: String,
        /// Tokens of the request.
        asked: u64,
        /// The limit.
        limit: u32,
    },
    /// A generation of too many tokens.
    #[error("max_tokens is {asked}, and {who} may generate {limit} at once (max_new_tokens)")]
    NewTokens {
        /// The tenant.
        who: String,
        /// Tokens asked for.
        asked: u32,
        /// The limit.
        limit: u32,
    },
    /// A history that would become too long.
    #[error(
        "{history} tokens of history and {more} more pass the {limit} that a session of {who} may have (max_history)"
    )]
    History {
        /// The tenant.
        who: String,
        /// Tokens there are.
        history: u64,
        /// Tokens to append or to generate.
        more: u64,
        /// The limit.
        limit: u64,
    },
}

/// Somebody who asks the engine for work.
#[derive(Debug)]
pub struct Tenant {
    owner: Reach,
    name: Option<String>,
    limits: Limits,
    meter: Arc<Meter>,
}

/// Which sessions a tenant reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Own(Owner),
    All,
}

impl Tenant {
    /// Everybody: for a server without keys.
    #[must_use]
    pub fn everybody(limits: Limits) -> Self {
        Self {
            owner: Reach::Own(Owner::EVERYBODY),
            name: None,
            limits,
            meter: Arc::default(),
        }
    }

    /// The holder of a key. What `meter` has counted before goes on.
    #[must_use]
    pub fn key(owner: Owner, name: String, limits: Limits, meter: Arc<Meter>) -> Self {
        Self {
            owner: Reach::Own(owner),
            name: Some(name),
            limits,
            meter,
        }
    }

    /// The server itself, which reaches every session. What it makes is everybody's. Nothing that a client asks for
    /// may be asked as this one.
    #[must_use]
    pub fn server() -> Self {
        Self {
            owner: Reach::All,
            name: None,
            limits: Limits::default(),
            meter: Arc::default(),
        }
    }

    /// Whose cached prompts it may see the use of: its own, and where nobody is told apart everybody's.
    #[must_use]
    pub fn prefix_owner(&self) -> Option<PrefixOwner> {
        let owner = self.owner();
        (owner != Owner::EVERYBODY).then(|| PrefixOwner::new(&owner.number().to_string()))
    }

    /// Who owns what this tenant makes.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self.owner {
            Reach::Own(owner) => owner,
            Reach::All => Owner::EVERYBODY,
        }
    }

    /// Whether it may know of what `owner` has.
    #[must_use]
    pub fn reaches(&self, owner: Owner) -> bool {
        self.owner == Reach::All || self.owner == Reach::Own(owner)
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What it may have.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it has used.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// How errors call it.
    #[must_use]
    pub fn who(&self) -> String {
        match &self.name {
            Some(name) => format!("key `{name}`"),
            None => "a client of this server".to_owned(),
        }
    }

    /// Takes `tokens` out of this minute's.
    ///
    /// # Errors
    /// [`LimitError::RequestTokens`] or [`LimitError::Rate`].
    pub fn charge(&self, tokens: usize, now: Instant) -> Result<Charge, LimitError> {
        let Some(limit) = self.limits.tokens_per_minute else {
            return Ok(Charge::none());
        };
        let (who, asked) = (self.who(), tokens as u64);
        if asked > u64::from(limit) {
            return Err(LimitError::RequestTokens { who, asked, limit });
        }
        Meter::charge(&self.meter, tokens, limit, now).map_err(|retry_after| LimitError::Rate {
            who,
            limit,
            retry_after,
        })
    }

    /// Begins a generation, which is counted until the permit is dropped.
    ///
    /// # Errors
    /// [`LimitError::Streams`].
    pub fn stream(&self) -> Result<StreamPermit, LimitError> {
        let limit = self.limits.max_streams.unwrap_or(u32::MAX);
        Meter::stream(&self.meter, limit).ok_or_else(|| LimitError::Streams {
            who: self.who(),
            limit,
        })
    }

    /// Refuses a generation of too many tokens.
    ///
    /// # Errors
    /// [`LimitError::NewTokens`].
    pub fn check_new_tokens(&self, asked: u32) -> Result<(), LimitError> {
        match self.limits.max_new_tokens {
            Some(limit) if asked > limit => Err(LimitError::NewTokens {
                who: self.who(),
                asked,
                limit,
            }),
            _ => Ok(()),
        }
    }

    /// Refuses to let a history of `history` tokens grow by `more` where it would become too long.
    ///
    /// # Errors
    /// [`LimitError::History`].
    pub fn check_history(&self, history: u64, more: u64) -> Result<(), LimitError> {
        match self.limits.max_history {
            Some(limit) if history.saturating_add(more) > limit => Err(LimitError::History {
                who: self.who(),
                history,
                more,
                limit,
            }),
            _ => Ok(()),
        }
    }

    /// Refuses `more` sessions besides the `live` ones where they would be too many.
    ///
    /// # Errors
    /// [`LimitError::Sessions`].
    pub fn check_sessions(&self, live: usize, more: usize) -> Result<(), LimitError> {
        match self.limits.max_sessions {
            Some(limit) if live.saturating_add(more) > limit as usize => {
                Err(LimitError::Sessions {
                    who: self.who(),
                    limit,
                })
            }
            _ => Ok(()),
        }
    }

    /// How many tokens a generation after `prompt` tokens may have at most, where `most` are wanted: at least 1, so
    /// that a prompt without room for an answer is refused by its limit.
    #[must_use]
    pub fn room_after(&self, prompt: u64, most: u32) -> u32 {
        let new = self.limits.max_new_tokens.unwrap_or(u32::MAX);
        let history = self.limits.max_history.unwrap_or(u64::MAX);
        let left = u32::try_from(history.saturating_sub(prompt)).unwrap_or(u32::MAX);
        most.min(new).min(left).max(1)
    }
}
