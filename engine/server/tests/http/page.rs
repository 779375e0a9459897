//! The page at `/`: one document, and what a browser may do with it.

use axum::body::Body;
use axum::http::{Method, Request};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kakeya_server::http::page::router;
use sha2::{Digest, Sha256};

use crate::support::Answer;

async fn page() -> Answer {
    let request = Request::get("/").body(Body::empty()).expect("a request");
    Answer::to(router(), request).await
}

/// What stands between the only occurrences of two tags.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let parts: Vec<_> = text.split(begin).collect();
    let [_, rest] = parts[..] else {
        panic!("{} of {begin}", parts.len() - 1)
    };
    rest.split_once(end).expect(end).0
}

#[tokio::test]
async fn a_browser_runs_the_pages_own_bytes_and_no_others() {
    let page = page().await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").expect("a policy");
    for (directive, begin, end) in [
        ("script-src", "<script type=\"module\">", "</script>"),
        ("style-src", "<style>", "</style>"),
    ] {
        let bytes = between(&page.text, begin, end);
        assert!(bytes.len() > 1000, "{directive}: {bytes}");
        let hash = BASE64_STANDARD.encode(Sha256::digest(bytes));
        let allowed = format!("{directive} 'sha256-{hash}';");
        assert!(policy.contains(&allowed), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(policy.contains("connect-src 'self';"), "{policy}");
}

#[tokio::test]
async fn it_needs_nothing_from_elsewhere() {
    let text = page().await.text;
    for elsewhere in [
        "http://",
        "https://",
        "src=",
        "@import",
        "url(",
        " style=",
        " onclick=",
    ] {
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }
}

#[tokio::test]
async fn head_answers_without_the_document() {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::HEAD;
    let answer = Answer::to(router(), request).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
}
