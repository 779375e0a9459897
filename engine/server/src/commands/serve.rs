//! `kakeya serve`: the engine behind a port, until told to stop.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use kakeya_core::{AdmissionPolicy, EngineHandle};
use kakeya_runtime::{Engine, EngineConfig, SnapshotCodec, StepLoop, StepLoopThread};
use kakeya_server::http::loading;
use kakeya_server::http::shim::{self, ServedModel, Shim, Slots};
use kakeya_server::metrics::Metrics;
use kakeya_server::sessions;
use kakeya_server::wire::{Drain, Services, bind, serve_guarded};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::keep::StateArgs;
use super::logs::LogArgs;
use super::memory::MemoryLimit;
use super::model::Servable;
use super::observe::{self, ObserveArgs};
use super::options::{EngineArgs, EngineOptions, positive, seconds};
use super::prefix_cache::PrefixCacheArgs;
use super::proposer::ProposerArgs;
use super::security::{Security, SecurityArgs};
use super::settings::Effective;
use super::signals::StopSignals;
use super::store::{self, StoreArgs};
use super::{Failure, Outcome, engine, model, output};

/// Flags of `kakeya serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Read settings from this TOML file, whose keys are the names of these flags; flags and variables outdo it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    bind: String,
    /// Serve the OpenAI-compatible HTTP routes on this address as well; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// What HTTP requests call the model [default: the catalogue's name, or the file's without its extension]
    #[arg(long, value_name = "NAME", requires = "http")]
    served_model_name: Option<String>,
    /// Sessions that can live at once
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    capacity: NonZeroUsize,
    /// Seconds after which an unused session ends
    #[arg(long, value_name = "SECONDS", default_value = "1800", value_parser = positive)]
    idle_ttl: NonZeroUsize,
    /// Appends and generations at work at once, in shared passes; more wait in a queue
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    max_active: NonZeroUsize,
    /// Seconds that a request may wait in the queue; 0 turns it away where it would have to wait
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    queue_max_wait: Duration,
    /// Requests that may wait at once
    #[arg(long, value_name = "N", default_value = "256", value_parser = positive)]
    queue_cap: NonZeroUsize,
    /// Seconds that running generations get to finish when the server is told to stop
    #[arg(long, alias = "grace", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    shutdown_timeout: Duration,
    /// Memory that the server may take, such as 12GiB or 80%; settings that need more are refused at start
    #[arg(long, value_name = "SIZE", default_value = "90%")]
    memory_limit: MemoryLimit,
    #[command(flatten)]
    proposer: ProposerArgs,
    #[command(flatten)]
    keep: StateArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    observe: ObserveArgs,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    prefix_cache: PrefixCacheArgs,
    #[command(flatten)]
    logs: LogArgs,
}

/// The flags, validated.
#[derive(Debug)]
struct ServeOptions {
    engine: EngineOptions,
    slots: Slots,
    config: EngineConfig,
    drain: Drain,
    security: Security,
}

