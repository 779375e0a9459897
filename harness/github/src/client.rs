//! One request to GitHub, as often as it takes and no longer than there is time.

use std::time::{Duration, Instant};

use http::header::{ACCEPT, LINK, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use octocrab::Octocrab;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::address::ApiBase;
use crate::said::{chain, message};
use crate::{GithubError, limits, link};

/// The version of the API that this is written for.
const VERSION: &str = "2022-11-28";
pub(crate) const JSON: &str = "application/vnd.github+json";
/// A file itself, instead of a description of it.
pub(crate) const RAW: &str = "application/vnd.github.raw+json";
/// The most bytes of an answer. A page of a hundred files has their patches.
const LARGEST: usize = 64 << 20;
/// How often one request is sent on.
const HOPS: u32 = 3;
/// How patient a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For one request.
    pub request: Duration,
    /// For everything, waiting for rate limits included.
    pub total: Duration,
}

/// Speaks to GitHub's REST API for one command.
pub struct Client {
    octocrab: Octocrab,
    base: ApiBase,
    patience: Patience,
    began: Instant,
}

/// One request.
pub(crate) struct Call<'a> {
    pub method: Method,
    /// The whole address.
    pub address: String,
    pub accept: &'static str,
    pub body: Option<Value>,
    pub purpose: Purpose<'a>,
}

/// What a request is for.
#[derive(Clone, Copy)]
pub(crate) struct Purpose<'a> {
    /// What is attempted, to follow on "cannot".
    pub what: &'a str,
    /// The permission that it takes, as a workflow spells it.
    pub permission: &'static str,
    /// Whether it may be repeated when nobody knows whether it was done.
    pub repeats: bool,
}

impl<'a> Purpose<'a> {
    /// A request that may be repeated.
    pub fn of(what: &'a str, permission: &'static str) -> Self {
        Self {
            what,
            permission,
            repeats: true,
        }
    }

    /// A request that is done once.
    pub fn once(what: &'a str, permission: &'static str) -> Self {
        Self {
            repeats: false,
            ..Self::of(what, permission)
        }
    }
}

/// An answer that is neither a failure nor a redirect: a success, or one of the refusals that the caller expects.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub next: Option<String>,
    pub text: String,
}

impl Reply {
    /// The answer, as its documented form.
    pub fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, GithubError> {
        serde_json::from_str(&self.text).map_err(|error| GithubError::Unreadable {
            what: what.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// How one attempt ended.
enum Attempt {
    Done(u16, HeaderMap, String),
    /// It may have been done or not.
    Lost(String),
}

impl Client {
    /// A client; its time begins now. Runs inside tokio.
    ///
    /// # Errors
    /// When the token cannot be sent, or the system has no certificates.
    pub fn new(base: ApiBase, token: &str, patience: Patience) -> Result<Self, GithubError> {
        // octocrab would panic on it.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(GithubError::BadToken);
        }
        let octocrab = Octocrab::builder()
            .base_uri(base.to_string())
            .map(|builder| builder.personal_token(token))
            .and_then(|builder| builder.build())
            .map_err(|error| GithubError::Client(error.to_string()))?;
        Ok(Self {
            octocrab,
            base,
            patience,
            began: Instant::now(),
        })
    }

    pub(crate) fn base(&self) -> &ApiBase {
        &self.base
    }

    /// Gets a path below the base.
    pub(crate) async fn get(
        &self,
        path: &str,
        purpose: Purpose<'_>,
        expected: &[u16],
    ) -> Result<Reply, GithubError> {
        let call = Call {
            method: Method::GET,
            address: self.base.join(path),
            accept: JSON,
            body: None,
            purpose,
        };
        self.send(call, expected).await
    }

    /// Sends a body to a path below the base.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        body: Value,
        purpose: Purpose<'_>,
        expected: &[u16],
    ) -> Result<Reply, GithubError> {
        let call = Call {
            method,
            address: self.base.join(path),
            accept: JSON,
            body: Some(body),
            purpose,
        };
        self.send(call, expected).await
    }

    /// Sends a request until there is an answer that counts.
    pub(crate) async fn send(
        &self,
        mut call: Call<'_>,
        expected: &[u16],
    ) -> Result<Reply, GithubError> {
        let (mut attempts, mut hops, mut limited) = (0, 0, 0);
        let mut last = "none was made".to_owned();
        loop {
            if attempts > 0 {
                self.rest(limits::pause(attempts + 1), call.purpose.what, &last)
                    .await?;
            }
            attempts += 1;
            let lost = match self.attempt(&call, &last).await? {
                Attempt::Lost(reason) => reason,
                Attempt::Done(status, headers, text) => {
                    let now = Timestamp::now().as_second();
                    if let Some(wait) = limits::rate_limit(status, &headers, &text, now)
                        && limited < limits::LIMITS
                        // A 503 may have been done all the same; a limit is said before anything is.
                        && (status != 503 || call.purpose.repeats)
                    {
                        let wait = limits::patient(wait, limited);
                        limited += 1;
                        self.wait_for_limit(wait, call.purpose.what).await?;
                        attempts -= 1;
                        last = format!("a rate limit ({status})");
                        continue;
                    }
                    if matches!(status, 301 | 302 | 307 | 308) {
                        hops += 1;
                        self.send_on(&mut call, status, &headers, hops)?;
                        attempts -= 1;
                        continue;
                    }
                    if !limits::is_passing(status) {
                        return self.answer(&call, status, &headers, text, expected);
                    }
                    format!("status {status}: {}", message(&text))
                }
            };
            last = lost;
            if attempts >= limits::ATTEMPTS || !call.purpose.repeats {
                return Err(GithubError::Unreachable {
                    what: call.purpose.what.to_owned(),
                    attempts,
                    reason: last,
                });
            }
        }
    }

    async fn attempt(&self, call: &Call<'_>, last: &str) -> Result<Attempt, GithubError> {
        let left = self.left();
        if left.is_zero() {
            return Err(self.out_of_time(call.purpose.what, last));
        }
        let body = call
            .body
            .as_ref()
            .map_or_else(String::new, Value::to_string);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.address)
            .header(ACCEPT, call.accept)
            .header(
                USER_AGENT,
                concat!("kakeya-harness/", env!("CARGO_PKG_VERSION")),
            )
            .header("x-github-api-version", VERSION);
        if call.body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(body)
            .map_err(|error| GithubError::Unreadable {
                what: call.purpose.what.to_owned(),
                reason: error.to_string(),
            })?;
        let exchange = async {
            let answer = self.octocrab.execute(request).await?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, LARGEST).collect().await;
            Ok::<_, octocrab::Error>((parts, body.map(http_body_util::Collected::to_bytes)))
        };
        let limit = left.min(self.patience.request);
        Ok(match tokio::time::timeout(limit, exchange).await {
            Err(_) => Attempt::Lost(format!("no answer within {:.1} s", limit.as_secs_f64())),
            Ok(Err(error)) => Attempt::Lost(chain(&error)),
            Ok(Ok((_, Err(error)))) if error.is::<LengthLimitError>() => {
                return Err(GithubError::Unreadable {
                    what: call.purpose.what.to_owned(),
                    reason: format!("it has more than {} MiB", LARGEST >> 20),
                });
            }
            Ok(Ok((_, Err(error)))) => Attempt::Lost(format!("the answer broke off: {error}")),
            Ok(Ok((parts, Ok(bytes)))) => Attempt::Done(
                parts.status.as_u16(),
                parts.headers,
                String::from_utf8_lossy(&bytes).into_owned(),
            ),
        })
    }

