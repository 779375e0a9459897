//! Several servers behind one address: Debian's nginx sends each session's calls to one of them, and when one is killed under
//! load, its sessions go on at the others.
//!
//! nginx runs with the settings that `docs/ops/nginx.conf` shows, but for the addresses.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kakeya_core::EngineHandle;
use kakeya_runtime::{EngineConfig, SnapshotCodec, StepLoop};
use kakeya_server::door::Guard;
use kakeya_server::sessions::services;
use kakeya_server::shared::{Keeper, Keeping, SharedStore};
use kakeya_server::wire::{Drain, bind, serve_guarded};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::support::Client;
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{PATIENCE, block_on, engine_with, prose, seeded, small, solo};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![Case::full(
        "sessions_go_on_behind_nginx_when_a_server_is_killed_under_load",
        go_on_behind_nginx,
    )]
}

/// Sessions, each with a route of its own.
const SESSIONS: usize = 8;
/// Tokens of a prompt.
const PROMPT: usize = 20;
/// Tokens that each session generates, and those of a turn.
const TOKENS: usize = 96;
const TURN: u32 = 8;
/// Turns of all sessions before the server is killed.
const BEFORE: usize = 3;

/// One server of several.
struct Server {
    port: u16,
    keeper: Arc<Keeper>,
    engine: EngineHandle,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(context: &SuiteContext, folder: &Path) -> Result<Self, CaseFailure> {
        let config = EngineConfig {
            capacity: SESSIONS,
            ..small(context)
        };
        let store = SharedStore::open(&folder.to_string_lossy(), [], "a case".to_owned())?;
        let weights = context.model_sha256().to_owned();
        let model = context.model()?.clone();
        let codec = Arc::new(SnapshotCodec::new(model, &config, weights, String::new())?);
        let slot = Arc::new(OnceLock::new());
        let mut engine = engine_with(context, config)?;
        engine.tell_ends(Keeper::ends(Arc::clone(&slot)));
        let (engine, _) = StepLoop::start(engine)?;
        let keeping = Keeping {
            every: 1,
            idle_ttl: Duration::from_secs(600),
        };
        let keeper = Keeper::new(store, engine.clone(), Arc::clone(&codec), keeping);
        ensure!(slot.set(Arc::downgrade(&keeper)).is_ok(), "a second keeper");
        let door = engine.sharing(Arc::clone(&keeper) as _);
        let listener = bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let services = services(door.clone(), codec);
        let (guard, drain) = (Guard::default(), Drain::default());
        let never = CancellationToken::new();
        let serving = tokio::spawn(async move {
            drop(serve_guarded(listener, door, services, guard, never, drain).await);
        });
        Ok(Self {
            port,
            keeper,
            engine,
            serving,
        })
    }

    /// Ends it in the middle of whatever it does.
    async fn kill(&self) {
        self.serving.abort();
        drop(self.engine.shutdown(Duration::ZERO).await);
    }
}

/// Starts nginx in front of the servers, and returns its port as well.
async fn nginx(
    context: &SuiteContext,
    servers: [u16; 2],
    home: &Path,
) -> Result<(Child, u16), CaseFailure> {
    let shown: PathBuf = context.goldens().join("../../docs/ops/nginx.conf");
    let shown = std::fs::read_to_string(shown)?;
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let mut site = shown.replace("listen 50050", &format!("listen 127.0.0.1:{port}"));
    for (address, server) in ["10.0.0.1:50051", "10.0.0.2:50051"].iter().zip(servers) {
        ensure!(site.contains(address), "nginx.conf does not name {address}");
        site = site.replace(address, &format!("127.0.0.1:{server}"));
    }
    let path = |name: &str| home.join(name).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
        .concat();
    let whole = format!(
        "daemon off;\npid {};\nerror_log {} notice;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n",
        path("pid"),
        path("error.log"),
    );
    std::fs::write(home.join("nginx.conf"), whole)?;
    let child = Command::new("nginx")
        .arg("-c")
        .arg(home.join("nginx.conf"))
        .arg("-p")
        .arg(home)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| CaseFailure::violated(format!("nginx cannot be run: {error}")))?;
    Ok((child, port))
}

/// What a client does that knows nothing of servers: it asks again, and goes on from what the session has.
struct Talker {
    client: Client,
    prompt: Vec<u32>,
    expected: Vec<u32>,
    seed: u64,
    id: String,
    interrupted: u64,
}

impl Talker {
    async fn begin(&mut self) -> Result<(), CaseFailure> {
        self.id = self.client.create_with(&self.prompt).await?;
        Ok(())
    }

