//! Who asks, what belongs to them, and how much they may have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::pipeline::{bounded, tapped};
use kakeya_core::store::StoreLimits;
use kakeya_core::{
    CacheConfig, Command, EngineError, EngineHandle, GenerateEvent, GenerateParams, KvElement,
    KvStorage, LimitError, Limits, Meter, Owner, PrefixOwner, Request, Sampling, SessionId,
    SessionStore, SlabShape, Tenant,
};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

const SHAPE: SlabShape = SlabShape {
    kv_heads: 1,
    head_dim: 32,
    slots: 1,
    element: KvElement::F32,
};

const NONE: Limits = Limits {
    max_history: None,
    max_new_tokens: None,
    max_sessions: None,
    max_streams: None,
    tokens_per_minute: None,
};

fn tenant(number: u128, limits: Limits) -> Arc<Tenant> {
    let name = format!("key-{number}");
    let key = Tenant::key(Owner::new(number), name, limits, Arc::default());
    Arc::new(key)
}

fn params(max_tokens: u32) -> GenerateParams {
    GenerateParams::new(max_tokens, Sampling::default())
}

/// A handle that asks as a tenant with these limits, and the engine's end.
fn limited(limits: Limits) -> (EngineHandle, Receiver<Request>) {
    let (engine, commands) = EngineHandle::channel(8);
    (engine.on_behalf_of(tenant(1, limits)), commands)
}

#[test]
fn a_tenant_reaches_its_own_and_the_server_reaches_all() {
    let (one, other) = (Owner::new(1), Owner::new(2));
    let holder = tenant(1, NONE);
    assert!(holder.reaches(one) && !holder.reaches(other));
    assert!(!holder.reaches(Owner::EVERYBODY));
    assert_eq!((holder.owner(), holder.name()), (one, Some("key-1")));
    assert_eq!(holder.prefix_owner(), Some(PrefixOwner::new("1")));
    let everybody = Tenant::everybody(NONE);
    assert_eq!(everybody.prefix_owner(), None);
    assert!(everybody.reaches(Owner::EVERYBODY) && !everybody.reaches(one));
    assert_eq!(
        (everybody.owner(), everybody.name()),
        (Owner::EVERYBODY, None)
    );
    let server = Tenant::server();
    assert!(server.reaches(Owner::EVERYBODY) && server.reaches(one) && server.reaches(other));
    assert_eq!(server.owner(), Owner::EVERYBODY);
    assert_eq!(server.limits(), &NONE);
    assert_eq!((one.number(), Owner::EVERYBODY.number()), (1, 0));
}

#[test]
fn a_store_tells_whose_a_session_is() {
    let limits = StoreLimits {
        capacity: 8,
        idle_ttl: Duration::from_secs(60),
    };
    let mut store = SessionStore::<()>::new(limits, CacheConfig::default());
    let now = Instant::now();
    let mut create = || {
        store
            .create(now, String::new(), Vec::new(), ())
            .expect("room")
    };
    let (mine, theirs, free) = (create(), create(), create());
    let (me, they) = (tenant(1, NONE), tenant(2, NONE));
    store.give(&mine, Arc::clone(&me)).expect("live");
    store.give(&theirs, Arc::clone(&they)).expect("live");
    assert!(store.give(&SessionId::random(), Arc::clone(&me)).is_err());
    assert_eq!(store.get(&mine).expect("live").tenant().owner(), me.owner());
    let reached = |tenant: &Tenant| {
        [&mine, &theirs, &free, &SessionId::random()].map(|id| store.reaches(tenant, id))
    };
    assert_eq!(reached(&me), [true, false, false, false]);
    assert_eq!(reached(&they), [false, true, false, false]);
    assert_eq!(
        reached(&Tenant::everybody(NONE)),
        [false, false, true, false]
    );
    assert_eq!(reached(&Tenant::server()), [true, true, true, false]);
    assert_eq!(store.owned(me.owner()), 1);
    assert_eq!(store.owned(Owner::EVERYBODY), 1);
    assert_eq!(store.owned(Owner::new(3)), 0);
}

