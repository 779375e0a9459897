//! `kakeya serve`: the engine behind a port, until told to stop.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use kakeya_core::{AdmissionPolicy, EngineHandle};
use kakeya_runtime::{EngineConfig, SnapshotCodec, StepLoopThread};
use kakeya_server::http::shim::{self, ServedModel, Shim, Slots};
use kakeya_server::sessions;
use kakeya_server::wire::{Drain, Services, bind, serve_all};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::logs::LogArgs;
use super::model::Servable;
use super::options::{EngineArgs, EngineOptions, positive};
use super::prefix_cache::PrefixCacheArgs;
use super::signals::StopSignals;
use super::{Failure, Outcome, engine, memory, model, output};

/// Flags of `kakeya serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
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
    #[arg(long, value_name = "SECONDS", default_value = "1800", value_parser = clap::value_parser!(u64).range(1..))]
    idle_ttl: u64,
    /// Appends and generations at work at once, in shared passes; more wait in a queue
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    max_active: NonZeroUsize,
    /// Seconds that a request may wait in the queue; 0 turns it away where it would have to wait
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    queue_max_wait: u64,
    /// Requests that may wait at once
    #[arg(long, value_name = "N", default_value = "256", value_parser = positive)]
    queue_cap: NonZeroUsize,
    /// Seconds that running generations get to finish when the server is told to stop
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    grace: u64,
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
}

impl ServeArgs {
    fn validate(self) -> Result<ServeOptions, Failure> {
        let engine = self.engine.validate()?;
        let admission = match self.queue_max_wait {
            0 => AdmissionPolicy::Reject,
            seconds => AdmissionPolicy::Queue {
                max_wait: Duration::from_secs(seconds),
                cap: self.queue_cap.get(),
            },
        };
        let config = EngineConfig {
            capacity: self.capacity.get(),
            idle_ttl: Duration::from_secs(self.idle_ttl),
            active: self.max_active.get(),
            admission,
            ..engine::config(&engine)
        };
        let max_wait = Duration::from_secs(self.queue_max_wait);
        let slots = Slots::new(config.capacity, self.queue_cap.get(), max_wait);
        let drain = Drain {
            grace: Duration::from_secs(self.grace),
            ..Drain::default()
        };
        Ok(ServeOptions {
            engine,
            slots,
            config,
            drain,
        })
    }
}

/// Runs `kakeya serve`. The ports are taken first, so that one in use is told before a model is fetched and loaded.
pub fn run(args: ServeArgs) -> Outcome {
    args.logs.start()?;
    let (address, http) = (args.bind.clone(), args.http.clone());
    let (name, prefix_cache) = (args.served_model_name.clone(), args.prefix_cache);
    let ServeOptions {
        engine: options,
        slots,
        mut config,
        drain,
    } = args.validate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(bind(&address)).context("--bind")?;
    let http = match http {
        Some(address) => Some(runtime.block_on(bind(&address)).context("--http")?),
        None => None,
    };

    let Servable {
        model,
        sha256,
        tokenizer,
    } = model::load_to_serve(&options, http.is_some())?;
    let (need, machine) = (engine::need(&model, &config)?, memory::machine_bytes()?);
    config.prefix_cache_bytes = prefix_cache.bytes(http.is_some(), need, machine);
    tracing::info!(file = %model.source().path().display(), ?config, "model loaded");
    let quantized = options.load.quantize.map(|to| to.to_string());
    let codec = SnapshotCodec::new(
        Arc::clone(&model),
        &config,
        sha256,
        quantized.unwrap_or_default(),
    )?;
    let served_model = tokenizer.map(|tokenizer| {
        let name = name.unwrap_or_else(|| model::name(&options, &model));
        ServedModel::new(name, &model, tokenizer, codec.settings())
    });
    let (engine, step_loop) = engine::start(model, config)?;
    let http = http.zip(served_model).map(|(listener, model)| HttpDoor {
        listener,
        model,
        slots,
    });
    let grpc = GrpcDoor {
        listener,
        services: sessions::services(engine.clone(), Arc::new(codec)),
    };
    let served = runtime.block_on(serve_until_told(grpc, http, engine, step_loop, drain));
    // Connections that did not close in time are cut here.
    runtime.shutdown_background();
    Ok(served?)
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

async fn serve_until_told(
    grpc: GrpcDoor,
    http: Option<HttpDoor>,
    engine: EngineHandle,
    step_loop: StepLoopThread,
    drain: Drain,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    // Cancelled when the engine has nothing left to do.
    let drained = CancellationToken::new();
    let mut signals = StopSignals::listen()?;
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
            Ok(()) if early => Err(anyhow!("the step loop ended before it was told to")),
            Ok(()) => Ok(()),
        }
    });

    let GrpcDoor { listener, services } = grpc;
    announce("", listener.local_addr()?)?;
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
                stopping: shutdown.clone(),
            });
            let stop = shutdown.clone();
            Some(tokio::spawn(async move {
                let served = shim::serve(listener, shim, drained, drain.flush).await;
                // One port is no use to those who count on two.
                stop.cancel();
                served
            }))
        }
    };
    serve_all(listener, engine, services, shutdown, drain).await?;
    if let Some(routes) = routes {
        routes.await?.context("the HTTP port failed")?;
    }
    tokio::time::timeout(drain.flush, engine_end)
        .await
        .context("the step loop did not end in time")??
}

/// Says where a port is, on standard output for scripts, and in the log.
fn announce(what: &str, address: SocketAddr) -> anyhow::Result<()> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "other machines can connect, and clients are not authenticated");
    }
    tracing::info!(%address, "{what}listening");
    Ok(output::print(&format!("{what}listening on {address}\n"))?)
}
