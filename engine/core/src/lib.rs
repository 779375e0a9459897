//! Sessions, slabs, admission and the token pipeline.
//!
//! Everything here holds without a model: no tensor library, no network, and no clock of its own (callers
//! pass `Instant`s in, so every rule about time can be tested without waiting). The step loop drives these
//! parts from one thread; the wire layer reaches them through [`EngineHandle`].

pub mod config;
pub mod constraint;
pub mod device;
pub mod elements;
pub mod engine;
pub mod error;
pub mod events;
pub mod handle;
pub mod meter;
pub mod metrics;
pub mod packed;
pub mod params;
pub mod pipeline;
pub mod prefix;
pub mod request;
pub mod sampling;
pub mod scheduler;
pub mod session;
pub mod shared;
pub mod slab;
pub mod snapshot;
pub mod store;
pub mod tenant;

pub use config::{CacheConfig, ConfigError, KvElement, PositionPolicy, Window};
pub use constraint::{Constraint, ConstraintError, Form, TokenConstraint, TokenGrammar, TokenSet};
pub use device::DeviceKv;
pub use engine::{
    AheadStats, Command, EngineStats, PrefixStats, Reply, SessionInfo, SessionSummary,
    SpeculationStats,
};
pub use error::{EngineError, InvalidArgument};
pub use events::{
    GenerateDone, GenerateEvent, GeneratedToken, StopReason, TokenLogprob, TokenLogprobs,
};
pub use handle::{Completion, EVENTS_IN_FLIGHT, EngineHandle};
pub use meter::{Charge, Meter, StreamPermit};
pub use metrics::EngineMetrics;
pub use packed::PackedKv;
pub use params::{GenerateParams, LogitBiasError, StopError};
pub use pipeline::{Cancelled, Consumer, PipelineError, Producer, Tap, TrySend};
pub use prefix::{PrefixIndex, PrefixMatch, PrefixOwner};
pub use request::Request;
pub use sampling::{Sampling, SamplingError};
pub use scheduler::{AdmissionError, AdmissionPolicy, Scheduler, Ticket, TicketState};
pub use session::{CachedTokens, Session, SessionId, SessionIdError};
pub use shared::{Ended, SharedSessions};
pub use slab::{
    HostKv, Int8Elements, KVSlab, KvStorage, RejectReason, RejectedSlab, SlabError, SlabPool,
    SlabShape,
};
pub use snapshot::{
    SessionImage, Snapshot, SnapshotError, SnapshotReader, SnapshotWriter, StateSettings,
};
pub use store::{
    CacheInspector, InvariantViolation, KvSide, SessionError, SessionStore, StoreLimits,
    ViolationCounts,
};
pub use tenant::{LimitError, Limits, Owner, Tenant};
