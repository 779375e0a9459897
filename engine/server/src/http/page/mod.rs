//! `GET /`: a page to chat with the model and to watch sessions, for a person with a browser and nothing else.
//!
//! One document with all it needs: it asks for nothing but this server's own routes, which its security policy holds it
//! to, and it has no state of its own here. It needs no key; what it asks for does.

use std::sync::LazyLock;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPTS: [&str; 3] = [
    include_str!("wire.js"),
    include_str!("chat.js"),
    include_str!("view.js"),
];

/// The document, and what a browser may do with it.
struct Page {
    text: String,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let script = SCRIPTS.concat();
    let text = FRAME
        .replacen("/*STYLE*/", STYLE, 1)
        .replacen("/*SCRIPT*/", &script, 1);
    // What is not of these bytes does not run, wherever it came from.
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(&script),
        hash(STYLE),
    );
    Page { text, policy }
});

/// The page's route.
pub fn router() -> Router {
    Router::new().route("/", get(page))
}

async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &PAGE.policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A new server may come with a new page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE.text.as_str())
}
