//! Reading a request's body, and answering requests that no route takes.

use std::error::Error;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use http_body_util::LengthLimitError;
use mime::Mime;
use serde::de::DeserializeOwned;

use super::error::{ApiError, ErrorKind, shorten};
use super::requests::Object;
use crate::door::bodies::ArrivalTimeout;

/// The largest body that is read, in bytes: as much as one gRPC message.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How much of a parser's account, and of a path or a field's name, is repeated to the client, in characters.
const QUOTED: usize = 300;

/// A body that is a JSON object, read as `T`. What it cannot be read as is answered in OpenAI's envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        declared_as_json(request.headers())?;
        parse(&read(request.into_body()).await?).map(Self)
    }
}

/// Refuses a body that does not say that it is JSON. A form that a browser sends across sites is one of those.
fn declared_as_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mime = declared.and_then(|text| text.parse::<Mime>().ok());
    let json = mime.is_some_and(|mime| {
        mime.type_() == mime::APPLICATION
            && (mime.subtype() == mime::JSON || mime.suffix() == Some(mime::JSON))
    });
    if !json {
        let found = declared.map_or("none".into(), |text| format!("`{}`", shorten(text, QUOTED)));
        let message = format!("the content-type is {found}, expected `application/json`");
        return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message));
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        let message = "the body has a content-encoding, and must be sent as it is";
        return Err(ApiError::new(ErrorKind::UnsupportedMediaType, message));
    }
    Ok(())
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    axum::body::to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|cause| match (timeout_of(&cause), cause.source()) {
            (Some(timeout), _) => ApiError::new(ErrorKind::BodyTooSlow, timeout.to_string()),
            (None, Some(source)) if source.is::<LengthLimitError>() => ApiError::new(
                ErrorKind::BodyTooLarge,
                format!("the body is over the limit of {MAX_BODY_BYTES} bytes (4 MiB)"),
            ),
            _ => ApiError::malformed(format!("the body could not be read to its end: {cause}")),
        })
}

/// That a body did not come in time, if that is why it cannot be read.
fn timeout_of<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e ArrivalTimeout> {
    let mut cause = Some(cause);
    while let Some(error) = cause {
        if let Some(timeout) = error.downcast_ref() {
            return Some(timeout);
        }
        cause = error.source();
    }
    None
}

/// Reads a body.
///
/// # Errors
/// A body that is no UTF-8, no JSON, or no object, with the place; or a field of another type than it has, with its
/// path.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|cause| {
        let place = cause.valid_up_to();
        ApiError::malformed(format!("the body is not UTF-8 at byte {place}"))
    })?;
    if text.trim_ascii().is_empty() {
        return Err(ApiError::malformed(
            "the body is empty, expected a JSON object",
        ));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let Object(read) = serde_path_to_error::deserialize(&mut reader).map_err(|cause| {
        let path = cause.path().to_string();
        unreadable(&path, cause.inner())
    })?;
    reader.end().map_err(|cause| unreadable(".", &cause))?;
    Ok(read)
}

/// The error of a body that could not be read at `path`, which is `.` for the body itself.
fn unreadable(path: &str, cause: &serde_json::Error) -> ApiError {
    let place = format!(" at line {} column {}", cause.line(), cause.column());
    let account = cause.to_string();
    let account = account.strip_suffix(&place).unwrap_or(&account);
    let account = shorten(account, QUOTED);
    // A `?` stands for a field whose name was not read yet.
    let path = path.trim_end_matches(".?");
    let field = (!matches!(path, "." | "?")).then(|| shorten(path, QUOTED));
    let subject = match &field {
        Some(field) => format!("`{field}`"),
        None => "the body".to_owned(),
    };
    let message = if cause.is_data() {
        format!("{subject} does not fit: {account}{place}")
    } else {
        format!("the body is not valid JSON, in {subject}: {account}{place}")
    };
    match field {
        Some(field) => ApiError::invalid(field, message),
        None => ApiError::malformed(message),
    }
}

/// What OpenAI's clients ask for below their base URL.
const OPENAIS: [&str; 3] = ["/chat/completions", "/completions", "/models"];

/// Answers a request for a path that is no route.
pub async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    let path = shorten(uri.path(), QUOTED).into_owned();
    let hint = if OPENAIS.iter().any(|known| uri.path().starts_with(known)) {
        "OpenAI's routes begin with /v1, so the client's base URL has to end with it"
    } else {
        "GET /openapi.json lists those known"
    };
    let message = format!("unknown request URL: {method} {path}, {hint}");
    ApiError::new(ErrorKind::UnknownRoute, message)
}

/// Answers a request with a method that its route does not take. The router adds the `allow` header.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not allowed on {}", uri.path());
    ApiError::new(ErrorKind::MethodNotAllowed, message)
}
