//! Engine errors as gRPC statuses: the one table.

use kakeya_core::{EngineError, GenerateEvent, LimitError, PipelineError};
use tonic::{Code, Status};

/// The status of an engine error; its text is the error's own.
pub fn status(error: EngineError) -> Status {
    Status::new(code(&error), error.to_string())
}

/// The status that ends a stream whose pipeline broke.
pub fn pipeline_status(error: PipelineError<EngineError>) -> Status {
    status(EngineError::from(error))
}

/// What a client may do about an error decides its code: ask for something that exists, ask for something else, ask
/// later, ask elsewhere, or tell us.
fn code(error: &EngineError) -> Code {
    match error {
        EngineError::NotFound { .. } => Code::NotFound,
        EngineError::InvalidArgument(_) => Code::InvalidArgument,
        EngineError::Limit(limit) => match limit {
            LimitError::Streams { .. } | LimitError::Sessions { .. } | LimitError::Rate { .. } => {
                Code::ResourceExhausted
            }
            // Asking again does not help.
            LimitError::RequestTokens { .. }
            | LimitError::NewTokens { .. }
            | LimitError::History { .. } => Code::InvalidArgument,
        },
        EngineError::Invariant(_) => Code::FailedPrecondition,
        EngineError::NoSlab { .. }
        | EngineError::QueueFull { .. }
        | EngineError::BacklogFull { .. }
        | EngineError::QueueTimeout { .. } => Code::ResourceExhausted,
        EngineError::Draining | EngineError::Stopped | EngineError::Store { .. } => {
            Code::Unavailable
        }
        EngineError::ShutdownTimeout => Code::DeadlineExceeded,
        EngineError::Constraint(_) | EngineError::Internal { .. } => Code::Internal,
    }
}

