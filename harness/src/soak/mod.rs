//! `harness gate --soak`: one session of many turns, over the wire, measured while it runs.
//!
//! The server is a process of its own. After each part of the time the record is written as it stands, so that a kill
//! leaves what was measured until then, marked as unfinished. Nothing is ever resumed.

mod buckets;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use kakeya_evidence::{Client, LongSession, Violations};
use kakeya_gates::long_session::{self, Driver, LongSessionError, Turn};
use kakeya_model::Source;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_suite::{ModelFile, Workspace};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::cli::RunServerArgs;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::progress::Progress;
use crate::run_suite::end_with_parent;
use crate::supervise::own_process_group;
use buckets::Buckets;

/// What the server prints before its address.
const LISTENING: &str = "listening on ";

/// A long session that is about to run.
#[derive(Debug, Clone, Copy)]
pub struct Soak<'a> {
    /// This program.
    pub program: &'a Path,
    /// The model to serve.
    pub model: &'a ModelFile,
    /// The checkout.
    pub workspace: &'a Workspace,
    /// How long it is to last.
    pub asked: SignedDuration,
    /// Whether it is to stop.
    pub interrupted: &'a AtomicBool,
}

impl Soak<'_> {
    /// Runs the session. `checkpoint` is given what is known after each part of the time.
    ///
    /// A server that fails ends the session and is not an error: what was measured until then is the answer.
    ///
    /// # Errors
    /// When a checkpoint cannot be written.
    pub fn run(
        &self,
        progress: &Progress,
        checkpoint: impl FnMut(&LongSession) -> Result<(), HarnessError>,
    ) -> Result<LongSession, HarnessError> {
        match self.open() {
            Ok((server, driver)) => self.drive(server, driver, progress, checkpoint),
            Err(error) => {
                let session = Session::begin(self.asked, nobody());
                Ok(session.known(false, Some(error.to_string())))
            }
        }
    }

    fn open(&self) -> Result<(Server, Driver), HarnessError> {
        let words = self.words()?;
        let server = Server::start(self)?;
        let driver = Driver::open(self.workspace, &server.address, &words)?;
        Ok((server, driver))
    }

    fn drive(
        &self,
        mut server: Server,
        mut driver: Driver,
        progress: &Progress,
        mut checkpoint: impl FnMut(&LongSession) -> Result<(), HarnessError>,
    ) -> Result<LongSession, HarnessError> {
        progress.say(&format!(
            "long session: {} s, over the wire to process {}",
            self.asked.as_secs(),
            server.child.id()
        ));
        let driven = driver.client();
        let client = Client {
            name: driven.name.clone(),
            version: driven.version.clone(),
            sdk: true,
        };
        let mut session = Session::begin(self.asked, client);
        let fault = loop {
            if self.interrupted.load(Ordering::SeqCst) {
                break Some("it was interrupted".to_owned());
            }
            if session.is_over() {
                break None;
            }
            match driver.turn() {
                Ok(turn) => {
                    if session.add(&turn, server.resident_bytes()) {
                        let known = session.known(false, None);
                        progress.say(&format!(
                            "long session: {:.0} s, {} turns",
                            known.ran_seconds, known.turns
                        ));
                        checkpoint(&known)?;
                    }
                }
                Err(error) => break Some(error.to_string()),
            }
        };
        let complete = fault.is_none();
        Ok(session.known(complete, fault))
    }

    /// What is said: the tokens of a committed history.
    fn words(&self) -> Result<Vec<u32>, HarnessError> {
        let path = self.workspace.goldens().join("history-prose.txt");
        let text = std::fs::read_to_string(&path)
            .map_err(HarnessError::system(format!("read {}", path.display())))?;
        let contract = |error: String| LongSessionError::Contract(error);
        let source = Source::open(&self.model.path).map_err(|error| contract(error.to_string()))?;
        let tokenizer = Tokenizer::of(&source).map_err(|error| contract(error.to_string()))?;
        let words = tokenizer
            .encode(&text, false)
            .map_err(|error| contract(error.to_string()))?;
        Ok(words)
    }
}

