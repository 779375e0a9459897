//! The handle against the bare channel: a test reads the command off it, and answers that one by hand or
//! drops it.

use std::time::Duration;

use kakeya_core::{
    Command, EngineError, EngineHandle, EngineStats, GenerateDone, GenerateEvent, GenerateParams,
    InvalidArgument, KvElement, KvStorage, PrefixOwner, Request, Sampling, SamplingError,
    SessionId, SessionImage, SessionInfo, SessionSummary, SlabShape, StopReason,
};
use tokio::sync::mpsc::Receiver;

/// The next command.
async fn next(commands: &mut Receiver<Request>) -> Option<Command> {
    Some(commands.recv().await?.command)
}

fn asked() -> GenerateParams {
    let sampling = Sampling {
        temperature: 0.7,
        top_p: 0.9,
        top_k: 40,
        seed: Some(1),
        ..Sampling::default()
    };
    GenerateParams::new(5, sampling)
}

fn image() -> Box<SessionImage> {
    let shape = SlabShape {
        kv_heads: 1,
        head_dim: 4,
        slots: 1,
        element: KvElement::F16,
    };
    Box::new(SessionImage {
        label: "moved".to_owned(),
        eos_token_ids: vec![2],
        history: vec![7],
        storage: KvStorage::new(shape).unwrap(),
        next_logits: vec![0.5],
    })
}

const INFO: SessionInfo = SessionInfo {
    history_length: 2,
    cached_length: 2,
    kv_live_bytes: 64,
    inv1_violations: 0,
    inv2_violations: 0,
    idle: Duration::from_secs(1),
};

#[tokio::test]
async fn every_call_on_a_closed_channel_answers_stopped() {
    let (engine, commands) = EngineHandle::channel(1);
    drop(commands);
    let id = SessionId::random();
    assert_eq!(
        engine.create_session(String::new(), vec![]).await,
        Err(EngineError::Stopped)
    );
    assert_eq!(
        engine.append(id.clone(), vec![1]).await,
        Err(EngineError::Stopped)
    );
    assert_eq!(
        engine.generate(id.clone(), asked()).await.unwrap_err(),
        EngineError::Stopped
    );
    assert_eq!(
        engine
            .complete(String::new(), vec![], vec![1], asked(), None)
            .await
            .unwrap_err(),
        EngineError::Stopped
    );
    assert_eq!(engine.close(id.clone()).await, Err(EngineError::Stopped));
    assert_eq!(engine.info(id.clone()).await, Err(EngineError::Stopped));
    assert_eq!(engine.list().await, Err(EngineError::Stopped));
    assert_eq!(engine.fork(id.clone(), 1).await, Err(EngineError::Stopped));
    assert_eq!(engine.export(id).await.unwrap_err(), EngineError::Stopped);
    assert_eq!(engine.import(image()).await, Err(EngineError::Stopped));
    assert_eq!(engine.stats().await, Err(EngineError::Stopped));
    assert_eq!(
        engine.shutdown(Duration::ZERO).await,
        Err(EngineError::Stopped)
    );
}

#[tokio::test]
async fn a_command_dropped_without_an_answer_answers_stopped() {
    let (engine, mut commands) = EngineHandle::channel(0);
    let asking = tokio::spawn(async move { engine.stats().await });
    drop(commands.recv().await.unwrap());
    assert_eq!(asking.await.unwrap(), Err(EngineError::Stopped));
}

#[tokio::test]
async fn parameters_no_session_could_run_are_refused_before_a_command_is_sent() {
    // On a closed channel a command that was sent would answer stopped.
    let (engine, commands) = EngineHandle::channel(1);
    drop(commands);
    let none = GenerateParams {
        max_tokens: 0,
        ..asked()
    };
    assert_eq!(
        engine
            .generate(SessionId::random(), none)
            .await
            .unwrap_err(),
        EngineError::InvalidArgument(InvalidArgument::ZeroMaxTokens)
    );
    let sampling = Sampling {
        temperature: -1.0,
        ..asked().sampling
    };
    let cold = GenerateParams::new(5, sampling);
    assert_eq!(
        engine
            .generate(SessionId::random(), cold)
            .await
            .unwrap_err(),
        EngineError::from(SamplingError::Temperature { value: -1.0 })
    );
    let cold = GenerateParams::new(5, sampling);
    assert_eq!(
        engine
            .complete(String::new(), vec![], vec![1], cold, None)
            .await
            .unwrap_err(),
        EngineError::from(SamplingError::Temperature { value: -1.0 })
    );
    assert_eq!(
        engine
            .complete(String::new(), vec![], vec![], asked(), None)
            .await
            .unwrap_err(),
        EngineError::from(InvalidArgument::EmptyPrompt)
    );
    assert_eq!(
        engine.fork(SessionId::random(), 0).await,
        Err(EngineError::from(InvalidArgument::ZeroForks))
    );
}

