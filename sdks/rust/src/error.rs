//! What goes wrong, and what to do next.

use std::error::Error;

use tonic::{Code, Status, TimeoutExpired};

/// A call that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Something that is not HOST:PORT.
    #[error(
        "{address:?} is no address: give HOST:PORT as `kakeya serve` prints it after `listening on`"
    )]
    Address {
        /// The address as given.
        address: String,
    },
    /// A key that a header cannot hold. It is not repeated.
    #[error(
        "the key is empty, or has a character that is no visible ASCII, such as a line end of its file"
    )]
    Key,
    /// A route that a header cannot hold.
    #[error("the route has over 256 bytes, or a character that is no visible ASCII")]
    Route,
    /// No server answers.
    #[error(
        "no server answers at {address} ({cause}): start one with `kakeya serve --bind {address}`, or give the address it \
         prints after `listening on`"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// What the connection failed of.
        cause: String,
    },
    /// The server, or the connection to it, ended the call with a status.
    #[error("{:?}: {}{}", .status.code(), .status.message(), advice(.status.code()))]
    Status {
        /// The status.
        status: Box<Status>,
    },
    /// The server answered something that the contract does not allow.
    #[error("{0}")]
    Contract(String),
}

impl ClientError {
    pub(crate) fn address(address: &str) -> Self {
        Self::Address {
            address: address.to_owned(),
        }
    }

    pub(crate) fn unreachable(address: &str, cause: &dyn Error) -> Self {
        Self::Unreachable {
            address: address.to_owned(),
            cause: innermost(cause),
        }
    }

    /// The error that a call ended with.
    pub(crate) fn of(address: &str, status: Status) -> Self {
        let status = overdue(status);
        match status.source() {
            // Only a connection has a cause; what a server says comes as a text.
            Some(cause) if status.code() == Code::Unavailable => Self::unreachable(address, cause),
            _ => Self::Status {
                status: Box::new(status),
            },
        }
    }

    /// The status of the call, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Status { status } => Some(status.code()),
            Self::Unreachable { .. } => Some(Code::Unavailable),
            Self::Address { .. } | Self::Key | Self::Route | Self::Contract(_) => None,
        }
    }
}

/// A deadline that passes here before the server's answer comes is one all the same: tonic tells it as CANCELLED, and
/// which of the two clocks is first is chance.
fn overdue(status: Status) -> Status {
    if causes(&status).any(<dyn Error>::is::<TimeoutExpired>) {
        Status::deadline_exceeded("the call's deadline has passed before an answer came")
    } else {
        status
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&error| error.source())
}

fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// What to do next, for the codes that the server's text does not say it of.
fn advice(code: Code) -> &'static str {
    match code {
        Code::NotFound => {
            " - open a new session and append its history again: sessions end when they are closed, idle for longer than \
             `--idle-ttl`, evicted for a newer one, or with their server (`--state-dir` keeps them)"
        }
        Code::Unauthenticated => {
            " - give a key: `kakeya key new NAME` makes one for the server's `--keys` file"
        }
        Code::ResourceExhausted => {
            " - ask again later, close sessions that are done, or serve with a larger `--capacity`"
        }
        Code::Unavailable => " - wait until the server is back, or connect to another",
        Code::DeadlineExceeded => " - give it more time, and look how long the history has become",
        Code::DataLoss => " - take the snapshot again",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_with_what_to_do() {
        let of = |status| ClientError::of("127.0.0.1:1", status);
        let gone = of(Status::not_found("session `x` not found"));
        assert_eq!(gone.code(), Some(Code::NotFound));
        assert!(
            gone.to_string()
                .starts_with("NotFound: session `x` not found - open a new"),
            "{gone}"
        );
        let bad = of(Status::invalid_argument("max_tokens is 0"));
        assert_eq!(bad.to_string(), "InvalidArgument: max_tokens is 0");
        for (code, part) in [
            (Code::Unauthenticated, "kakeya key new"),
            (Code::ResourceExhausted, "--capacity"),
            (Code::Unavailable, "another"),
            (Code::DeadlineExceeded, "more time"),
            (Code::DataLoss, "again"),
        ] {
            assert!(
                of(Status::new(code, "")).to_string().contains(part),
                "{part}"
            );
        }
    }

    #[test]
    fn a_deadline_is_one_whoever_notices_it() {
        let here = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(here.code(), Code::Cancelled, "tonic's own reading");
        let error = ClientError::of("127.0.0.1:1", here);
        assert_eq!(error.code(), Some(Code::DeadlineExceeded), "{error}");
        assert!(error.to_string().contains("more time"), "{error}");
        let left = ClientError::of("127.0.0.1:1", Status::cancelled("the client left"));
        assert_eq!(left.code(), Some(Code::Cancelled), "{left}");
    }

    #[test]
    fn what_is_not_sent_has_no_status() {
        assert_eq!(ClientError::address("x").code(), None);
        assert_eq!(ClientError::Key.code(), None);
        assert_eq!(ClientError::Route.code(), None);
        let cause = std::io::Error::other("refused");
        let error = ClientError::unreachable("a:1", &cause);
        assert_eq!(error.code(), Some(Code::Unavailable));
        assert!(
            error.to_string().contains("kakeya serve --bind a:1"),
            "{error}"
        );
    }
}
