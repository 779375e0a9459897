//! What of a running server can be watched from outside: its metrics, on the HTTP port and on one of their own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use clap::Args;
use kakeya_core::EngineHandle;
use kakeya_runtime::SnapshotCodec;
use kakeya_server::http::loading;
use kakeya_server::http::shim::Slots;
use kakeya_server::metrics::{self, Build, Metrics};
use kakeya_server::wire::bind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Flags about watching.
#[derive(Debug, Args)]
pub struct ObserveArgs {
    /// Serve /metrics, /healthz and /readyz on this address as well, for servers without --http; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
}

impl ObserveArgs {
    /// The address of the metrics' own port.
    pub fn address(&self) -> Option<String> {
        self.metrics.clone()
    }
}

/// Opens a port, if there is to be one, that tells until `loaded` that the model is loading.
///
/// # Errors
/// What is wrong with the address, with the flag that has it.
pub async fn open(
    flag: &'static str,
    address: Option<String>,
    loaded: &CancellationToken,
) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = bind(&address).await.context(flag)?;
    Ok(Some(loading::answer(listener, loaded.clone()).context(flag)?))
}

/// All that is measured of this process and its engine.
pub fn metrics(
    engine: &EngineHandle,
    model: String,
    codec: &SnapshotCodec,
    slots: &Slots,
) -> anyhow::Result<Metrics> {
    let settings = codec.settings();
    let build = Build {
        model,
        model_sha256: settings.model_sha256.clone(),
        numerics: settings.numerics,
    };
    let mut metrics = Metrics::new(engine.clone(), build).with_queue(slots.waiting());
    let process = ProcessMetrics::new().context("this process cannot look at itself")?;
    metrics.registry().register_collector(Box::new(process));
    Ok(metrics)
}

/// Serves them on a port of their own, until `drained`. The end of the port is told in the log, and ends nothing else.
pub fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    drained: CancellationToken,
) {
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(listener, metrics, stopping, drained).await {
            tracing::error!(%error, "the metrics port failed");
        }
    });
}

/// What the system knows of this process, under the names that Prometheus's own clients give it.
struct ProcessMetrics {
    system: Mutex<System>,
    pid: Pid,
}

impl fmt::Debug for ProcessMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessMetrics").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl ProcessMetrics {
    fn new() -> Result<Self, sysinfo::Error> {
        Ok(Self {
            system: Mutex::new(System::new()?),
            pid: sysinfo::get_current_pid()?,
        })
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), false, kind);
        let Some(process) = system.process(self.pid) else {
            return Ok(());
        };
        let seconds = process.accumulated_cpu_time() as f64 / 1000.0;
        let cpu = ConstCounter::new(seconds);
        let help = "Processor time of this process";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory that this process has", process.memory()),
            ("process_start_time_seconds", "When this process began, in seconds since 1970", process.start_time()),
            ("process_open_fds", "Files and sockets that this process has open", process.open_files().unwrap_or(0) as u64),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