#[test]
fn each_limit_holds_to_its_last_unit_and_names_itself_and_the_key() {
    let limits = Limits {
        max_history: Some(100),
        max_new_tokens: Some(8),
        max_sessions: Some(2),
        max_streams: Some(1),
        tokens_per_minute: Some(60),
    };
    let holder = tenant(7, limits);
    let now = Instant::now();
    assert!(holder.check_history(90, 10).is_ok());
    assert!(holder.check_new_tokens(8).is_ok());
    assert!(holder.check_sessions(1, 1).is_ok());
    let stream = holder.stream().expect("the first");
    assert_eq!(holder.meter().streams(), 1);
    let refusals = [
        (
            holder.check_history(90, 11).expect_err("101"),
            "max_history",
        ),
        (
            holder.check_history(u64::MAX, 1).expect_err("many"),
            "max_history",
        ),
        (holder.check_new_tokens(9).expect_err("9"), "max_new_tokens"),
        (holder.check_sessions(1, 2).expect_err("3"), "max_sessions"),
        (
            holder.check_sessions(1, usize::MAX).expect_err("many"),
            "max_sessions",
        ),
        (holder.stream().expect_err("2"), "max_streams"),
        (holder.charge(61, now).expect_err("61"), "tokens_per_minute"),
    ];
    for (refusal, limit) in refusals {
        let text = refusal.to_string();
        assert!(
            text.contains(limit) && text.contains("key `key-7`"),
            "{text}"
        );
    }
    drop(stream);
    assert!(holder.stream().is_ok());
    let anybody = Tenant::everybody(limits);
    let text = anybody.check_new_tokens(9).expect_err("9").to_string();
    assert!(
        text.contains("a client of this server may generate 8"),
        "{text}"
    );
    let unlimited = Tenant::everybody(NONE);
    assert!(unlimited.check_history(u64::MAX, u64::MAX).is_ok());
    assert!(unlimited.check_new_tokens(u32::MAX).is_ok());
    assert!(unlimited.check_sessions(usize::MAX, 1).is_ok());
    assert!(unlimited.charge(usize::MAX, now).is_ok());
}

#[test]
fn room_after_a_prompt_is_the_least_of_its_bounds() {
    let room = |max_history, max_new_tokens, prompt| {
        let limits = Limits {
            max_history,
            max_new_tokens,
            ..NONE
        };
        Tenant::everybody(limits).room_after(prompt, 1000)
    };
    assert_eq!(room(None, None, 5), 1000);
    assert_eq!(room(Some(100), None, 30), 70);
    assert_eq!(room(Some(100), Some(50), 30), 50);
    // Too long already: the engine says so.
    assert_eq!(room(Some(100), Some(50), 100), 1);
    assert_eq!(room(Some(100), None, 200), 1);
}

#[test]
fn tokens_come_back_with_time_and_a_debt_is_paid_first() {
    let holder = tenant(
        1,
        Limits {
            tokens_per_minute: Some(60),
            ..NONE
        },
    );
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let charge = |tokens, now| holder.charge(tokens, now).map(drop);
    let wait = |tokens, now| match charge(tokens, now) {
        Err(LimitError::Rate { retry_after, .. }) => Some(retry_after.as_secs_f64().round()),
        Err(other) => panic!("{other}"),
        Ok(()) => None,
    };
    assert_eq!(wait(60, at(0)), None);
    assert_eq!(wait(1, at(0)), Some(1.0));
    assert_eq!(wait(30, at(10)), Some(20.0));
    assert_eq!(wait(10, at(10)), None);
    // A clock that goes back gives nothing and takes nothing.
    assert_eq!(wait(1, at(5)), Some(1.0));
    // What is generated is taken when it is there, beyond what is left.
    let event = GenerateEvent::Token(3.into());
    let tap = Box::new(holder.stream().expect("a stream"));
    let (producer, _consumer) = tapped::<_, EngineError>(64, Some(tap));
    for _ in 0..40 {
        producer.try_send(event.clone()).expect("room");
    }
    producer
        .try_send(GenerateEvent::Truncated { dropped: 1 })
        .expect("room");
    assert_eq!(wait(0, at(10)), Some(41.0));
    assert_eq!(wait(0, at(52)), None);
    // It never holds more than a minute's.
    assert_eq!(wait(60, at(10_000)), None);
    assert_eq!(wait(2, at(10_001)), Some(1.0));
}

