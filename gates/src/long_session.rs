//! One session of many turns, over the wire: the two ends of a long session.
//!
//! The server is a process of its own, so that its memory is its own; the harness starts it. It is driven through the
//! Python SDK, in a process of its own as well (`gates/clients/long_session.py`), which is asked for one turn after the
//! other: gate G5.

use std::io::{BufRead, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kakeya_runtime::{EngineConfig, EngineStartError, StepLoop};
use kakeya_server::wire::{Drain, ListenError, ServeError, bind, serve_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tempfile::TempDir;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use kakeya_suite::{CaseFailure, ModelFile, Workspace};

use crate::model_file::{ModelFileError, load_model};
use crate::packages;

/// Tokens that a turn appends, and then generates.
const TOKENS: usize = 16;
/// Sessions the server has room for. One is driven.
const CAPACITY: usize = 2;
/// What the SDK stands on, as pip writes it.
const PACKAGES: [&str; 3] = [
    "grpcio==1.85.1",
    "protobuf==7.36.2",
    "typing-extensions>=4.12",
];
const SCRIPT: &str = "long_session.py";

/// Why a long session did not start or go on.
#[derive(Debug, Error)]
pub enum LongSessionError {
    /// The model could not be loaded.
    #[error(transparent)]
    Model(#[from] ModelFileError),
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] EngineStartError),
    /// The server has no address to listen on.
    #[error(transparent)]
    Bind(#[from] ListenError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Something the operating system refused.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The SDK, or what it stands on, failed.
    #[error("the Python SDK: {0}")]
    Sdk(String),
    /// The server answered something that the contract does not allow.
    #[error("{0}")]
    Contract(String),
}

/// Serves a model on a port of this machine for ever. `ready` is told the port's address.
///
/// # Errors
/// When the model, the engine or the server fails.
pub fn serve(
    model: &ModelFile,
    ready: impl FnOnce(SocketAddr) -> std::io::Result<()>,
) -> Result<(), LongSessionError> {
    let config = EngineConfig {
        capacity: CAPACITY,
        ..EngineConfig::default()
    };
    let (engine, step_loop) = StepLoop::spawn(Arc::new(load_model(model)?), config)?;
    runtime()?.block_on(async {
        let listener = bind("127.0.0.1:0").await?;
        ready(listener.local_addr()?)?;
        serve_with(listener, engine, CancellationToken::new(), Drain::default()).await?;
        Ok::<_, LongSessionError>(())
    })?;
    step_loop.join();
    Ok(())
}

/// The client's end: the Python SDK, in a process of its own.
#[derive(Debug)]
pub struct Driver {
    process: Child,
    asking: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    client: Sdk,
    /// What the SDK stands on, for as long as it runs.
    _packages: TempDir,
}

/// What drives the session, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sdk {
    /// The SDK.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A turn that came to its end: an append, a generation, and a look at the session.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Turn {
    /// From the append to the last token.
    #[serde(rename = "seconds", deserialize_with = "seconds")]
    pub duration: Duration,
    /// Tokens that were generated.
    pub tokens: u64,
    /// Tokens that the session holds.
    pub history_length: u64,
    /// KV bytes that it holds.
    pub kv_bytes: u64,
    /// The server's counters of violated invariants.
    pub inv1: u64,
    /// As above.
    pub inv2: u64,
}

fn seconds<'de, D: Deserializer<'de>>(number: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(number)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}

impl Driver {
    /// Installs what the SDK of the checkout stands on, connects, and opens the session. `words` are token ids of the
    /// model's vocabulary, at least as many as two turns say.
    ///
    /// # Errors
    /// When the packages cannot be had, or the server cannot be reached or refuses.
    pub fn open(
        workspace: &Workspace,
        address: &str,
        words: &[u32],
    ) -> Result<Self, LongSessionError> {
        if words.len() < 2 * TOKENS {
            return Err(LongSessionError::Contract(format!(
                "there are {} tokens to say, and at least {} are needed",
                words.len(),
                2 * TOKENS
            )));
        }
        let packages = tempfile::tempdir()?;
        let install = packages::pip(packages.path(), &PACKAGES);
        let failed = |error: CaseFailure| LongSessionError::Sdk(error.to_string());
        runtime()?.block_on(install).map_err(failed)?;
        let sdk = workspace.root().join("sdks/python/src");
        let command = packages::python(packages.path(), &[&sdk]).map_err(failed)?;
        let mut command = command.into_std();
        // Its last words are for whoever watches.
        command
            .arg(workspace.goldens().with_file_name("clients").join(SCRIPT))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        own_process_group(&mut command);
        let mut process = command.spawn()?;
        let missing = || LongSessionError::Sdk("its process has no input or output".to_owned());
        let asking = process.stdin.take().ok_or_else(missing)?;
        let output = process.stdout.take().ok_or_else(missing)?;
        let mut driver = Self {
            process,
            asking,
            answers: BufReader::new(output).lines(),
            client: Sdk {
                name: String::new(),
                version: String::new(),
            },
            _packages: packages,
        };
        let asked = json!({ "address": address, "words": words, "tokens": TOKENS });
        driver.client = driver.ask(&asked.to_string())?;
        Ok(driver)
    }

    /// What drives the session.
    #[must_use]
    pub fn client(&self) -> &Sdk {
        &self.client
    }

    /// Takes a turn.
    ///
    /// # Errors
    /// When the server fails, refuses, or answers what the contract does not allow.
    pub fn turn(&mut self) -> Result<Turn, LongSessionError> {
        self.ask("")
    }

    fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T, LongSessionError> {
        let gone =
            || LongSessionError::Sdk("its process ended; its last words are above".to_owned());
        writeln!(self.asking, "{line}").map_err(|_| gone())?;
        let answer = self.answers.next().ok_or_else(gone)??;
        serde_json::from_str(&answer)
            .map_err(|error| LongSessionError::Sdk(format!("it said {answer:?}: {error}")))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A terminal's interrupt goes to a whole group, and it is for whoever drives this.
#[cfg(unix)]
fn own_process_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_process_group(_command: &mut Command) {}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
