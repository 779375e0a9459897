//! What of a running server can be watched from outside: its metrics, on the HTTP port and on one of their own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use clap::Args;
use kakeya_core::{EngineHandle, StateSettings};
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

/// Opens a port, if there is to be one.
///
/// # Errors
/// What is wrong with the address, with the flag that has it.
pub async fn open(
    flag: &'static str,
    address: Option<String>,
) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => Ok(Some(bind(&address).await.context(flag)?)),
        None => Ok(None),
    }
}

/// All that is measured of this process and its engine.
pub fn metrics(
    engine: &EngineHandle,
    model: String,
    settings: &StateSettings,
    slots: &Slots,
) -> anyhow::Result<Metrics> {
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
        f.debug_struct("ProcessMetrics")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
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
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            help,
            None,
            cpu.metric_type(),
        )?)?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that this process has",
                process.memory(),
            ),
            (
                "process_start_time_seconds",
                "When this process began, in seconds since 1970",
                process.start_time(),
            ),
            (
                "process_open_fds",
                "Files and sockets that this process has open",
                process.open_files().unwrap_or(0) as u64,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use clap::Parser;
    use kakeya_core::{CacheConfig, KvElement};

    use super::super::keep::StateArgs;
    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        keep: StateArgs,
    }

    /// The text of a server whose engine is gone.
    async fn text() -> String {
        let (engine, commands) = EngineHandle::channel(1);
        drop(commands);
        let cache = CacheConfig::default();
        let settings = StateSettings::new("ab".into(), String::new(), 1, 9, cache, KvElement::F16);
        let slots = Slots::new(1, 1, Duration::ZERO);
        let mut metrics = metrics(&engine, "m".into(), &settings, &slots).expect("made");
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().to_str().expect("a path");
        let line = Line::parse_from(["kakeya", "--state-dir", path]);
        line.keep.open().expect("taken").register(&mut metrics);
        metrics.text().await
    }

    /// Every name that a query can use.
    fn names(text: &str) -> BTreeSet<String> {
        let sample = |line: &str| line.split(['{', ' ']).next().map(str::to_owned);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(sample).chain(["up".to_owned()]).collect()
    }

    /// The metrics that a query names: what is no function, no label and no word of the language.
    fn queried(query: &str) -> Vec<String> {
        let mut plain = String::new();
        let mut depth = 0;
        for part in query.chars() {
            depth += i32::from("{[\"".contains(part) && depth == 0);
            if depth == 0 {
                plain.push(part);
            }
            if "}]".contains(part) {
                depth = 0;
                plain.push(' ');
            }
        }
        let plain = without_grouping(&plain);
        let mut found = Vec::new();
        let mut rest = plain.as_str();
        while let Some(begin) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let word = &rest[begin..];
            let end = word
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(word.len());
            let (name, after) = word.split_at(end);
            if !after.trim_start().starts_with('(') && !["or", "and"].contains(&name) {
                found.push(name.to_owned());
            }
            rest = after;
        }
        found
    }

    /// The query without its `by (...)`.
    fn without_grouping(query: &str) -> String {
        let mut parts = query.split(" by (");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |plain, part| {
            let after = part.split_once(')').map_or("", |(_, after)| after);
            format!("{plain} {after}")
        })
    }

    fn file(name: &str) -> String {
        // Cargo runs a test in the folder of its package.
        let root = Path::new("../../docs/ops");
        fs::read_to_string(root.join(name)).expect("a file of the documentation")
    }

    #[test]
    fn the_metrics_of_a_query_are_found() {
        let query =
            "histogram_quantile(0.5, sum by (le) (rate(a_bucket{x=~\"b_c\"}[5m]))) or d_total == 0";
        assert_eq!(queried(query), ["a_bucket", "d_total"]);
    }

    #[tokio::test]
    async fn every_query_of_the_dashboard_and_of_the_alerts_names_a_metric_there_is() {
        let text = text().await;
        let known = names(&text);
        let dashboard: serde_json::Value =
            serde_json::from_str(&file("grafana-dashboard.json")).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let targets = panels
            .iter()
            .filter_map(|panel| panel["targets"].as_array());
        let mut queries: Vec<String> = targets
            .flatten()
            .map(|target| target["expr"].as_str().expect("a query").to_owned())
            .collect();
        assert!(queries.len() >= panels.len());
        let alerts = file("alerts.yml");
        let rules = alerts
            .lines()
            .filter_map(|line| line.trim().strip_prefix("expr: "));
        queries.extend(rules.map(str::to_owned));
        for query in queries {
            let metrics = queried(&query);
            assert!(!metrics.is_empty(), "{query} asks for nothing");
            for metric in metrics {
                assert!(
                    known.contains(&metric),
                    "{query}: {metric} is none of {known:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn the_process_tells_of_itself() {
        let text = text().await;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let line = line.unwrap_or_else(|| panic!("no {name}: {text}"));
            line.trim().parse::<f64>().expect("a number")
        };
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_start_time_seconds ") > 1.7e9);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        #[cfg(target_os = "linux")]
        assert!(value("process_open_fds ") > 2.0);
        assert_eq!(
            value("kakeya_state_sessions_total{outcome=\"restored\"} "),
            0.0
        );
    }
}
