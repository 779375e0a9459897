use std::time::Duration;

use kakeya_core::{
    AdmissionError, ConfigError, ConstraintError, EngineError, InvalidArgument, InvariantViolation,
    KvElement, KvSide, PipelineError, SamplingError, SessionError, SessionId, SlabError, SlabShape,
    TicketState,
};

const INV1: InvariantViolation = InvariantViolation::Inv1 {
    layer: 3,
    which: KvSide::Values,
    recorded: 10,
    observed: 9,
};
const INV2: InvariantViolation = InvariantViolation::Inv2 {
    last: 9,
    observed: 8,
};
const ID: &str = "sess-00000000000000000000000000000001";

fn id() -> SessionId {
    ID.parse().unwrap()
}

#[test]
fn every_engine_error_says_what_is_wrong() {
    let cases = [
        (
            EngineError::NotFound { id: ID.to_owned() },
            format!("session `{ID}` not found: it never existed, was closed, or was evicted"),
        ),
        (
            EngineError::NoSlab { capacity: 16 },
            "all 16 sessions are in use and none can be evicted".to_owned(),
        ),
        (
            EngineError::QueueFull { cap: 8 },
            "every generation slot is busy and the queue of 8 is full".to_owned(),
        ),
        (
            EngineError::BacklogFull { limit: 100 },
            "the requests that wait hold too many tokens: 100 may be held at once; ask again later".to_owned(),
        ),
        (
            EngineError::QueueTimeout {
                max_wait: Duration::from_millis(1500),
            },
            "no generation slot came free within 1.5 seconds".to_owned(),
        ),
        (
            EngineError::InvalidArgument(InvalidArgument::ZeroMaxTokens),
            "max_tokens is 0, and must be 1 or more".to_owned(),
        ),
        (
            EngineError::Invariant(INV2),
            "the session has ended: INV-2 is violated: the position was 9 and is now 8".to_owned(),
        ),
        (
            EngineError::Constraint(ConstraintError {
                detail: "too complex".to_owned(),
            }),
            "the answer cannot be held to its form any further: too complex".to_owned(),
        ),
        (
            EngineError::Draining,
            "the engine is draining and takes no new work".to_owned(),
        ),
        (
            EngineError::Store {
                detail: "it does not answer".to_owned(),
            },
            "the store that sessions are shared in: it does not answer".to_owned(),
        ),
        (
            EngineError::ShutdownTimeout,
            "the server stopped, and this could not finish in the time that was left (--shutdown-timeout): ask again"
                .to_owned(),
        ),
        (EngineError::Stopped, "the engine has stopped".to_owned()),
        (
            EngineError::Internal {
                detail: "a thread died".to_owned(),
            },
            "internal error: a thread died".to_owned(),
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn every_refused_argument_says_what_is_wrong() {
    let cases = [
        (
            InvalidArgument::TokenOutOfVocabulary {
                index: 2,
                token: 49152,
                vocabulary: 49152,
            },
            "token 49152 at index 2 is outside the vocabulary of 49152".to_owned(),
        ),
        (
            InvalidArgument::EmptySession { id: id() },
            format!("session {ID} is empty: append at least one token before generating"),
        ),
        (
            InvalidArgument::EmptyPrompt,
            "the prompt has no tokens: there must be something to continue".to_owned(),
        ),
        (
            InvalidArgument::ZeroForks,
            "count is 0, and must be 1 or more".to_owned(),
        ),
        (
            InvalidArgument::Sampling(SamplingError::TopP { value: 2.0 }),
            "top_p is 2, and must be above 0 and at most 1".to_owned(),
        ),
        (
            InvalidArgument::ContextExceeded {
                history: 8000,
                appended: 200,
                limit: 8192,
            },
            "8000 tokens of history and 200 more pass the model's context of 8192".to_owned(),
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn violations_and_refused_settings_say_what_is_wrong() {
    assert_eq!(
        INV1.to_string(),
        "INV-1 is violated: 10 cached tokens are recorded, but layer 3 holds 9 values"
    );
    let keys = InvariantViolation::Inv1 {
        layer: 0,
        which: KvSide::Keys,
        recorded: 0,
        observed: 1,
    };
    assert_eq!(
        keys.to_string(),
        "INV-1 is violated: 0 cached tokens are recorded, but layer 0 holds 1 keys"
    );
    assert_eq!(
        ConfigError::ZeroWindow.to_string(),
        "window is 0: a query must at least see itself, so the window is 1 or more, or `full`"
    );
    assert_eq!(
        ConfigError::SinkBeyondWindow { sink: 9, window: 8 }.to_string(),
        "sink 9 is beyond the window 8: use at most as many sinks as window positions"
    );
    assert_eq!(
        ConfigError::TooLong {
            sink: 2147483648,
            window: 2147483648
        }
        .to_string(),
        "sink 2147483648 + window 2147483648 is more than 4294967295 positions"
    );
}

#[test]
fn an_id_that_could_not_be_one_is_not_found() {
    let error = "nonsense".parse::<SessionId>().unwrap_err();
    assert_eq!(
        EngineError::from(error),
        EngineError::NotFound {
            id: "nonsense".to_owned()
        }
    );
}

#[test]
fn errors_of_the_session_store_become_the_engines() {
    let cases = [
        (
            SessionError::NotFound { id: id() },
            EngineError::NotFound { id: ID.to_owned() },
        ),
        (
            SessionError::Full { capacity: 4 },
            EngineError::NoSlab { capacity: 4 },
        ),
        (
            SessionError::Taken { id: id() },
            EngineError::Internal {
                detail: format!("session {ID} is there already"),
            },
        ),
        (SessionError::Invariant(INV1), EngineError::Invariant(INV1)),
    ];
    for (error, expected) in cases {
        assert_eq!(EngineError::from(error), expected);
    }
}

#[test]
fn a_pool_that_has_run_out_has_no_slab_and_any_other_pool_error_is_a_fault() {
    let exhausted = EngineError::from(SlabError::Exhausted { capacity: 4 });
    assert_eq!(exhausted, EngineError::NoSlab { capacity: 4 });
    let shape = SlabShape {
        kv_heads: 0,
        head_dim: 1,
        slots: 1,
        element: KvElement::F16,
    };
    for error in [
        SlabError::Empty { shape, capacity: 1 },
        SlabError::TooLarge { shape, capacity: 1 },
        SlabError::Refused { shape, bytes: 1 },
    ] {
        let detail = error.to_string();
        assert_eq!(EngineError::from(error), EngineError::Internal { detail });
    }
}

#[test]
fn a_request_that_is_turned_away_finds_the_queue_full_and_a_broken_ticket_is_a_fault() {
    let rejected = EngineError::from(AdmissionError::Rejected { slots: 2 });
    assert_eq!(rejected, EngineError::QueueFull { cap: 0 });
    let full = EngineError::from(AdmissionError::QueueFull { slots: 2, cap: 8 });
    assert_eq!(full, EngineError::QueueFull { cap: 8 });
    let (from, to) = (TicketState::Failed, TicketState::Completed);
    for error in [
        AdmissionError::InvalidTransition { from, to },
        AdmissionError::UnknownTicket,
    ] {
        let detail = error.to_string();
        assert_eq!(EngineError::from(error), EngineError::Internal { detail });
    }
}

#[test]
fn a_stream_fails_with_its_producers_error_and_a_lost_producer_is_a_fault() {
    let failed = PipelineError::Failed(EngineError::Draining);
    assert_eq!(EngineError::from(failed), EngineError::Draining);
    let lost = EngineError::from(PipelineError::<EngineError>::ProducerLost);
    let detail = "the producer was lost before it finished".to_owned();
    assert_eq!(lost, EngineError::Internal { detail });
}