#[test]
fn a_request_that_is_refused_gets_its_tokens_back() {
    let limits = Limits {
        tokens_per_minute: Some(60),
        ..NONE
    };
    let holder = tenant(1, limits);
    let now = Instant::now();
    let charge = holder.charge(60, now).expect("there");
    charge.settle(&Err::<(), _>(EngineError::Draining));
    let charge = holder.charge(60, now).expect("there again");
    charge.settle(&Ok::<_, EngineError>(()));
    assert!(holder.charge(1, now).is_err());
    let nothing = Tenant::everybody(Limits {
        tokens_per_minute: Some(0),
        ..NONE
    });
    assert!(nothing.charge(0, now).is_err());
    let free = Tenant::everybody(NONE).charge(5, now).expect("unlimited");
    free.settle(&Err::<(), _>(EngineError::Draining));
}

#[test]
fn a_stream_counts_until_its_producer_has_ended_and_no_longer_than_its_end_is_known() {
    let meter = Arc::new(Meter::default());
    let key = |limit| {
        let limits = Limits {
            max_streams: Some(limit),
            ..NONE
        };
        Tenant::key(Owner::new(1), "a".into(), limits, Arc::clone(&meter))
    };
    let holder = key(1);
    let open = || {
        let tap = Box::new(holder.stream().expect("a place"));
        tapped::<GenerateEvent, EngineError>(1, Some(tap))
    };
    let (producer, mut consumer) = open();
    assert!(holder.stream().is_err());
    assert!(key(2).stream().is_ok());
    producer.fail(EngineError::Draining);
    assert!(consumer.blocking_next().is_some());
    let (producer, consumer) = open();
    drop(consumer);
    assert!(producer.is_cancelled());
    assert_eq!(meter.streams(), 1);
    drop(producer);
    assert_eq!(meter.streams(), 0);
    let (producer, consumer) = bounded::<GenerateEvent, EngineError>(1);
    drop((producer, consumer));
}