    fn answer(
        &self,
        call: &Call<'_>,
        status: u16,
        headers: &HeaderMap,
        text: String,
        expected: &[u16],
    ) -> Result<Reply, GithubError> {
        let what = call.purpose.what.to_owned();
        if (200..300).contains(&status) || expected.contains(&status) {
            let next = header(headers, LINK.as_str()).and_then(link::next);
            return Ok(Reply {
                status,
                next: next.map(str::to_owned),
                text,
            });
        }
        let message = message(&text);
        // What the endpoint takes, where GitHub says it.
        let permission = header(headers, "x-accepted-github-permissions")
            .filter(|said| !said.is_empty())
            .map_or_else(
                || call.purpose.permission.to_owned(),
                |said| {
                    said.replace('=', ": ")
                        .replace("; ", "` or `")
                        .replace('_', "-")
                },
            );
        Err(match status {
            401 => GithubError::Unauthorised { what, message },
            403 => GithubError::Forbidden {
                what,
                permission,
                message,
            },
            404 => GithubError::NotFound { what, permission },
            _ => GithubError::Refused {
                what,
                status,
                message,
            },
        })
    }

    /// Aims a request at the place that it was sent on to.
    fn send_on(
        &self,
        call: &mut Call<'_>,
        status: u16,
        headers: &HeaderMap,
        hops: u32,
    ) -> Result<(), GithubError> {
        let to = header(headers, LOCATION.as_str()).unwrap_or_default();
        let refuse = |reason| {
            Err(GithubError::Redirected {
                what: call.purpose.what.to_owned(),
                to: to.to_owned(),
                reason,
            })
        };
        if hops > HOPS {
            return refuse("after it did so several times");
        }
        // The others ask to repeat a request as a GET, which would do nothing.
        if call.method != Method::GET && !matches!(status, 307 | 308) {
            return refuse("with a status that changes nothing there");
        }
        match self.base.same_host(to) {
            None => refuse("which is another host, and the token does not go there"),
            Some(address) => {
                call.address = address;
                Ok(())
            }
        }
    }

    async fn wait_for_limit(&self, wait: Duration, what: &str) -> Result<(), GithubError> {
        let left = self.left();
        if wait >= left {
            let what = what.to_owned();
            return Err(GithubError::RateLimited { what, wait, left });
        }
        eprintln!(
            "note: a rate limit of GitHub asks to wait {} s",
            wait.as_secs()
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Waits before a request is made again that is not repeated by itself.
    pub(crate) async fn pause(&self, attempt: u32, what: &str) -> Result<(), GithubError> {
        self.rest(limits::pause(attempt), what, "its answer was lost")
            .await
    }

    async fn rest(&self, pause: Duration, what: &str, last: &str) -> Result<(), GithubError> {
        if pause >= self.left() {
            return Err(self.out_of_time(what, last));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn left(&self) -> Duration {
        self.patience.total.saturating_sub(self.began.elapsed())
    }

    fn out_of_time(&self, what: &str, last: &str) -> GithubError {
        GithubError::OutOfTime {
            what: what.to_owned(),
            limit: self.patience.total,
            reason: last.to_owned(),
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
