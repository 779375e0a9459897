//! `kakeya serve`: the engine behind a port, until told to stop.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use kakeya_core::{AdmissionPolicy, EngineHandle};
use kakeya_runtime::{EngineConfig, StepLoopThread};
use kakeya_server::wire::{Drain, bind, serve_with};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::logs::LogArgs;
use super::options::{EngineArgs, EngineOptions, positive};
use super::signals::StopSignals;
use super::{Failure, Outcome, engine, model, output};

/// Flags of `kakeya serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    bind: String,
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
    logs: LogArgs,
}

/// The flags, validated.
#[derive(Debug)]
struct ServeOptions {
    engine: EngineOptions,
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
        let drain = Drain {
            grace: Duration::from_secs(self.grace),
            ..Drain::default()
        };
        Ok(ServeOptions {
            engine,
            config,
            drain,
        })
    }
}

/// Runs `kakeya serve`. The port is taken first, so that a port in use is told before a model is fetched and loaded.
pub fn run(args: ServeArgs) -> Outcome {
    args.logs.start()?;
    let address = args.bind.clone();
    let ServeOptions {
        engine: options,
        config,
        drain,
    } = args.validate()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(bind(&address)).context("--bind")?;
    let address = listener.local_addr()?;

    let model = model::load(&options)?;
    tracing::info!(file = %model.source().path().display(), ?config, "model loaded");
    let (engine, step_loop) = engine::start(model, config)?;
    let served = runtime.block_on(serve_until_told(
        listener, engine, step_loop, drain, address,
    ));
    // Connections that did not close in time are cut here.
    runtime.shutdown_background();
    Ok(served?)
}

async fn serve_until_told(
    listener: TcpListener,
    engine: EngineHandle,
    step_loop: StepLoopThread,
    drain: Drain,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
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
    let stop = shutdown.clone();
    let engine_end = tokio::spawn(async move {
        let ended = tokio::task::spawn_blocking(|| step_loop.join()).await;
        let early = !stop.is_cancelled();
        stop.cancel();
        match ended {
            Err(_) => Err(anyhow!("the step loop panicked: the log says where")),
            Ok(()) if early => Err(anyhow!("the step loop ended before it was told to")),
            Ok(()) => Ok(()),
        }
    });

    if !address.ip().is_loopback() {
        tracing::warn!(%address, "other machines can connect, and clients are not authenticated");
    }
    tracing::info!(%address, "listening");
    output::print(&format!("listening on {address}\n"))?;
    serve_with(listener, engine, shutdown, drain).await?;
    tokio::time::timeout(drain.flush, engine_end)
        .await
        .context("the step loop did not end in time")??
}
