//! Structured logs, on standard error; standard output belongs to results.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::Failure;

/// Flags about logs.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// How log lines look; RUST_LOG says which are written (info and above unless set)
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
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
    pub fn start(&self) -> Result<(), Failure> {
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
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(stderr().is_terminal())
            .with_writer(stderr);
        match self.log_format {
            LogFormat::Text => logs.init(),
            LogFormat::Json => logs.json().init(),
        }
        Ok(())
    }
}