/// The status of an engine that broke the order of a stream's events: a bug on this side, never the client's.
pub fn out_of_order(event: Option<&GenerateEvent>) -> Status {
    let detail = match event {
        Some(event) => format!("generate sent {event:?} out of order"),
        None => "generate ended without saying how".to_owned(),
    };
    status(EngineError::Internal { detail })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kakeya_core::{
        ConstraintError, InvalidArgument, InvariantViolation, LogitBiasError, SamplingError,
        SessionId, StopError,
    };

    use super::*;

    /// Every variant, with the code the contract gives it and a part of the text a client reads.
    fn table() -> Vec<(EngineError, Code, &'static str)> {
        let id: SessionId = "sess-00000000000000000000000000000007"
            .parse()
            .expect("an id");
        let who = || "key `app`".to_owned();
        let out_of_vocabulary = InvalidArgument::TokenOutOfVocabulary {
            index: 3,
            token: 50_000,
            vocabulary: 49_152,
        };
        let exceeded = InvalidArgument::ContextExceeded {
            history: 8000,
            appended: 200,
            limit: 8192,
        };
        let inv2 = InvariantViolation::Inv2 {
            last: 9,
            observed: 4,
        };
        let which = kakeya_core::KvSide::Values;
        let inv1 = InvariantViolation::Inv1 {
            layer: 2,
            which,
            recorded: 7,
            observed: 6,
        };
        vec![
            (
                EngineError::NotFound {
                    id: "sess-x".into(),
                },
                Code::NotFound,
                "`sess-x` not found",
            ),
            (
                EngineError::NoSlab { capacity: 16 },
                Code::ResourceExhausted,
                "16 sessions",
            ),
            (
                EngineError::QueueFull { cap: 8 },
                Code::ResourceExhausted,
                "queue of 8 is full",
            ),
            (
                EngineError::BacklogFull { limit: 100 },
                Code::ResourceExhausted,
                "100 may be held",
            ),
            (
                EngineError::QueueTimeout {
                    max_wait: Duration::from_millis(1500),
                },
                Code::ResourceExhausted,
                "1.5 seconds",
            ),
            (
                InvalidArgument::ZeroMaxTokens.into(),
                Code::InvalidArgument,
                "max_tokens is 0",
            ),
            (
                out_of_vocabulary.into(),
                Code::InvalidArgument,
                "token 50000 at index 3",
            ),
            (
                InvalidArgument::EmptyPrompt.into(),
                Code::InvalidArgument,
                "has no tokens",
            ),
            (
                InvalidArgument::ZeroForks.into(),
                Code::InvalidArgument,
                "count is 0",
            ),
            (
                InvalidArgument::EmptySession { id }.into(),
                Code::InvalidArgument,
                "is empty: append",
            ),
            (
                SamplingError::TopP { value: 2.0 }.into(),
                Code::InvalidArgument,
                "top_p is 2",
            ),
            (
                InvalidArgument::from(LogitBiasError::Duplicate { token: 4 }).into(),
                Code::InvalidArgument,
                "token 4 twice",
            ),
            (
                InvalidArgument::from(StopError::TooMany { count: 17 }).into(),
                Code::InvalidArgument,
                "17 stop sequences",
            ),
            (
                InvalidArgument::TopLogprobs { value: 21 }.into(),
                Code::InvalidArgument,
                "top_logprobs is 21",
            ),
            (exceeded.into(), Code::InvalidArgument, "context of 8192"),
            (
                LimitError::Streams {
                    who: who(),
                    limit: 4,
                }
                .into(),
                Code::ResourceExhausted,
                "key `app` may have 4 generations at once (max_streams)",
            ),
            (
                LimitError::Sessions {
                    who: who(),
                    limit: 5,
                }
                .into(),
                Code::ResourceExhausted,
                "key `app` may have 5 sessions at once (max_sessions)",
            ),
            (
                LimitError::Rate {
                    who: who(),
                    limit: 60,
                    retry_after: Duration::from_millis(1500),
                }
                .into(),
                Code::ResourceExhausted,
                "60 tokens in a minute (tokens_per_minute), and has: ask again in 2 seconds",
            ),
            (
                LimitError::RequestTokens {
                    who: who(),
                    asked: 61,
                    limit: 60,
                }
                .into(),
                Code::InvalidArgument,
                "61 tokens in one request",
            ),
            (
                LimitError::NewTokens {
                    who: who(),
                    asked: 9,
                    limit: 8,
                }
                .into(),
                Code::InvalidArgument,
                "(max_new_tokens)",
            ),
            (
                LimitError::History {
                    who: who(),
                    history: 90,
                    more: 20,
                    limit: 100,
                }
                .into(),
                Code::InvalidArgument,
                "90 tokens of history and 20 more pass the 100 that a session of key `app` may have",
            ),
            (inv1.into(), Code::FailedPrecondition, "INV-1"),
            (inv2.into(), Code::FailedPrecondition, "INV-2"),
            (EngineError::Draining, Code::Unavailable, "draining"),
            (
                EngineError::Store {
                    detail: "it does not answer".into(),
                },
                Code::Unavailable,
                "it does not answer",
            ),
            (EngineError::Stopped, Code::Unavailable, "stopped"),
            (
                EngineError::ShutdownTimeout,
                Code::DeadlineExceeded,
                "--shutdown-timeout",
            ),
            (
                ConstraintError {
                    detail: "too complex".into(),
                }
                .into(),
                Code::Internal,
                "too complex",
            ),
            (
                EngineError::Internal {
                    detail: "a bug".into(),
                },
                Code::Internal,
                "a bug",
            ),
        ]
    }

    #[test]
    fn every_engine_error_has_its_status_and_its_text() {
        for (error, code, part) in table() {
            let status = status(error.clone());
            assert_eq!(status.code(), code, "{error:?}");
            assert!(status.message().contains(part), "{part}: {status:?}");
            assert!(
                status.message().len() < 1024,
                "an error text travels in a header"
            );
        }
    }

    #[test]
    fn the_table_leaves_no_variant_out() {
        let mut seen: Vec<_> = table()
            .iter()
            .map(|(error, ..)| std::mem::discriminant(error))
            .collect();
        seen.dedup();
        assert_eq!(
            seen.len(),
            14,
            "a new variant of EngineError needs its row here"
        );
    }

    #[test]
    fn a_broken_pipeline_is_the_error_it_carried_or_internal() {
        let failed = pipeline_status(PipelineError::Failed(EngineError::Draining));
        assert_eq!(failed.code(), Code::Unavailable);
        assert_eq!(
            pipeline_status(PipelineError::ProducerLost).code(),
            Code::Internal
        );
    }
}
