//! What the SDKs' tests speak to: doors without an engine, and the real server, which can be cut off and started anew.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kakeya_core::{CacheConfig, EngineHandle, Limits, Request, Window};
use kakeya_runtime::{EngineConfig, SnapshotCodec, StepLoop, StepLoopThread};
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{FreshKey, KeyRing, parse_file};
use kakeya_server::door::tls::{Tls, TlsFiles};
use kakeya_server::sessions::services;
use kakeya_server::wire::{Drain, Services, bind, serve_guarded};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::context::SuiteContext;
use crate::suites::http::server::{Queue, serving_within};
use crate::suites::support::PATIENCE;
use kakeya_suite::{CaseFailure, CaseResult};

/// Tokens that a history of the real server may have, which the tests know.
const MAX_HISTORY: u64 = 3000;

/// How long a file of tests may take, on a machine under load.
const LIMIT: Duration = Duration::from_secs(600);

/// Where everything is, as the SDKs' tests are told in their environment.
pub(super) struct Servers {
    variables: Vec<(&'static str, String)>,
}

impl Servers {
    /// Tells a program where everything is.
    pub(super) fn tell(&self, command: &mut Command) {
        command.env_remove("KAKEYA_API_KEY");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// The address of the real server's gRPC port.
    pub(super) fn address(&self) -> &str {
        let given = self.variables.iter();
        let mut found = given.filter(|(name, _)| *name == "KAKEYA_TEST_SERVER");
        found.next().map_or("", |(_, address)| address)
    }
}

/// Four sessions of the real model with a small window, so that a test soon passes it.
pub(super) fn config(context: &SuiteContext) -> EngineConfig {
    EngineConfig {
        cache: CacheConfig {
            window: Window::Sliding(256),
            ..CacheConfig::default()
        },
        capacity: 4,
        threads: context.threads(),
        isa: context.isa(),
        ..EngineConfig::default()
    }
}

/// Runs a case beside all servers, and requires that it leaves no session behind.
pub(super) fn with_servers(
    context: &SuiteContext,
    case: impl AsyncFnOnce(&Servers) -> CaseResult,
) -> CaseResult {
    let open = (Queue::PATIENT, Guard::default());
    serving_within(LIMIT, context, config(context), open, async |http| {
        let doors = Doors::open(context).await?;
        let real = Arc::new(Mutex::new(Wire::start(context, "127.0.0.1:0").await?));
        let address = real.lock().await.address.to_string();
        let control = TcpListener::bind("127.0.0.1:0").await?;
        let mut variables = doors.variables.clone();
        variables.push(("KAKEYA_TEST_SERVER", address));
        variables.push(("KAKEYA_TEST_HTTP", http.base_url.clone()));
        variables.push(("KAKEYA_TEST_CONTROL", control.local_addr()?.to_string()));
        let servers = Servers { variables };
        tokio::select! {
            ended = case(&servers) => ended?,
            failed = restart_when_told(context, &control, &real) => failed?,
        }
        let mut real = real.lock().await;
        real.ensure_nothing_left().await?;
        real.cut();
        Ok(())
    })
}

/// Cuts the real server off, and starts another one at its address, whenever a test says `restart`.
async fn restart_when_told(
    context: &SuiteContext,
    control: &TcpListener,
    real: &Mutex<Wire>,
) -> CaseResult {
    loop {
        let (mut asked, _) = control.accept().await?;
        let mut word = [0; 8];
        asked.read_exact(&mut word).await?;
        let mut running = real.lock().await;
        let address = running.address.to_string();
        running.cut();
        *running = Wire::start(context, &address).await?;
        asked.write_all(b"done\n").await?;
    }
}

/// The real server's gRPC port, on a runtime of its own so that its connections end when it does.
struct Wire {
    address: SocketAddr,
    engine: Option<EngineHandle>,
    step_loop: Option<StepLoopThread>,
    runtime: Option<Runtime>,
}

impl Wire {
    async fn start(context: &SuiteContext, address: &str) -> Result<Self, CaseFailure> {
        let (model, config) = (context.model()?, config(context));
        let weights = context.model_sha256().to_owned();
        let codec = SnapshotCodec::new(model.clone(), &config, weights, String::new())?;
        let (engine, step_loop) = StepLoop::spawn(model.clone(), config)?;
        let services = services(engine.clone(), Arc::new(codec));
        let limits = Limits {
            max_history: Some(MAX_HISTORY),
            ..Limits::default()
        };
        let guard = Guard {
            access: Arc::new(Access::open(limits)),
            ..Guard::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (asked, serving) = (address.to_owned(), engine.clone());
        let bound = runtime.spawn(async move {
            let listener = bind(&asked).await?;
            let address = listener.local_addr()?;
            let never = CancellationToken::new();
            let drain = Drain::default();
            let served = serve_guarded(listener, serving, services, guard, never, drain);
            tokio::spawn(served);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(address)
        });
        let address = bound
            .await?
            .map_err(|error| CaseFailure::violated(error.to_string()))?;
        Ok(Self {
            address,
            engine: Some(engine),
            step_loop: Some(step_loop),
            runtime: Some(runtime),
        })
    }

    /// Waits until no session is left, however long ago its client has gone.
    async fn ensure_nothing_left(&self) -> CaseResult {
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        let start = std::time::Instant::now();
        let mut stats = engine.stats().await?;
        while (stats.sessions, stats.active) != (0, 0) {
            crate::ensure!(
                start.elapsed() < PATIENCE,
                "the tests left {} sessions, {} of them at work",
                stats.sessions,
                stats.active
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
            stats = engine.stats().await?;
        }
        Ok(())
    }

    /// Ends it as a kill would: connections break, and its sessions are gone.
    fn cut(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        drop(self.engine.take());
        drop(self.step_loop.take());
    }
}

impl Drop for Wire {
    /// A runtime must not be dropped where others wait.
    fn drop(&mut self) {
        self.cut();
    }
}

/// Ports with no engine behind them.
struct Doors {
    variables: Vec<(&'static str, String)>,
    /// What reached the one that never answers.
    _unanswered: Receiver<Request>,
}

impl Doors {
    async fn open(context: &SuiteContext) -> Result<Self, CaseFailure> {
        let scratch = context.scratch()?;
        let key = FreshKey::new("sdk")?;
        let keys = KeyRing::new(parse_file(&key.lines())?, Limits::default());
        let locked = Guard {
            access: Arc::new(Access::Keys(keys)),
            ..Guard::default()
        };
        let files = certificate(scratch)?;
        let root = files.cert.to_string_lossy().into_owned();
        let certified = Guard {
            tls: Some(Arc::new(Tls::load(files)?)),
            ..Guard::default()
        };
        let closed = || EngineHandle::channel(1).0;
        let (silent, unanswered) = EngineHandle::channel(64);
        let variables = vec![
            (
                "KAKEYA_TEST_CLOSED",
                door(closed(), Guard::default()).await?,
            ),
            ("KAKEYA_TEST_SILENT", door(silent, Guard::default()).await?),
            ("KAKEYA_TEST_LOCKED", door(closed(), locked).await?),
            ("KAKEYA_TEST_KEY", key.secret().to_owned()),
            ("KAKEYA_TEST_TLS", door(closed(), certified).await?),
            ("KAKEYA_TEST_ROOT", root),
        ];
        Ok(Self {
            variables,
            _unanswered: unanswered,
        })
    }
}

/// Opens a port until the runtime ends.
async fn door(engine: EngineHandle, guard: Guard) -> Result<String, CaseFailure> {
    let listener = bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let never = CancellationToken::new();
    let services = Services::default();
    let served = serve_guarded(listener, engine, services, guard, never, Drain::default());
    tokio::spawn(served);
    Ok(address)
}

/// A certificate for localhost that is its own root.
fn certificate(folder: PathBuf) -> Result<TlsFiles, CaseFailure> {
    let mut params = CertificateParams::new(["localhost".to_owned()])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pair = KeyPair::generate()?;
    let files = TlsFiles {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        client_ca: None,
    };
    std::fs::write(&files.cert, params.self_signed(&pair)?.pem())?;
    std::fs::write(&files.key, pair.serialize_pem())?;
    Ok(files)
}
