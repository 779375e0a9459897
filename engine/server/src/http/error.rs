//! Errors as OpenAI writes them, and the one table from engine errors to them.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kakeya_core::{EngineError, InvalidArgument, LimitError, SamplingError};
use serde::Serialize;

/// How much of a text that a client sent is repeated to it, in characters.
const QUOTED: usize = 200;

/// When a client may ask again, where nothing better is known: a slot frees within a generation, a restart takes
/// longer.
const RETRY_BUSY: Duration = Duration::from_secs(1);
const RETRY_STOPPING: Duration = Duration::from_secs(5);

/// What went wrong, as a client's program tells it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is not one that could be answered.
    InvalidRequest,
    /// The tokens of the request and of its answer do not fit the model's context.
    ContextLength,
    /// No key, or a wrong one.
    InvalidApiKey,
    /// No such route.
    UnknownRoute,
    /// No such model.
    ModelNotFound,
    /// No such session, or none of this key's.
    SessionNotFound,
    /// The route exists, and not with this method.
    MethodNotAllowed,
    /// The body did not come in time.
    BodyTooSlow,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// The request is well formed, and the model's files cannot serve it.
    Unprocessable,
    /// The client asks more often than it may.
    RateLimited,
    /// Every place is taken.
    Overloaded,
    /// A fault on this side.
    Server,
    /// The server is stopping, or has no engine any more.
    Unavailable,
}

/// What a kind looks like on the wire.
struct Look {
    status: StatusCode,
    type_name: &'static str,
    code: Option<&'static str>,
}

impl ErrorKind {
    /// Every kind, in the order of their statuses.
    pub const ALL: [Self; 15] = [
        Self::InvalidRequest,
        Self::ContextLength,
        Self::InvalidApiKey,
        Self::UnknownRoute,
        Self::ModelNotFound,
        Self::SessionNotFound,
        Self::MethodNotAllowed,
        Self::BodyTooSlow,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::Unprocessable,
        Self::RateLimited,
        Self::Overloaded,
        Self::Server,
        Self::Unavailable,
    ];

    fn look(self) -> Look {
        const REQUEST: &str = "invalid_request_error";
        const RATE: &str = "rate_limit_error";
        const SERVER: &str = "server_error";
        let (status, type_name, code) = match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, REQUEST, None),
            Self::ContextLength => (
                StatusCode::BAD_REQUEST,
                REQUEST,
                Some("context_length_exceeded"),
            ),
            Self::InvalidApiKey => (StatusCode::UNAUTHORIZED, REQUEST, Some("invalid_api_key")),
            Self::UnknownRoute => (StatusCode::NOT_FOUND, REQUEST, Some("unknown_url")),
            Self::ModelNotFound => (StatusCode::NOT_FOUND, REQUEST, Some("model_not_found")),
            Self::SessionNotFound => (StatusCode::NOT_FOUND, REQUEST, Some("session_not_found")),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                REQUEST,
                Some("method_not_supported"),
            ),
            Self::BodyTooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                REQUEST,
                Some("request_timeout"),
            ),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, REQUEST, None),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, REQUEST, None),
            Self::Unprocessable => (StatusCode::UNPROCESSABLE_ENTITY, REQUEST, None),
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                RATE,
                Some("rate_limit_exceeded"),
            ),
            Self::Overloaded => (StatusCode::TOO_MANY_REQUESTS, RATE, Some("overloaded")),
            Self::Server => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, None),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("unavailable")),
        };
        Look {
            status,
            type_name,
            code,
        }
    }

    /// Its HTTP status.
    pub fn status(self) -> StatusCode {
        self.look().status
    }

    /// The value of `type` in its envelope.
    pub fn type_name(self) -> &'static str {
        self.look().type_name
    }

    /// The value of `code` in its envelope; `None` is `null`.
    pub fn code(self) -> Option<&'static str> {
        self.look().code
    }

    /// When to ask again, if nobody knows better; `None` where asking again does not help.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::RateLimited | Self::Overloaded => Some(RETRY_BUSY),
            Self::Unavailable => Some(RETRY_STOPPING),
            _ => None,
        }
    }
}

