//! A name for each request, the same in its log lines and in its answer.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

use super::Door;
use super::bodies::Within;

/// The header, or metadata key, that carries it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over, in bytes.
const MAX_LENGTH: usize = 128;

/// An id that is fit for a header and a log line: printable ASCII without blanks.
fn is_sane(id: &HeaderValue) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// Takes the client's id over, or makes one where there is none that is fit; writes what is logged on the way under it,
/// and answers with it.
pub(super) async fn tell(State(door): State<Door>, request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).filter(|id| is_sane(id));
    let id = given.cloned().unwrap_or_else(fresh);
    let text = id.to_str().unwrap_or_default();
    #[cfg(not(feature = "otel"))]
    let span = tracing::info_span!(
        "request",
        id = text,
        door = door.name(),
        key = tracing::field::Empty
    );
    #[cfg(feature = "otel")]
    let span = super::traces::begin(text, door, &request);
    let mut response = next.run(request).instrument(span.clone()).await;
    #[cfg(feature = "otel")]
    super::traces::end(&span, response.status());
    response.headers_mut().insert(REQUEST_ID, id);
    response.map(|body| Body::new(Within::new(body, span)))
}

fn fresh() -> HeaderValue {
    let id = Uuid::new_v4().simple().to_string();
    HeaderValue::from_str(&id).expect("hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_if_it_is_short_and_printable() {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).expect("a value");
        for fine in ["a", "req_01HX-7.z/~", &"x".repeat(MAX_LENGTH)] {
            assert!(is_sane(&value(fine.as_bytes())), "{fine}");
        }
        for wrong in [
            &b""[..],
            b"a b",
            b"a\tb",
            b"\xc3\xa4",
            "x".repeat(MAX_LENGTH + 1).as_bytes(),
        ] {
            assert!(!is_sane(&value(wrong)), "{wrong:?}");
        }
        assert!(is_sane(&fresh()));
        assert_ne!(fresh(), fresh());
    }
}