#[tokio::test]
async fn a_single_generation_carries_its_prompt_and_streams_what_is_sent_into_it() {
    let (engine, mut commands) = EngineHandle::channel(1);
    let asking = tokio::spawn(async move {
        let owner = Some(PrefixOwner::new("key"));
        engine
            .complete("http".to_owned(), vec![2], vec![7, 8], asked(), owner)
            .await
    });
    let Some(Command::Complete {
        label,
        eos,
        tokens,
        params,
        owner,
        events,
        cached,
        reply,
    }) = next(&mut commands).await
    else {
        panic!()
    };
    assert_eq!(
        (label.as_str(), eos, tokens, params, owner),
        (
            "http",
            vec![2],
            vec![7, 8],
            asked(),
            Some(PrefixOwner::new("key"))
        )
    );
    reply.send(Ok(())).unwrap();
    let mut completion = asking.await.unwrap().unwrap();
    cached.send(1).unwrap();
    assert_eq!(completion.cached.try_recv(), Ok(1));
    let consumer = &mut completion.events;
    events.try_send(GenerateEvent::Token(2.into())).unwrap();
    events.finish();
    assert_eq!(
        consumer.next().await,
        Some(Ok(GenerateEvent::Token(2.into())))
    );
    assert_eq!(consumer.next().await, None);
}