/// The client of a session that was never opened.
fn nobody() -> Client {
    Client {
        name: "none".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sdk: false,
    }
}

/// What is known of the session so far.
struct Session {
    client: Client,
    asked: SignedDuration,
    start: Instant,
    buckets: Buckets,
    turns: u64,
    last: Option<Turn>,
}

impl Session {
    fn begin(asked: SignedDuration, client: Client) -> Self {
        Self {
            client,
            asked,
            start: Instant::now(),
            buckets: Buckets::new(Timestamp::now(), asked),
            turns: 0,
            last: None,
        }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed().as_secs_f64() >= self.asked.as_secs_f64()
    }

    fn add(&mut self, turn: &Turn, resident_bytes: u64) -> bool {
        self.turns += 1;
        self.last = Some(*turn);
        self.buckets.add(turn, resident_bytes, Timestamp::now())
    }

    fn known(&self, complete: bool, fault: Option<String>) -> LongSession {
        LongSession {
            asked_seconds: self.asked.as_secs_f64(),
            ran_seconds: self.start.elapsed().as_secs_f64(),
            complete,
            fault,
            client: self.client.clone(),
            turns: self.turns,
            generates: self.turns,
            generates_over_the_wire: self.turns,
            history_length: self.last.map_or(0, |turn| turn.history_length),
            violations: self
                .last
                .map_or_else(Violations::default, |turn| Violations {
                    inv1: turn.inv1,
                    inv2: turn.inv2,
                }),
            buckets: self.buckets.at(Timestamp::now()),
        }
    }
}

/// The server's process. It ends with this value, or with this process.
struct Server {
    child: Child,
    address: String,
    system: System,
}

impl Server {
    fn start(soak: &Soak<'_>) -> Result<Self, HarnessError> {
        let mut command = Command::new(soak.program);
        command
            .current_dir(soak.workspace.root())
            .arg("run-server")
            .args(["--model-name", &soak.model.name])
            .args(["--model-sha256", &soak.model.sha256])
            .arg("--model-path")
            .arg(&soak.model.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // An interrupt is for the driver, which then ends the server.
        own_process_group(&mut command);
        let mut child = command
            .spawn()
            .map_err(HarnessError::system("start the server"))?;
        let mut line = String::new();
        let output = child.stdout.take().expect("it was asked for");
        let read = BufReader::new(output).read_line(&mut line);
        let address = line.trim().strip_prefix(LISTENING).map(str::to_owned);
        match (read, address) {
            (Ok(_), Some(address)) => Ok(Self {
                child,
                address,
                system: System::new()?,
            }),
            _ => {
                let _ = child.kill();
                let end = child.wait();
                Err(LongSessionError::Contract(match end {
                    Ok(status) => format!("the server ended with {status} before it listened"),
                    Err(error) => format!("the server did not listen: {error}"),
                })
                .into())
            }
        }
    }

    /// Bytes of the server that are in memory; 0 where the system does not tell, which no gate takes for good.
    fn resident_bytes(&mut self) -> u64 {
        let pid = Pid::from_u32(self.child.id());
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            false,
            ProcessRefreshKind::nothing().with_memory(),
        );
        self.system.process(pid).map_or(0, sysinfo::Process::memory)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves a model until the process that started this one is gone.
///
/// # Errors
/// When the model, the engine or the server fails.
pub fn run_server(arguments: &RunServerArgs) -> Result<Exit, HarnessError> {
    end_with_parent();
    long_session::serve(&arguments.model.file(), |address| {
        let mut output = std::io::stdout().lock();
        writeln!(output, "{LISTENING}{address}")?;
        output.flush()
    })?;
    Ok(Exit::Success)
}