/// An error as it is answered: a status, OpenAI's envelope, and headers that go with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What went wrong.
    pub kind: ErrorKind,
    /// What a person reads.
    pub message: String,
    /// The field of the request that is at fault, where it is one.
    pub param: Option<String>,
    /// When to ask again, where it is better known than [`ErrorKind::retry_after`].
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error of a kind, with what a person reads.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    /// A request whose field `param` is at fault.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message).at(param)
    }

    /// A body that is no JSON, or otherwise at fault as a whole.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// A required field that is absent or null.
    pub fn missing(param: &str) -> Self {
        Self::invalid(param, format!("`{param}` is required"))
    }

    /// A field that asks for what this server does not have.
    pub fn unsupported(param: &str, what: &str) -> Self {
        Self::invalid(param, format!("`{param}` is not supported: {what}"))
    }

    /// A request without a key, or with a wrong one. Nothing of the key is repeated.
    pub fn invalid_api_key() -> Self {
        Self::new(
            ErrorKind::InvalidApiKey,
            "incorrect API key provided: send it as `authorization: Bearer KEY`",
        )
    }

    /// A model that is not served here, where `served` is.
    pub fn unknown_model(model: &str, served: &str) -> Self {
        let model = shorten(model, QUOTED);
        Self::new(
            ErrorKind::ModelNotFound,
            format!(
                "the model `{model}` does not exist here, but `{served}` does: name that one, or start the server with \
                 `--served-model-name`"
            ),
        )
        .at("model")
    }

    /// The same error, with the field that is at fault.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error, with the time after which to ask again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The body it is answered with.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope {
            error: Details {
                message: &self.message,
                r#type: self.kind.type_name(),
                param: self.param.as_deref(),
                code: self.kind.code(),
            },
        }
    }
}

/// OpenAI's error body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Envelope<'e> {
    error: Details<'e>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Details<'e> {
    message: &'e str,
    r#type: &'static str,
    param: Option<&'e str>,
    code: Option<&'static str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.kind.status(), axum::Json(self.envelope())).into_response();
        let headers = response.headers_mut();
        if self.kind == ErrorKind::InvalidApiKey {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after.or(self.kind.retry_after()) {
            // The header knows whole seconds, and 0 would invite a client to come back at once.
            let seconds = after.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What a client may do about an error decides its kind: ask for something else, ask later, ask elsewhere, or tell
/// us. A single-shot request names no session, so a session that is not found was taken away for want of room.
impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::InvalidArgument(InvalidArgument::ContextExceeded { .. }) => {
                ErrorKind::ContextLength
            }
            EngineError::InvalidArgument(_)
            | EngineError::Limit(LimitError::NewTokens { .. } | LimitError::RequestTokens { .. }) => {
                ErrorKind::InvalidRequest
            }
            EngineError::Limit(LimitError::History { .. }) => ErrorKind::ContextLength,
            EngineError::Limit(
                LimitError::Streams { .. } | LimitError::Sessions { .. } | LimitError::Rate { .. },
            ) => ErrorKind::RateLimited,
            EngineError::NotFound { .. }
            | EngineError::NoSlab { .. }
            | EngineError::QueueFull { .. }
            | EngineError::BacklogFull { .. }
            | EngineError::QueueTimeout { .. } => ErrorKind::Overloaded,
            EngineError::Draining
            | EngineError::ShutdownTimeout
            | EngineError::Stopped
            | EngineError::Store { .. } => ErrorKind::Unavailable,
            EngineError::Invariant(_)
            | EngineError::Constraint(_)
            | EngineError::Internal { .. } => ErrorKind::Server,
        };
        let retry_after = match &error {
            EngineError::Limit(LimitError::Rate { retry_after, .. }) => Some(*retry_after),
            _ => None,
        };
        Self {
            param: field(&error).map(str::to_owned),
            retry_after,
            ..Self::new(kind, error.to_string())
        }
    }
}

/// The error of a request that names a session: one that is not found is not there.
pub fn named_session(error: EngineError) -> ApiError {
    match error {
        EngineError::NotFound { .. } => {
            ApiError::new(ErrorKind::SessionNotFound, error.to_string())
        }
        error => error.into(),
    }
}

/// The field of a request that an engine error is about, where it has the same name in every request.
fn field(error: &EngineError) -> Option<&'static str> {
    let argument = match error {
        EngineError::InvalidArgument(argument) => argument,
        EngineError::Limit(LimitError::NewTokens { .. }) => return Some("max_tokens"),
        _ => return None,
    };
    match argument {
        InvalidArgument::ZeroMaxTokens => Some("max_tokens"),
        InvalidArgument::Sampling(error) => Some(match error {
            SamplingError::Temperature { .. } => "temperature",
            SamplingError::TopP { .. } => "top_p",
            SamplingError::MinP { .. } => "min_p",
            SamplingError::PresencePenalty { .. } => "presence_penalty",
            SamplingError::FrequencyPenalty { .. } => "frequency_penalty",
            SamplingError::RepetitionPenalty { .. } => "repetition_penalty",
        }),
        InvalidArgument::LogitBias(_) => Some("logit_bias"),
        InvalidArgument::Stop(_) => Some("stop"),
        InvalidArgument::TopLogprobs { .. } => Some("top_logprobs"),
        InvalidArgument::EmptyPrompt => Some("prompt"),
        InvalidArgument::ZeroForks => Some("count"),
        InvalidArgument::TokenOutOfVocabulary { .. }
        | InvalidArgument::EmptySession { .. }
        | InvalidArgument::ContextExceeded { .. } => None,
    }
}

/// At most the first `limit` characters of a text, with a mark where some were left out.
pub(crate) fn shorten(text: &str, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
    }
}
