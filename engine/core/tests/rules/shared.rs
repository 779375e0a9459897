//! Sessions that several servers have in common: the door asks before it uses one, and tells what came of it.

use std::sync::{Arc, Mutex};

use kakeya_core::shared::Pending;
use kakeya_core::{
    Command, EngineError, EngineHandle, GenerateParams, KvElement, KvStorage, Request, Sampling,
    SessionId, SessionImage, SessionInfo, SharedSessions, SlabShape, Tenant,
};
use tokio::sync::mpsc;

/// Takes note of what it is asked and told, and refuses what it is made to.
#[derive(Debug, Default)]
struct Noted {
    told: Mutex<Vec<String>>,
    refuses: Mutex<Option<(&'static str, usize)>>,
}

impl Noted {
    fn note(&self, what: &str, more: impl std::fmt::Display) -> Result<(), EngineError> {
        self.told.lock().unwrap().push(format!("{what}{more}"));
        let mut refuses = self.refuses.lock().unwrap();
        match refuses.as_mut() {
            Some((this, 0)) if *this == what => Err(EngineError::Store {
                detail: "it does not answer".into(),
            }),
            Some((this, left)) if *this == what => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn refuse(&self, what: &'static str, after: usize) {
        *self.refuses.lock().unwrap() = Some((what, after));
    }
}

impl SharedSessions for Noted {
    fn made<'a>(
        &'a self,
        _: &'a SessionId,
        _: &'a Arc<Tenant>,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async { self.note("made", "") })
    }

    fn fetch<'a>(
        &'a self,
        _: &'a SessionId,
        _: &'a Arc<Tenant>,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async { self.note("fetch", "") })
    }

    fn changed(&self, _: &SessionId, tokens: u64) {
        drop(self.note("changed", format_args!(" {tokens}")));
    }

    fn closed<'a>(&'a self, _: &'a SessionId) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async { self.note("closed", "") })
    }
}

fn image() -> Box<SessionImage> {
    let shape = SlabShape {
        kv_heads: 1,
        head_dim: 4,
        slots: 1,
        element: KvElement::F16,
    };
    Box::new(SessionImage {
        label: String::new(),
        eos_token_ids: Vec::new(),
        history: Vec::new(),
        storage: KvStorage::new(shape).unwrap(),
        next_logits: Vec::new(),
    })
}

/// An engine that says yes to everything, and what it was asked.
async fn obliging(mut commands: mpsc::Receiver<Request>, asked: Arc<Mutex<Vec<&'static str>>>) {
    while let Some(Request { command, .. }) = commands.recv().await {
        let info = SessionInfo {
            history_length: 1,
            cached_length: 1,
            kv_live_bytes: 1,
            inv1_violations: 0,
            inv2_violations: 0,
            idle: std::time::Duration::ZERO,
        };
        let what = match command {
            Command::CreateSession { reply, .. } => {
                reply.send(Ok(SessionId::random())).unwrap();
                "create"
            }
            Command::Import { id, reply, .. } => {
                let what = if id.is_some() { "adopt" } else { "import" };
                reply
                    .send(Ok(id.unwrap_or_else(SessionId::random)))
                    .unwrap();
                what
            }
            Command::Append { reply, .. } => {
                reply.send(Ok(3)).unwrap();
                "append"
            }
            Command::Generate { reply, .. } => {
                reply.send(Ok(())).unwrap();
                "generate"
            }
            Command::Close { reply, .. } => {
                reply.send(Ok(3)).unwrap();
                "close"
            }
            Command::Info { reply, .. } => {
                reply.send(Ok(info)).unwrap();
                "info"
            }
            Command::Fork { count, reply, .. } => {
                let forks = (0..count).map(|_| SessionId::random()).collect();
                reply.send(Ok(forks)).unwrap();
                "fork"
            }
            Command::Export { reply, .. } => {
                reply.send(Ok(image())).unwrap();
                "export"
            }
            _ => "another",
        };
        asked.lock().unwrap().push(what);
    }
}

