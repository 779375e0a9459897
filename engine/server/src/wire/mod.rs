//! `kakeya.v1.RuntimeService` over gRPC.
//!
//! Wire types stop here: [`convert`] turns messages into the engine's own types and back, [`status`] is the one
//! place where an engine error becomes a gRPC status, and [`service`] does nothing but join the two. Whatever can
//! be refused without a model is refused here, before the engine hears of it.

pub mod convert;
mod deadline;
pub mod events;
pub mod health;
pub mod limits;
pub mod listen;
pub mod serve;
pub mod service;
pub mod sessions;
pub mod status;

pub use listen::{ListenError, bind};
pub use serve::{Drain, ServeError, Services, serve, serve_all, serve_guarded, serve_with};
pub use service::RuntimeServiceImpl;
