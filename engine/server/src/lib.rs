//! The doors of the engine: the gRPC service, its health and reflection, and the port they stand on; the parts of the
//! HTTP one that need no model; and what guards both.
//!
//! This library is the wire layer and nothing else. It reaches the engine only through
//! [`kakeya_core::EngineHandle`], so it builds and is tested without a model; what loads one is the
//! `kakeya` command beside it.

#[cfg(feature = "engine")]
pub mod constrain;
pub mod door;
pub mod http;
pub mod metrics;
#[cfg(feature = "engine")]
pub mod sessions;
pub mod shared;
pub mod state;
pub mod wire;
