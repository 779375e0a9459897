//! The gRPC port with no engine behind it, for clients' tests of what comes before one: keys, TLS, deadlines, limits.
//!
//! ```text
//! cargo run -p kakeya-server --no-default-features --example door -- closed 127.0.0.1:0 [KEYS.toml [CERT.pem KEY.pem]]
//! ```
//!
//! `closed`: what passes the door is answered UNAVAILABLE, as by an engine that has stopped. `silent`: it is never
//! answered.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use kakeya_core::{EngineHandle, Limits};
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{KeyRing, parse_file};
use kakeya_server::door::tls::{Tls, TlsFiles};
use kakeya_server::wire::{Drain, Services, bind, serve_guarded};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [mode @ ("closed" | "silent"), address, files @ ..] = &arguments[..] else {
        return Err("usage: door closed|silent HOST:PORT [KEYS.toml [CERT.pem KEY.pem]]".into());
    };
    let mut guard = Guard::default();
    if let Some(file) = files.first().filter(|file| !file.is_empty()) {
        let entries = parse_file(&std::fs::read_to_string(file)?)?;
        guard.access = Arc::new(Access::Keys(KeyRing::new(entries, Limits::default())));
    }
    if let [_, cert, key] = files {
        guard.tls = Some(Arc::new(Tls::load(TlsFiles {
            cert: Path::new(cert).to_owned(),
            key: Path::new(key).to_owned(),
            client_ca: None,
        })?));
    }
    let (engine, mut commands) = EngineHandle::channel(8);
    if *mode == "closed" {
        commands.close();
    } else {
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(command) = commands.recv().await {
                unanswered.push(command);
            }
        });
    }
    let listener = bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let told = CancellationToken::new();
    serve_guarded(
        listener,
        engine,
        Services::default(),
        guard,
        told,
        Drain::default(),
    )
    .await?;
    Ok(())
}
