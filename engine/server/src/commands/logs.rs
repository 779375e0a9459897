//! Structured logs, on standard error; standard output belongs to results.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::Failure;
#[cfg(feature = "otel")]
use super::traces::{TraceArgs, Traces};

/// Flags about logs.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// How log lines look; RUST_LOG says which are written (info and above unless set)
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[cfg(feature = "otel")]
    #[command(flatten)]
    traces: TraceArgs,
}

/// What is written until the end of the process is written by it.
#[derive(Debug)]
pub struct Logs {
    #[cfg(feature = "otel")]
    _traces: Option<Traces>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    /// Starts logging for this process.
    ///
    /// # Errors
    /// When RUST_LOG cannot be understood: it is not replaced in silence.
    pub fn start(&self) -> Result<Logs, Failure> {
        let filter = match std::env::var("RUST_LOG") {
            Ok(directives) if !directives.is_empty() => {
                EnvFilter::try_new(&directives).map_err(|error| {
                    Failure::usage(format!(
                        "RUST_LOG={directives:?} is not a log filter ({error}): try info or debug"
                    ))
                })?
            }
            _ => EnvFilter::new("info"),
        };
        let stderr = std::io::stderr;
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(stderr().is_terminal())
            .with_writer(stderr);
        let lines = match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let logs = tracing_subscriber::registry().with(lines.with_filter(filter));
        #[cfg(not(feature = "otel"))]
        {
            logs.init();
            Ok(Logs {})
        }
        #[cfg(feature = "otel")]
        {
            let (traces, layer) = self.traces.layer()?;
            logs.with(layer).init();
            Ok(Logs { _traces: traces })
        }
    }
}
