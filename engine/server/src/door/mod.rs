//! What both doors share: who may come in, how connections are made, and how long anybody is waited for.
//!
//! Both ports answer through an axum router, so each rule is one function around it, the same for gRPC and for HTTP;
//! what differs is how a refusal is written, and that is [`Door`]'s. Nothing here knows the engine.

pub mod access;
pub mod bodies;
pub mod connection;
pub mod exposure;
pub mod hosts;
pub mod incoming;
pub mod keys;
pub mod patience;
pub mod request_id;
pub mod tls;
#[cfg(feature = "otel")]
mod traces;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use tonic::Status;

use crate::http::ApiError;
use access::Access;
use bodies::ArrivalTimeout;
use patience::Patience;
use tls::Tls;

/// Which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// gRPC.
    Grpc,
    /// The OpenAI-compatible routes.
    Http,
}

/// What a door is guarded by. The default lets everybody in and waits for nobody long.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Who may come in.
    pub access: Arc<Access>,
    /// How long clients are waited for.
    pub patience: Patience,
    /// Certificates; without, connections are plain.
    pub tls: Option<Arc<Tls>>,
}

/// Paths of the gRPC port that need no key: what a load balancer asks, and what a client without the contract does.
const OPEN_GRPC: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Paths of the HTTP port that need no key: what a load balancer asks, and the page, which holds nothing and asks for one.
const OPEN_HTTP: [&str; 3] = ["/", "/healthz", "/readyz"];

impl Door {
    /// Its name, in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }

    /// Whether a path needs no key.
    #[must_use]
    pub fn is_open(self, path: &str) -> bool {
        match self {
            Self::Grpc => OPEN_GRPC.iter().any(|service| path.starts_with(service)),
            Self::Http => OPEN_HTTP.contains(&path),
        }
    }

    /// The answer to a request without a key, or with a wrong one. Nothing of the key is repeated.
    pub(crate) fn unauthenticated(self) -> Response {
        let refusal = ApiError::invalid_api_key();
        match self {
            Self::Grpc => Status::unauthenticated(refusal.message).into_http(),
            Self::Http => refusal.into_response(),
        }
    }

    /// The error of a request whose body does not come.
    pub(crate) fn too_slow(self, waited: Duration) -> Box<dyn Error + Send + Sync> {
        let timeout = ArrivalTimeout { waited };
        match self {
            Self::Grpc => Box::new(Status::deadline_exceeded(timeout.to_string())),
            Self::Http => Box::new(timeout),
        }
    }
}

/// Puts the rules around a door's routes: the request's id outermost, then the key, then the bodies' clocks.
pub fn guarded(router: Router, door: Door, guard: &Guard) -> Router {
    let clocks = (door, guard.patience);
    router
        .layer(from_fn_with_state(clocks, bodies::watch))
        .layer(from_fn_with_state(
            (door, Arc::clone(&guard.access)),
            access::authenticate,
        ))
        .layer(from_fn_with_state(door, request_id::tell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doors_have_names() {
        assert_eq!([Door::Grpc, Door::Http].map(Door::name), ["grpc", "http"]);
    }

    #[test]
    fn a_body_that_does_not_come_is_each_doors_own_error() {
        let waited = Duration::from_millis(1500);
        let text = "the rest of the request did not come within 1.5 seconds";
        let grpc = Door::Grpc.too_slow(waited);
        let status = grpc.downcast_ref::<Status>().expect("a status");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(status.message(), text);
        let http = Door::Http.too_slow(waited);
        assert_eq!(http.downcast_ref(), Some(&ArrivalTimeout { waited }));
        assert_eq!(http.to_string(), text);
    }

    #[test]
    fn what_is_open_is_open_by_its_whole_name() {
        for (door, path, open) in [
            (Door::Grpc, "/grpc.health.v1.Health/Check", true),
            (
                Door::Grpc,
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                true,
            ),
            (Door::Grpc, "/grpc.health.v1.HealthX/Check", false),
            (Door::Grpc, "/kakeya.v1.RuntimeService/CreateSession", false),
            (Door::Grpc, "/healthz", false),
            (Door::Http, "/healthz", true),
            (Door::Http, "/", true),
            (Door::Http, "/readyz", true),
            (Door::Http, "/healthz/", false),
            (Door::Http, "//healthz", false),
            (Door::Http, "//", false),
            (Door::Http, "", false),
            (Door::Http, "/v1/models", false),
        ] {
            assert_eq!(door.is_open(path), open, "{door:?} {path}");
        }
    }
}
