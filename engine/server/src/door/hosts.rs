//! Keeping the pages of others away from a server that asks for no key.
//!
//! A site can let its own name lead to 127.0.0.1 once its page is loaded (DNS rebinding). To the browser that page and this server
//! are then of one origin, and it could read every session. What it cannot change is the `Host` that the browser sends, which is
//! its name: so where nothing but the machine's own address guards the port, only names that lead nowhere else are answered.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header;
use axum::http::uri::Authority;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::error::{ApiError, ErrorKind, shorten};

/// How much of a host is repeated, in characters.
const QUOTED: usize = 100;

/// Whether a `Host` is an address, or this machine by name.
fn is_here(host: &str) -> bool {
    host.parse::<Authority>().is_ok_and(|authority| {
        let name = authority.host().trim_matches(['[', ']']);
        let name = name.to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
    })
}

/// Refuses a request that is for another host.
pub(crate) async fn only_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.map(|host| String::from_utf8_lossy(host.as_bytes()));
    match host {
        Some(host) if !is_here(&host) => {
            let host = shorten(&host, QUOTED);
            let message = format!(
                "the request is for the host `{host}`, and without keys this server answers for localhost and for addresses \
                 alone, so that no page of another name reads what it has: ask by its address, or start it with `--keys`"
            );
            ApiError::new(ErrorKind::InvalidRequest, message).into_response()
        }
        _ => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_here_and_other_names_are_not() {
        for (host, here) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.1", true),
            ("[::1]:8080", true),
            ("localhost:8080", true),
            ("LocalHost", true),
            ("kakeya.localhost:1", true),
            ("10.1.2.3:8080", true),
            ("evil.example", false),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("notlocalhost", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(is_here(host), here, "{host}");
        }
    }
}