#[tokio::test]
async fn what_is_over_a_limit_does_not_reach_the_engine() {
    let (engine, mut commands) = limited(Limits {
        max_history: Some(10),
        max_new_tokens: Some(4),
        max_streams: Some(0),
        tokens_per_minute: Some(20),
        ..NONE
    });
    let id = SessionId::random;
    let refused = [
        engine.append(id(), vec![1; 21]).await.map(drop),
        engine.generate(id(), params(5)).await.map(drop),
        engine.generate(id(), params(4)).await.map(drop),
        engine
            .complete(String::new(), vec![], vec![1; 8], params(3), None)
            .await
            .map(drop),
        engine
            .complete(String::new(), vec![], vec![1; 2], params(5), None)
            .await
            .map(drop),
        engine
            .complete(String::new(), vec![], vec![1; 2], params(3), None)
            .await
            .map(drop),
    ];
    let names = [
        "tokens_per_minute",
        "max_new_tokens",
        "max_streams",
        "max_history",
        "max_new_tokens",
        "max_streams",
    ];
    for (refused, name) in refused.into_iter().zip(names) {
        let error = refused.expect_err(name);
        assert!(matches!(error, EngineError::Limit(_)), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(commands.try_recv().is_err());
    assert_eq!(engine.tenant().name(), Some("key-1"));
}

#[tokio::test]
async fn a_debt_or_a_refusal_is_told_before_and_after_the_engine() {
    let (engine, mut commands) = limited(Limits {
        tokens_per_minute: Some(20),
        ..NONE
    });
    // The engine refuses: the tokens are there again for the next.
    for _ in 0..3 {
        let asking = tokio::spawn({
            let engine = engine.clone();
            async move { engine.append(SessionId::random(), vec![1; 20]).await }
        });
        let Request { by, command } = commands.recv().await.expect("asked");
        assert_eq!(by.owner(), Owner::new(1));
        command.refuse(EngineError::Draining);
        assert_eq!(asking.await.expect("no panic"), Err(EngineError::Draining));
    }
    let asking = tokio::spawn({
        let engine = engine.clone();
        async move {
            engine
                .complete(String::new(), vec![], vec![1; 20], params(1), None)
                .await
        }
    });
    let Some(Request {
        command: Command::Complete { reply, events, .. },
        ..
    }) = commands.recv().await
    else {
        panic!("not asked")
    };
    reply.send(Ok(())).expect("somebody waits");
    assert!(asking.await.expect("no panic").is_ok());
    drop(events);
    for late in [
        engine.append(SessionId::random(), vec![1]).await.map(drop),
        engine
            .generate(SessionId::random(), params(1))
            .await
            .map(drop),
        engine
            .complete(String::new(), vec![], vec![1], params(1), None)
            .await
            .map(drop),
    ] {
        let late = late.expect_err("nothing is left");
        assert!(
            matches!(late, EngineError::Limit(LimitError::Rate { .. })),
            "{late:?}"
        );
    }
}

/// One of each command, what becomes of its refusal, and what it is.
#[test]
fn every_command_can_be_refused_and_says_what_it_is_about() {
    fn reply<T>() -> (kakeya_core::Reply<T>, impl Fn() -> bool)
    where
        T: 'static,
    {
        let (reply, answer) = oneshot::channel::<Result<T, EngineError>>();
        let answer = std::cell::RefCell::new(answer);
        (reply, move || {
            matches!(
                answer.borrow_mut().try_recv(),
                Ok(Err(EngineError::Draining))
            )
        })
    }
    type Refused = Box<dyn Fn() -> bool>;
    let id = SessionId::random();
    let (events, _consumer) = bounded(1);
    let (more_events, _more) = bounded(1);
    let image = kakeya_core::SessionImage {
        label: String::new(),
        eos_token_ids: vec![],
        history: vec![],
        storage: KvStorage::new(SHAPE).expect("memory"),
        next_logits: vec![],
    };
    let (create, created) = reply();
    let (append, appended) = reply();
    let (generate, generated) = reply();
    let (complete, completed) = reply();
    let (close, closed) = reply();
    let (info, informed) = reply();
    let (list, listed) = reply();
    let (fork, forked) = reply();
    let (history, told) = reply();
    let (export, exported) = reply();
    let (import, imported) = reply();
    let (stats, counted) = reply();
    let (stop, stopped) = reply();
    let label = String::new;
    let grace = Duration::ZERO;
    let (tokens, eos) = (vec![1], vec![]);
    let at = || id.clone();
    let commands: Vec<(Command, Refused, bool, usize, bool)> = vec![
        (
            Command::CreateSession {
                label: label(),
                eos: eos.clone(),
                reply: create,
            },
            Box::new(created),
            false,
            1,
            true,
        ),
        (
            Command::Append {
                id: at(),
                tokens: tokens.clone(),
                reply: append,
            },
            Box::new(appended),
            true,
            0,
            true,
        ),
        (
            Command::Generate {
                id: at(),
                params: params(1),
                events,
                reply: generate,
            },
            Box::new(generated),
            true,
            0,
            true,
        ),
        (
            Command::Complete {
                label: label(),
                eos,
                tokens,
                params: params(1),
                owner: None,
                events: more_events,
                cached: oneshot::channel().0,
                reply: complete,
            },
            Box::new(completed),
            false,
            1,
            true,
        ),
        (
            Command::Close {
                id: at(),
                reply: close,
            },
            Box::new(closed),
            true,
            0,
            false,
        ),
        (
            Command::Info {
                id: at(),
                reply: info,
            },
            Box::new(informed),
            true,
            0,
            false,
        ),
        (
            Command::List { reply: list },
            Box::new(listed),
            false,
            0,
            false,
        ),
        (
            Command::Fork {
                id: at(),
                count: 3,
                reply: fork,
            },
            Box::new(forked),
            true,
            3,
            true,
        ),
        (
            Command::History {
                id: at(),
                from: 2,
                reply: history,
            },
            Box::new(told),
            true,
            0,
            false,
        ),
        (
            Command::Export {
                id: at(),
                reply: export,
            },
            Box::new(exported),
            true,
            0,
            false,
        ),
        (
            Command::Import {
                id: None,
                image: Box::new(image),
                reply: import,
            },
            Box::new(imported),
            false,
            1,
            true,
        ),
        (
            Command::Stats { reply: stats },
            Box::new(counted),
            false,
            0,
            false,
        ),
        (
            Command::Shutdown { grace, reply: stop },
            Box::new(stopped),
            false,
            0,
            false,
        ),
    ];
    for (command, refused, has_session, sessions, is_work) in commands {
        let what = format!("{command:?}");
        assert_eq!(command.session(), has_session.then_some(&id), "{what}");
        assert_eq!(command.sessions_made(), sessions, "{what}");
        assert_eq!(command.is_work(), is_work, "{what}");
        command.refuse(EngineError::Draining);
        assert!(refused(), "{what}");
    }
}