    /// A turn, from where the session is. What comes must be what would have come without servers that die.
    async fn turn(&mut self) -> CaseResult {
        loop {
            match self.try_turn().await {
                Ok(()) => return Ok(()),
                Err(Interrupted::Away(status)) => {
                    self.interrupted += 1;
                    ensure!(self.interrupted < 100, "it does not come back: {status}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(Interrupted::Wrong(failure)) => return Err(failure),
            }
        }
    }

    async fn try_turn(&mut self) -> Result<(), Interrupted> {
        let length = self.client.info(&self.id).await?.history_length as usize;
        let at = length.checked_sub(self.prompt.len());
        let at = at.ok_or_else(|| CaseFailure::violated("its prompt is not all there"))?;
        let left = TOKENS.saturating_sub(at) as u32;
        if left == 0 {
            return Ok(());
        }
        let params = seeded(left.min(TURN), self.seed);
        let stream = self.client.generate(&self.id, params).await?;
        let (tokens, ended) = stream.until_it_ends().await;
        let same = self.expected[at..].starts_with(&tokens);
        if !same {
            let what = format!("tokens {at} and on of seed {} are others", self.seed);
            return Err(CaseFailure::violated(what).into());
        }
        Ok(ended?)
    }
}

/// Why a turn did not come to its end.
enum Interrupted {
    /// The server went away.
    Away(Status),
    /// Something that must not be.
    Wrong(CaseFailure),
}

impl From<Status> for Interrupted {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::DeadlineExceeded => Self::Away(status),
            _ => Self::Wrong(status.into()),
        }
    }
}

impl From<CaseFailure> for Interrupted {
    fn from(failure: CaseFailure) -> Self {
        Self::Wrong(failure)
    }
}

fn go_on_behind_nginx(context: &SuiteContext) -> CaseResult {
    let text = prose(context, PROMPT + SESSIONS)?;
    let prompts: Vec<_> = (0..SESSIONS)
        .map(|at| text[at..at + PROMPT].to_vec())
        .collect();
    let mut expected = Vec::new();
    for (seed, prompt) in (0..).zip(&prompts) {
        expected.push(
            solo(
                context,
                &small(context),
                prompt,
                seeded(TOKENS as u32, seed),
            )?
            .tokens,
        );
    }
    let (store, home) = (TempDir::new()?, TempDir::new()?);
    block_on(PATIENCE * 4, async {
        let one = Server::start(context, store.path()).await?;
        let two = Server::start(context, store.path()).await?;
        let (_nginx, port) = nginx(context, [one.port, two.port], home.path()).await?;
        let address = format!("127.0.0.1:{port}");
        let mut talkers = Vec::new();
        for (seed, (prompt, expected)) in (0..).zip(prompts.into_iter().zip(expected)) {
            let client = connected(&address).await?.routed(&format!("talker-{seed}"));
            talkers.push(Talker {
                client,
                prompt,
                expected,
                seed,
                id: String::new(),
                interrupted: 0,
            });
        }
        for talker in &mut talkers {
            talker.begin().await?;
        }
        let shares = [
            one.engine.list().await?.len(),
            two.engine.list().await?.len(),
        ];
        ensure_eq!(shares[0] + shares[1], SESSIONS, "sessions of both servers");
        ensure!(!shares.contains(&0), "all sessions came to one server");

        let talking: Vec<_> = talkers
            .into_iter()
            .map(|mut talker| {
                tokio::spawn(async move {
                    for _ in 0..TOKENS.div_ceil(TURN as usize) {
                        talker.turn().await?;
                    }
                    Ok::<_, CaseFailure>(talker)
                })
            })
            .collect();
        let passed = |server: &Server| server.keeper.counts().written.get() as usize;
        while passed(&one) + passed(&two) < BEFORE * SESSIONS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        one.kill().await;
        let mut interrupted = 0;
        for talker in talking {
            let mut talker = talker.await??;
            interrupted += talker.interrupted;
            // Turns that were interrupted have said less.
            while talker.client.info(&talker.id).await?.history_length < (PROMPT + TOKENS) as u64 {
                talker.turn().await?;
            }
        }
        ensure!(interrupted > 0, "nobody noticed that a server was killed");
        ensure_eq!(
            two.keeper.counts().fetched.get(),
            shares[0] as u64,
            "sessions that went on at the other"
        );
        two.kill().await;
        Ok(())
    })
}

/// A connection to nginx, once it listens.
async fn connected(address: &str) -> Result<Client, CaseFailure> {
    for _ in 0..200 {
        if let Ok(client) = Client::connect(address).await {
            return Ok(client);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(CaseFailure::violated("nginx does not listen"))
}