impl ServeArgs {
    /// The file that settings were read from.
    pub fn file(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    /// Checks the flags and starts nothing.
    ///
    /// # Errors
    /// A usage error that names the flag.
    pub fn check(self) -> Outcome {
        self.validate().map(drop)
    }

    fn validate(self) -> Result<ServeOptions, Failure> {
        let engine = self.engine.validate()?;
        let max_wait = self.queue_max_wait;
        let cap = self.queue_cap.get();
        let admission = if max_wait.is_zero() {
            AdmissionPolicy::Reject
        } else {
            AdmissionPolicy::Queue { max_wait, cap }
        };
        let config = EngineConfig {
            capacity: self.capacity.get(),
            idle_ttl: Duration::from_secs(self.idle_ttl.get() as u64),
            active: self.max_active.get(),
            admission,
            drafts: self.proposer.drafts(),
            ..engine::config(&engine)
        };
        let slots = Slots::new(config.capacity, cap, max_wait);
        let drain = Drain {
            grace: self.shutdown_timeout,
            ..Drain::default()
        };
        Ok(ServeOptions {
            engine,
            slots,
            config,
            drain,
            security: self.security.validate()?,
        })
    }
}

/// Runs `kakeya serve`. The ports are taken first, so that one in use is told before a model is fetched and loaded.
pub fn run(args: ServeArgs, effective: &Effective) -> Outcome {
    let _logs = args.logs.start()?;
    effective.log();
    if let Some(file) = args.file() {
        tracing::info!(file = %file.display(), "settings read");
    }
    let (address, http) = (args.bind.clone(), args.http.clone());
    let (name, prefix_cache) = (args.served_model_name.clone(), args.prefix_cache);
    let metrics_address = args.observe.address();
    let proposer = args.proposer.clone();
    let (keep, store, memory_limit) = (args.keep.clone(), args.store.clone(), args.memory_limit);
    let ServeOptions {
        engine: options,
        slots,
        mut config,
        drain,
        security,
    } = args.validate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(bind(&address)).context("--bind")?;
    security.allow("--bind", &listener)?;
    let mut kept = keep.open()?;
    let store = store.open(&runtime)?;
    let loaded = CancellationToken::new();
    let http = runtime.block_on(observe::open("--http", http))?;
    let metrics_port = runtime.block_on(observe::open("--metrics", metrics_address))?;
    let (http, metrics_port) = {
        let _inside = runtime.enter();
        let http = http.map(|listener| {
            security.allow("--http", &listener)?;
            security.answer_until(listener, &loaded)
        });
        let metrics_port = metrics_port.map(|listener| {
            security.allow_open("--metrics", &listener)?;
            Ok::<_, Failure>(loading::answer(listener, loaded.clone()).context("--metrics")?)
        });
        (http.transpose()?, metrics_port.transpose()?)
    };

    let Servable {
        model,
        sha256,
        tokenizer,
    } = model::load_to_serve(&options, http.is_some() || proposer.needs_tokenizer())?;
    let proposing = proposer.load(&options, &model, tokenizer.as_ref())?;
    let need = proposing.need(engine::need(&model, &config)?, &config)?;
    let room = memory_limit.in_bytes()?;
    config.prefix_cache_bytes = prefix_cache.bytes(http.is_some(), need, room);
    tracing::info!(file = %model.source().path().display(), ?config, "model loaded");
    let quantized = options.load.quantize.map(|to| to.to_string());
    let codec = SnapshotCodec::new(
        Arc::clone(&model),
        &config,
        sha256,
        quantized.unwrap_or_default(),
    )?;
    let name = name.unwrap_or_else(|| model::name(&options, &model));
    let served_model = tokenizer.map(|tokenizer| {
        let name = name.clone();
        ServedModel::new(name, &model, tokenizer, codec.settings())
    });
    let idle_ttl = config.idle_ttl;
    let mut engine = engine::within(memory_limit, model, config, &proposing)?;
    store.watch(&mut engine);
    // From here on a signal is waited for: sessions that were restored are saved again.
    let signals = runtime.block_on(async { StopSignals::listen() })?;
    kept.restore(&mut engine, &codec, &security.guard().access)?;
    let (engine, step_loop) = StepLoop::start(engine)?;
    let mut metrics = observe::metrics(&engine, name, codec.settings(), &slots)?;
    kept.register(&mut metrics);
    let codec = Arc::new(codec);
    let (engine, keeper) = store.keep(&runtime, &engine, &codec, idle_ttl, &mut metrics);
    let http = http.zip(served_model).map(|(listener, model)| HttpDoor {
        listener,
        model,
        slots,
    });
    let grpc = GrpcDoor {
        listener,
        services: sessions::services(engine.clone(), Arc::clone(&codec)),
    };
    loaded.cancel();
    let watch = WatchDoor {
        listener: metrics_port,
        metrics: Arc::new(metrics),
    };
    let doors = Doors {
        grpc,
        http,
        watch,
        security,
    };
    let serving = serve_until_told(doors, engine, step_loop, signals, drain);
    let served = runtime.block_on(serving);
    let flushed = match (&served, keeper) {
        (Ok(engine), Some(keeper)) => runtime.block_on(store::flush(&keeper, engine)),
        _ => Ok(()),
    };
    // Connections that did not close in time are cut here.
    runtime.shutdown_background();
    kept.save(&served?, &codec)?;
    Ok(flushed?)
}

/// What gRPC stands on.
struct GrpcDoor {
    listener: TcpListener,
    services: Services,
}

/// What the HTTP routes stand on.
struct HttpDoor {
    listener: TcpListener,
    model: ServedModel,
    slots: Slots,
}

/// What is measured, and the port of its own.
struct WatchDoor {
    listener: Option<TcpListener>,
    metrics: Arc<Metrics>,
}

/// All ports, and who may come in.
struct Doors {
    grpc: GrpcDoor,
    http: Option<HttpDoor>,
    watch: WatchDoor,
    security: Security,
}

async fn serve_until_told(
    doors: Doors,
    engine: EngineHandle,
    step_loop: StepLoopThread,
    mut signals: StopSignals,
    drain: Drain,
) -> anyhow::Result<Engine> {
    let shutdown = CancellationToken::new();
    // Cancelled when the engine has nothing left to do.
    let drained = CancellationToken::new();
    let Doors {
        grpc,
        http,
        watch,
        security,
    } = doors;
    security.reload_on_hangup()?;
    let told = shutdown.clone();
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        told.cancel();
        let signal = signals.next().await;
        tracing::warn!(signal, "told again: leaving at once");
        std::process::exit(1);
    });

    // A server without its engine has nothing to serve, so the end of one is the end of the other.
    let (stop, done) = (shutdown.clone(), drained.clone());
    let engine_end = tokio::spawn(async move {
        let ended = tokio::task::spawn_blocking(|| step_loop.join()).await;
        done.cancel();
        let early = !stop.is_cancelled();
        stop.cancel();
        match ended {
            Err(_) => Err(anyhow!("the step loop panicked: the log says where")),
            Ok(_) if early => Err(anyhow!("the step loop ended before it was told to")),
            Ok(engine) => Ok(engine),
        }
    });

    let GrpcDoor { listener, services } = grpc;
    announce("", listener.local_addr()?)?;
    let metrics = watch.metrics;
    if let Some(listener) = watch.listener {
        announce("metrics ", listener.local_addr()?)?;
        observe::serve(
            listener,
            Arc::clone(&metrics),
            shutdown.clone(),
            drained.clone(),
        );
    }
    let routes = match http {
        None => None,
        Some(HttpDoor {
            listener,
            model,
            slots,
        }) => {
            announce("http ", listener.local_addr()?)?;
            tracing::info!(
                model = model.name,
                fingerprint = model.fingerprint,
                "served over HTTP"
            );
            let shim = Arc::new(Shim {
                engine: engine.clone(),
                model: Arc::new(model),
                slots,
                metrics,
                stopping: shutdown.clone(),
            });
            let guard = security.guard();
            let served = shim::serve(listener, shim, guard, drained, drain.flush);
            let stop = shutdown.clone();
            Some(tokio::spawn(async move {
                served.await;
                // One port is no use to those who count on two.
                stop.cancel();
            }))
        }
    };
    serve_guarded(
        listener,
        engine,
        services,
        security.guard(),
        shutdown,
        drain,
    )
    .await?;
    if let Some(routes) = routes {
        routes.await.context("the HTTP port failed")?;
    }
    tokio::time::timeout(drain.flush, engine_end)
        .await
        .context("the step loop did not end in time")??
}

/// Says where a port is, on standard output for scripts, and in the log.
fn announce(what: &str, address: SocketAddr) -> anyhow::Result<()> {
    tracing::info!(%address, "{what}listening");
    Ok(output::print(&format!("{what}listening on {address}\n"))?)
}
