//! The OpenAI-compatible door: what of it needs no model.
//!
//! A request passes two steps: [`body`] reads JSON into the structs of [`requests`], which hold whatever was sent,
//! and their `validate` turns it into plain typed values, or refuses it and names the field. What goes out is in
//! [`responses`], and every refusal in [`error`]. The allowed ranges stand once, in [`ranges`].

pub mod body;
pub mod calls;
pub mod error;
pub mod forms;
pub mod loading;
pub mod openapi;
pub mod page;
pub mod probes;
pub mod ranges;
pub mod requests;
pub mod responses;
pub mod schema;
pub mod serve;
#[cfg(feature = "engine")]
pub mod shim;
pub mod sse;
pub mod stop;
pub mod tool_text;

pub use error::{ApiError, ErrorKind};
