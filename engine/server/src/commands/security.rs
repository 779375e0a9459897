//! Flags about who may come in, what they may have, and how they are talked to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kakeya_core::Limits;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{
    KEYS_VARIABLE, KeyEntry, KeyRing, KeysError, parse_variable, read_file,
};
use kakeya_server::door::patience::Patience;
use kakeya_server::door::tls::{Tls, TlsFiles};
use kakeya_server::door::{Guard, exposure};
use kakeya_server::http::loading;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Failure;

const HEADING: &str = "Security";

/// Who may come in, what they may have, and how they are talked to.
#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
pub struct SecurityArgs {
    /// A TOML file of API keys, read again on SIGHUP; `kakeya key new` prints its lines [env: KAKEYA_API_KEYS takes
    /// NAME=SHA256,... instead]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Serve both ports in TLS, with this certificate and those that lead to its root, as PEM; read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let only those in who show a certificate that leads to one of these, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Listen where other machines can connect, even without keys and TLS
    #[arg(long)]
    insecure: bool,
    /// Tokens of one session's history, those to be generated included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_history: Option<u64>,
    /// Tokens of one generation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
    /// Sessions that one key may have at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_sessions: Option<u32>,
    /// Generations that one key may have at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_streams: Option<u32>,
    /// Tokens that one key may append and generate in a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tokens_per_minute: Option<u32>,
    /// Seconds that a client may take to send a request, or to greet; over gRPC, each piece of one
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    client_timeout: u64,
    /// Seconds that a client may take nothing of its answer before that is given up
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stall_timeout: u64,
    /// Connections at once on each port
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
}

/// Where keys come from.
#[derive(Debug, Clone)]
enum KeySource {
    File(PathBuf),
    Variable(String),
}

/// What stands in front of both ports, and how it is read again.
#[derive(Debug, Clone)]
pub struct Security {
    guard: Guard,
    keys: Option<KeySource>,
    insecure: bool,
}

impl KeySource {
    /// The one that is given.
    fn of(file: Option<PathBuf>) -> Result<Option<Self>, Failure> {
        let variable = std::env::var_os(KEYS_VARIABLE).filter(|value| !value.is_empty());
        match (file, variable) {
            (Some(_), Some(_)) => Err(Failure::usage(format!(
                "keys are given twice, by --keys and by {KEYS_VARIABLE}: give one of them"
            ))),
            (Some(file), None) => Ok(Some(Self::File(file))),
            (None, Some(value)) => match value.into_string() {
                Ok(text) => Ok(Some(Self::Variable(text))),
                Err(_) => Err(Failure::usage(format!("{KEYS_VARIABLE} is not UTF-8"))),
            },
            (None, None) => Ok(None),
        }
    }

    fn read(&self) -> Result<Vec<KeyEntry>, KeysError> {
        match self {
            Self::File(path) => read_file(path),
            Self::Variable(text) => parse_variable(text),
        }
    }

    /// How a mistake in it begins.
    fn flag(&self) -> &'static str {
        match self {
            Self::File(_) => "--keys",
            Self::Variable(_) => KEYS_VARIABLE,
        }
    }
}

impl SecurityArgs {
    /// Reads keys and certificates.
    ///
    /// # Errors
    /// A usage error that names the flag, the file and what is wrong with it.
    pub fn validate(self) -> Result<Security, Failure> {
        let limits = Limits {
            max_history: self.max_history,
            max_new_tokens: self.max_new_tokens,
            max_sessions: self.max_sessions,
            max_streams: self.max_streams,
            tokens_per_minute: self.tokens_per_minute,
        };
        let keys = KeySource::of(self.keys)?;
        let access = match &keys {
            None => Access::open(limits),
            Some(source) => {
                let entries = source.read();
                let entries = entries
                    .map_err(|error| Failure::usage(format!("{}: {error}", source.flag())))?;
                Access::Keys(KeyRing::new(entries, limits))
            }
        };
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => {
                let files = TlsFiles {
                    cert,
                    key,
                    client_ca: self.tls_client_ca,
                };
                Some(Arc::new(Tls::load(files).map_err(Failure::usage)?))
            }
            _ => None,
        };
        let patience = Patience {
            arrival: Duration::from_secs(self.client_timeout),
            departure: Duration::from_secs(self.stall_timeout),
            connections: self.max_connections as usize,
        };
        let access = Arc::new(access);
        Ok(Security {
            guard: Guard {
                access,
                patience,
                tls,
            },
            keys,
            insecure: self.insecure,
        })
    }
}

impl Security {
    /// What stands in front of both ports.
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }

    /// Refuses a port that other machines can reach without keys and TLS, unless that is wanted.
    ///
    /// # Errors
    /// A usage error that says what is missing.
    pub fn allow(&self, flag: &'static str, listener: &TcpListener) -> Result<(), Failure> {
        self.check(
            flag,
            listener,
            self.keys.is_some(),
            self.guard.tls.is_some(),
        )
    }

    /// [`Security::allow`] for a port that asks for no keys and has no TLS, whatever the others have.
    ///
    /// # Errors
    /// As [`Security::allow`].
    pub fn allow_open(&self, flag: &'static str, listener: &TcpListener) -> Result<(), Failure> {
        self.check(flag, listener, false, false)
    }

    /// Answers on a port until `loaded` that the model is loading. Where there is TLS nobody is answered until then: what is
    /// said without it would be taken for a broken handshake.
    ///
    /// # Errors
    /// When the port cannot be shared.
    pub fn answer_until(
        &self,
        listener: TcpListener,
        loaded: &CancellationToken,
    ) -> Result<TcpListener, Failure> {
        match self.guard.tls {
            Some(_) => Ok(listener),
            None => Ok(loading::answer(listener, loaded.clone())?),
        }
    }

    fn check(
        &self,
        flag: &'static str,
        listener: &TcpListener,
        keys: bool,
        tls: bool,
    ) -> Result<(), Failure> {
        let address: SocketAddr = listener.local_addr()?;
        match exposure::check(flag, address, keys, tls) {
            Err(exposed) if self.insecure => {
                tracing::warn!(%address, keys, tls, "{} is reachable: --insecure", exposed.flag);
                Ok(())
            }
            checked => checked.map_err(Failure::usage),
        }
    }

    /// Reads keys and certificates again whenever this process gets SIGHUP. Without any, the signal does what it does to
    /// every program.
    ///
    /// # Errors
    /// When the system does not let us have the signal.
    pub fn reload_on_hangup(&self) -> std::io::Result<()> {
        if self.keys.is_none() && self.guard.tls.is_none() {
            return Ok(());
        }
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut hangups = signal(SignalKind::hangup())?;
            let security = self.clone();
            tokio::spawn(async move {
                while hangups.recv().await.is_some() {
                    security.reload();
                }
            });
        }
        Ok(())
    }

    /// Reads keys and certificates again. What cannot be read leaves what there was.
    #[cfg(unix)]
    fn reload(&self) {
        if let (Some(source), Access::Keys(ring)) = (&self.keys, &*self.guard.access) {
            match source.read() {
                Ok(entries) => {
                    ring.replace(entries);
                    tracing::info!(keys = ring.len(), "keys are read again");
                }
                Err(error) => tracing::error!(%error, "the keys are as before"),
            }
        }
        if let Some(tls) = &self.guard.tls {
            match tls.reload() {
                Ok(()) => tracing::info!("certificates are read again"),
                Err(error) => tracing::error!(%error, "the certificates are as before"),
            }
        }
    }
}
