//! What goes between the wire and the step loop: commands, and what is known of sessions and the engine.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::EngineError;
use crate::events::GenerateEvent;
use crate::params::GenerateParams;
use crate::pipeline::Producer;
use crate::prefix::PrefixOwner;
use crate::session::SessionId;
use crate::snapshot::SessionImage;

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionInfo {
    /// Tokens of the history.
    pub history_length: u64,
    /// Tokens of them in the cache.
    pub cached_length: u64,
    /// Bytes of keys and values in use.
    pub kv_live_bytes: u64,
    /// INV-1 violations since the engine started, over all sessions.
    pub inv1_violations: u64,
    /// INV-2 violations since the engine started, over all sessions.
    pub inv2_violations: u64,
    /// Time since the session was last used.
    pub idle: Duration,
}

/// One session of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session.
    pub id: SessionId,
    /// The client's own label.
    pub label: String,
    /// Whether work is under way or waits.
    pub busy: bool,
    /// As [`crate::EngineHandle::info`] tells it.
    pub info: SessionInfo,
}

/// Counts of the engine as a whole: the first seven as they are now, the rest since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Live sessions.
    pub sessions: u64,
    /// Sessions that can live at once.
    pub capacity: u64,
    /// Slabs not held by a session.
    pub free_slabs: u64,
    /// Generations that wait for a slot.
    pub queued: u64,
    /// Generations that hold a slot.
    pub active: u64,
    /// Bytes of keys and values in use, of all sessions.
    pub kv_live_bytes: u64,
    /// Tokens of the histories of all sessions.
    pub history_tokens: u64,
    /// Sessions that their clients closed.
    pub closed: u64,
    /// Sessions that were made for one answer, and ended with it.
    pub completed: u64,
    /// Sessions that were closed because nobody had waited for their ids.
    pub abandoned: u64,
    /// Sessions that broke an invariant.
    pub violated: u64,
    /// Sessions whose forward pass failed: a GPU can.
    pub failed: u64,
    /// Sessions that could not be opened, for want of a slab.
    pub refused: u64,
    /// INV-1 violations.
    pub inv1_violations: u64,
    /// INV-2 violations.
    pub inv2_violations: u64,
    /// Sessions evicted for being idle too long.
    pub evicted_ttl: u64,
    /// Sessions evicted to make room.
    pub evicted_lru: u64,
    /// Forward passes of the model.
    pub forward_passes: u64,
    /// Tokens appended by clients, as far as they were computed.
    pub tokens_appended: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Generations that ended because they could not be held to their form.
    pub constraint_failures: u64,
    /// What the prefix cache has done and holds.
    pub prefix: PrefixStats,
    /// What speculation has done.
    pub speculation: SpeculationStats,
    /// Forward passes that a GPU has begun before it was known that they come next.
    pub ahead: AheadStats,
}

/// Counts of forward passes that were begun ahead since the engine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AheadStats {
    /// They came next.
    pub taken: u64,
    /// Another came.
    pub dropped: u64,
}

/// Counts of speculation since the engine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpeculationStats {
    /// Steps of a session in which drafted tokens were verified.
    pub verifications: u64,
    /// Tokens that were verified.
    pub drafted: u64,
    /// Those of them that were what the session would have generated: each has saved it a step.
    pub accepted: u64,
    /// Answers of proposers with more tokens than were asked for.
    pub too_many: u64,
    /// Answers with a token that the model does not have.
    pub out_of_vocabulary: u64,
    /// Proposers that could not go on, by their own account.
    pub failed: u64,
    /// Proposers whose code panicked.
    pub panicked: u64,
    /// Proposers that hang.
    pub stalled: u64,
}

/// Counts of the prefix cache: the first two as they are now, the rest since the engine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrefixStats {
    /// Cached token sequences.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Prompts that began with a cached prefix.
    pub hits: u64,
    /// Prompts that were read from their first token, while the cache was on.
    pub misses: u64,
    /// Tokens of prompts that were not computed anew.
    pub tokens_reused: u64,
    /// Entries that went to make room for others.
    pub evicted: u64,
}

/// Where the answer to a command goes.
pub type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What the step loop can be asked.
#[derive(Debug)]
pub enum Command {
    /// Open a session.
    CreateSession {
        /// The client's label, for logs.
        label: String,
        /// Tokens after which its generations stop.
        eos: Vec<u32>,
        /// The id.
        reply: Reply<SessionId>,
    },
    /// Append tokens to a session. It runs to the end even if nobody waits for the answer any more.
    Append {
        /// The session.
        id: SessionId,
        /// The tokens; none only refreshes the idle clock.
        tokens: Vec<u32>,
        /// The history length after it.
        reply: Reply<u64>,
    },
    /// Generate. On a busy session it waits its turn.
    Generate {
        /// The session.
        id: SessionId,
        /// What to do.
        params: GenerateParams,
        /// Where the events go.
        events: Producer<GenerateEvent, EngineError>,
        /// Whether it was taken in.
        reply: Reply<()>,
    },
    /// Generate once after a prompt, in a session of its own that ends with it.
    Complete {
        /// The client's label, for logs.
        label: String,
        /// Tokens after which the generation stops.
        eos: Vec<u32>,
        /// The prompt.
        tokens: Vec<u32>,
        /// What to do after it.
        params: GenerateParams,
        /// Whose cached prefixes the prompt may begin with; those of `None` are for all who have none.
        owner: Option<PrefixOwner>,
        /// Where the events go.
        events: Producer<GenerateEvent, EngineError>,
        /// Where it goes, once it is known, how many tokens of the prompt were cached.
        cached: oneshot::Sender<u64>,
        /// Whether it was taken in.
        reply: Reply<()>,
    },
    /// Close a session, and cancel what it is doing.
    Close {
        /// The session.
        id: SessionId,
        /// The history length at the end.
        reply: Reply<u64>,
    },
    /// Tell of a session.
    Info {
        /// The session.
        id: SessionId,
        /// What is known.
        reply: Reply<SessionInfo>,
    },
    /// Tell of every session of who asks.
    List {
        /// What is known of each, in the order of their ids.
        reply: Reply<Vec<SessionSummary>>,
    },
    /// Make sessions that go on from where one is. On a busy session it waits its turn.
    Fork {
        /// The session.
        id: SessionId,
        /// How many; all are made, or none.
        count: u32,
        /// Their ids.
        reply: Reply<Vec<SessionId>>,
    },
    /// Tell a session's tokens. On a busy session it waits its turn.
    History {
        /// The session.
        id: SessionId,
        /// From which position on.
        from: u64,
        /// The tokens, as many as are copied at once; none, where the history is no longer than that.
        reply: Reply<Vec<u32>>,
    },
    /// Copy a session's whole state. On a busy session it waits its turn.
    Export {
        /// The session.
        id: SessionId,
        /// The copy.
        reply: Reply<Box<SessionImage>>,
    },
    /// Open a session with a state that another had.
    Import {
        /// The id that it had and keeps; a fresh one for `None`.
        id: Option<SessionId>,
        /// The state, laid out for this engine.
        image: Box<SessionImage>,
        /// The id.
        reply: Reply<SessionId>,
    },
    /// Tell of the engine.
    Stats {
        /// The counts.
        reply: Reply<EngineStats>,
    },
    /// Take no new work, let running work end within `grace`, then stop.
    Shutdown {
        /// The longest time to let work run on.
        grace: Duration,
        /// Sent when the work is over.
        reply: Reply<()>,
    },
}