struct Shared {
    engine: EngineHandle,
    noted: Arc<Noted>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Shared {
    fn new() -> Self {
        let (engine, commands) = EngineHandle::channel(8);
        let (noted, asked) = (Arc::<Noted>::default(), Arc::default());
        tokio::spawn(obliging(commands, Arc::clone(&asked)));
        Self {
            engine: engine.sharing(Arc::clone(&noted) as _),
            noted,
            asked,
        }
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn three_tokens() -> GenerateParams {
    GenerateParams::new(3, Sampling::default())
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, EngineError>) {
    let error = outcome.expect_err("the store refuses");
    assert!(error.to_string().contains("it does not answer"), "{error}");
}

#[tokio::test]
async fn a_session_is_fetched_before_it_is_used_and_told_of_after() {
    let shared = Shared::new();
    let (engine, noted) = (&shared.engine, &shared.noted);
    let id = engine
        .create_session(String::new(), Vec::new())
        .await
        .unwrap();
    assert_eq!(noted.told(), ["made"]);
    engine.append(id.clone(), vec![1, 2]).await.unwrap();
    assert_eq!(noted.told(), ["fetch", "changed 2"]);
    drop(engine.generate(id.clone(), three_tokens()).await.unwrap());
    assert_eq!(noted.told(), ["fetch", "changed 3"]);
    engine.info(id.clone()).await.unwrap();
    assert_eq!(noted.told(), ["fetch"]);
    let image = engine.export(id.clone()).await.unwrap();
    assert_eq!(noted.told(), ["fetch"]);
    engine.import(image).await.unwrap();
    assert_eq!(noted.told(), ["made"]);
    engine.fork(id.clone(), 2).await.unwrap();
    assert_eq!(noted.told(), ["fetch", "made", "made"]);
    engine.close(id.clone()).await.unwrap();
    assert_eq!(noted.told(), ["fetch", "closed"]);
    // What comes from there is not told of.
    engine.adopt(id, self::image()).await.unwrap();
    assert_eq!(noted.told(), Vec::<String>::new());
    let expected = [
        "create", "append", "generate", "info", "export", "import", "fork", "close", "adopt",
    ];
    assert_eq!(shared.asked(), expected);
}

#[tokio::test]
async fn nothing_is_used_that_cannot_be_fetched() {
    let shared = Shared::new();
    shared.noted.refuse("fetch", 0);
    let (engine, id) = (&shared.engine, SessionId::random);
    refused(engine.append(id(), vec![1]).await);
    refused(engine.generate(id(), three_tokens()).await.map(drop));
    refused(engine.info(id()).await);
    refused(engine.export(id()).await.map(drop));
    refused(engine.fork(id(), 1).await);
    refused(engine.close(id()).await);
    assert_eq!(shared.asked(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_session_that_cannot_be_kept_does_not_live() {
    let shared = Shared::new();
    let engine = &shared.engine;
    shared.noted.refuse("made", 0);
    refused(engine.create_session(String::new(), Vec::new()).await);
    assert_eq!(shared.asked(), ["create", "close"]);
    refused(engine.import(image()).await);
    assert_eq!(shared.asked(), ["import", "close"]);
    // All forks or none: the first was kept, the second could not be, and the third was not tried.
    shared.noted.refuse("made", 1);
    shared.noted.told();
    refused(engine.fork(SessionId::random(), 3).await);
    let told = ["fetch", "made", "made", "fetch", "closed"];
    assert_eq!(shared.noted.told(), told);
    assert_eq!(shared.asked(), ["fork", "close", "close", "close"]);
    // One that could not be removed is told.
    shared.noted.refuse("closed", 0);
    refused(engine.close(SessionId::random()).await);
}

#[tokio::test]
async fn sessions_of_one_server_are_told_of_to_nobody() {
    let (engine, commands) = EngineHandle::channel(8);
    let asked = Arc::default();
    tokio::spawn(obliging(commands, Arc::clone(&asked)));
    assert_eq!(engine.close(SessionId::random()).await, Ok(3));
    assert_eq!(*asked.lock().unwrap(), ["close"]);
}