#[tokio::test]
async fn each_call_carries_its_arguments_and_hands_back_its_answer() {
    let (engine, mut commands) = EngineHandle::channel(1);
    let id = SessionId::random();

    let (e, expected) = (engine.clone(), id.clone());
    let asking =
        tokio::spawn(async move { e.create_session("agent".to_owned(), vec![2, 3]).await });
    let Some(Command::CreateSession { label, eos, reply }) = next(&mut commands).await else {
        panic!()
    };
    assert_eq!((label.as_str(), eos), ("agent", vec![2, 3]));
    reply.send(Ok(id.clone())).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(expected));

    let (e, to) = (engine.clone(), id.clone());
    let asking = tokio::spawn(async move { e.append(to, vec![7, 8]).await });
    let Some(Command::Append {
        id: to,
        tokens,
        reply,
    }) = next(&mut commands).await
    else {
        panic!()
    };
    assert_eq!((to, tokens), (id.clone(), vec![7, 8]));
    reply.send(Ok(2)).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(2));

    let (e, to) = (engine.clone(), id.clone());
    let asking = tokio::spawn(async move { e.info(to).await });
    let Some(Command::Info { id: to, reply }) = next(&mut commands).await else {
        panic!()
    };
    assert_eq!(to, id);
    reply.send(Ok(INFO)).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(INFO));

    let (e, to) = (engine.clone(), id.clone());
    let asking = tokio::spawn(async move { e.history(to, 1).await });
    let Some(Command::History {
        id: to,
        from,
        reply,
    }) = next(&mut commands).await
    else {
        panic!()
    };
    assert_eq!((to, from), (id.clone(), 1));
    reply.send(Ok(vec![8])).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(vec![8]));

    let e = engine.clone();
    let asking = tokio::spawn(async move { e.stats().await });
    let Some(Command::Stats { reply }) = next(&mut commands).await else {
        panic!()
    };
    let stats = EngineStats {
        sessions: 1,
        ..EngineStats::default()
    };
    reply.send(Ok(stats)).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(stats));

    let (e, to) = (engine.clone(), id.clone());
    let asking = tokio::spawn(async move { e.close(to).await });
    let Some(Command::Close { id: to, reply }) = next(&mut commands).await else {
        panic!()
    };
    assert_eq!(to, id);
    reply
        .send(Err(EngineError::NotFound { id: to.to_string() }))
        .unwrap();
    assert_eq!(
        asking.await.unwrap(),
        Err(EngineError::NotFound { id: id.to_string() })
    );

    let asking = tokio::spawn(async move { engine.shutdown(Duration::from_secs(3)).await });
    let Some(Command::Shutdown { grace, reply }) = next(&mut commands).await else {
        panic!()
    };
    assert_eq!(grace, Duration::from_secs(3));
    reply.send(Ok(())).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn sessions_are_listed_forked_and_carried_in_and_out() {
    let (engine, mut commands) = EngineHandle::channel(1);
    let id = SessionId::random();

    let e = engine.clone();
    let asking = tokio::spawn(async move { e.list().await });
    let Some(Command::List { reply }) = next(&mut commands).await else {
        panic!()
    };
    let listed = vec![SessionSummary {
        id: id.clone(),
        label: "agent".to_owned(),
        busy: true,
        info: INFO,
    }];
    reply.send(Ok(listed.clone())).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(listed));

    let (e, of) = (engine.clone(), id.clone());
    let asking = tokio::spawn(async move { e.fork(of, 2).await });
    let Some(Command::Fork {
        id: of,
        count,
        reply,
    }) = next(&mut commands).await
    else {
        panic!()
    };
    assert_eq!((of, count), (id.clone(), 2));
    let forks = vec![SessionId::random(), SessionId::random()];
    reply.send(Ok(forks.clone())).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(forks));

    let (e, of) = (engine.clone(), id.clone());
    let asking = tokio::spawn(async move { e.export(of).await });
    let Some(Command::Export { id: of, reply }) = next(&mut commands).await else {
        panic!()
    };
    assert_eq!(of, id);
    reply.send(Ok(image())).unwrap();
    let copied = asking.await.unwrap().unwrap();
    assert_eq!((copied.label.as_str(), copied.history.len()), ("moved", 1));

    let asking = tokio::spawn(async move { engine.import(copied).await });
    let Some(Command::Import {
        id: None,
        image,
        reply,
    }) = next(&mut commands).await
    else {
        panic!()
    };
    assert_eq!(
        (image.label.as_str(), &image.history[..]),
        ("moved", &[7][..])
    );
    reply.send(Ok(id.clone())).unwrap();
    assert_eq!(asking.await.unwrap(), Ok(id));
}

#[tokio::test]
async fn a_generation_that_was_taken_in_streams_what_is_sent_into_it() {
    let (engine, mut commands) = EngineHandle::channel(1);
    let asking = tokio::spawn(async move { engine.generate(SessionId::random(), asked()).await });
    let Some(Command::Generate {
        params,
        events,
        reply,
        ..
    }) = next(&mut commands).await
    else {
        panic!()
    };
    assert_eq!(params, asked());
    reply.send(Ok(())).unwrap();
    let mut consumer = asking.await.unwrap().unwrap();

    let done = GenerateEvent::Done(GenerateDone {
        reason: StopReason::Eos,
        generated: 1,
        prefill: Duration::ZERO,
        total: Duration::ZERO,
    });
    events
        .try_send(GenerateEvent::Truncated { dropped: 9 })
        .unwrap();
    events.try_send(GenerateEvent::Token(2.into())).unwrap();
    events.finish_with(done.clone());
    assert_eq!(
        consumer.next().await,
        Some(Ok(GenerateEvent::Truncated { dropped: 9 }))
    );
    assert_eq!(
        consumer.next().await,
        Some(Ok(GenerateEvent::Token(2.into())))
    );
    assert_eq!(consumer.next().await, Some(Ok(done)));
    assert_eq!(consumer.next().await, None);
}

#[tokio::test]
async fn a_generation_whose_caller_goes_away_before_the_answer_is_cancelled() {
    let (engine, mut commands) = EngineHandle::channel(1);
    let asking = tokio::spawn(async move { engine.generate(SessionId::random(), asked()).await });
    let Some(Command::Generate { events, .. }) = next(&mut commands).await else {
        panic!()
    };
    assert!(!events.is_cancelled());
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert!(events.is_cancelled());
}
