//! Bytes that no client would send, to the gRPC port: every call is answered by something that blames the caller, or the
//! connection ends; and the server goes on for everybody else.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kakeya_server::wire::Drain;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::grpc::support::{Served, serving_until};
use crate::suites::support::{Generated, PATIENCE, prose, seeded, small, solo};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("malformed_grpc_requests_are_refused", |ctx| {
            requests(ctx, 500, 20)
        }),
        Case::full("50000_malformed_grpc_requests_are_refused", |ctx| {
            requests(ctx, 50_000, 2000)
        }),
    ]
}

const METHODS: [&str; 12] = [
    "RuntimeService/CreateSession",
    "RuntimeService/AppendTokens",
    "RuntimeService/Generate",
    "RuntimeService/CloseSession",
    "RuntimeService/GetSessionInfo",
    "RuntimeService/NoSuchMethod",
    "SessionService/ForkSession",
    "SessionService/SnapshotSession",
    "SessionService/RestoreSession",
    "SessionService/ListSessions",
    "SessionService/GetStateDigest",
    "NoSuchService/Generate",
];

/// Requests that are sent to one connection before the next is made.
const A_CONNECTION: usize = 250;

fn requests(context: &SuiteContext, calls: usize, connections: usize) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 50)?;
    let expected = solo(context, &config, &prompt, seeded(20, 7))?;
    serving_until(context, config, Drain::default(), async |mut served| {
        let id = served.client.create_with(&prompt).await?;
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(20));
        let mut refused = 0;
        for first in (0..calls).step_by(A_CONNECTION) {
            let mut sender = connect(&served.address).await?;
            for _ in first..calls.min(first + A_CONNECTION) {
                refused += usize::from(call(&mut sender, &mut dice, &id).await?);
            }
        }
        for _ in 0..connections {
            noise(&served.address, &mut dice).await?;
        }
        // Most of it makes no sense; what does by chance is answered.
        ensure!(
            refused > calls / 2,
            "{refused} of {calls} malformed calls were refused"
        );
        context.measure(
            &format!("refused_of_{calls}_malformed_calls"),
            refused as f64,
            "calls",
        )?;
        still_serves(&mut served, &prompt, &expected).await?;
        served.stop().await
    })
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, CaseFailure> {
    let socket = TcpStream::connect(address).await?;
    // A call is a few small writes: each would wait for the acknowledgement of the one before.
    socket.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One call. Answers whether it was refused.
async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    dice: &mut Dice,
    id: &str,
) -> Result<bool, CaseFailure> {
    let method = METHODS[dice.below(METHODS.len())];
    let content_type = match dice.below(10) {
        0 => "application/json",
        1 => "application/grpc+json",
        _ => "application/grpc",
    };
    let body = dice.body(id);
    let mut request = Request::post(format!("http://localhost/kakeya.v1.{method}"))
        .header("content-type", content_type)
        .header("te", "trailers");
    if dice.below(8) == 0 {
        let value = ["1n", "x", "99999999999H", "-1S", "5", "\u{7f}"][dice.below(6)];
        if let Ok(value) = hyper::header::HeaderValue::from_str(value) {
            request = request.header("grpc-timeout", value);
        }
    }
    if dice.below(8) == 0 {
        let value = ["gzip", "br", "identity", "zzz"][dice.below(4)];
        request = request.header("grpc-encoding", value);
    }
    let request = request
        .body(Full::new(Bytes::from(body.clone())))
        .map_err(|error| CaseFailure::violated(error.to_string()))?;
    let about = |what: &str| format!("{method} with {} bytes {body:02x?}: {what}", body.len());
    sender.ready().await?;
    let answer = timeout(PATIENCE, sender.send_request(request)).await?;
    let answer = answer.map_err(|error| CaseFailure::violated(about(&error.to_string())))?;
    let status = answer.status().as_u16();
    ensure!(status < 500, "{}", about(&format!("HTTP status {status}")));
    let code = |headers: &hyper::HeaderMap| {
        let value = headers.get("grpc-status")?;
        value.to_str().ok()?.parse().ok().map(Code::from_i32)
    };
    let mut found = code(answer.headers());
    let mut body = answer.into_body();
    while let Some(frame) = timeout(PATIENCE, body.frame()).await? {
        if let Some(trailers) = frame?.trailers_ref() {
            found = found.or(code(trailers));
        }
    }
    match found {
        Some(Code::Internal | Code::Unknown | Code::DataLoss | Code::FailedPrecondition) => {
            Err(CaseFailure::violated(about(&format!("{found:?}"))))
        }
        Some(Code::Ok) => Ok(false),
        Some(_) => Ok(true),
        None if status != 200 => Ok(true),
        None => Err(CaseFailure::violated(about("no status"))),
    }
}

/// Bytes on a socket that are no HTTP/2, or stop being it.
async fn noise(address: &str, dice: &mut Dice) -> CaseResult {
    let mut socket = TcpStream::connect(address).await?;
    let mut bytes = Vec::new();
    if dice.below(2) == 0 {
        bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    }
    bytes.extend(dice.bytes(200));
    // The server may close while this is on its way.
    drop(socket.write_all(&bytes).await);
    drop(socket.shutdown().await);
    // What it answers, if it does before we are gone.
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_millis(20), socket.read_to_end(&mut answer)).await;
    Ok(())
}

async fn still_serves(served: &mut Served, prompt: &[u32], expected: &Generated) -> CaseResult {
    let id = served.client.create_with(prompt).await?;
    let generated = served.client.generate(&id, seeded(20, 7)).await?;
    let generated = generated.finish().await?;
    generated.ensure_same_as("a session after all that", expected)?;
    let stats = served.engine.stats().await?;
    ensure_eq!(
        (stats.active, stats.queued),
        (0, 0),
        "work that is left at the end"
    );
    Ok(())
}

/// What is thrown.
struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0.next_u32() as usize % limit
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(most + 1)];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A gRPC message: a sound one with a byte changed, noise in a sound frame, or a frame that is not one. Those that
    /// generate make a few tokens at most.
    fn body(&mut self, id: &str) -> Vec<u8> {
        let mut message = match self.below(4) {
            0 => self.bytes(60),
            1 => vec![],
            _ => {
                let mut sound = vec![0x0a, id.len() as u8];
                sound.extend_from_slice(id.as_bytes());
                sound.extend_from_slice(&[0x10, 1 + self.below(3) as u8]);
                sound
            }
        };
        if !message.is_empty() && self.below(4) != 0 {
            let at = self.below(message.len());
            message[at] ^= 1 << self.below(8);
        }
        let length = match self.below(8) {
            0 => self.0.next_u32(),
            1 => message.len() as u32 + 1,
            _ => message.len() as u32,
        };
        let flag = match self.below(8) {
            0 => self.below(256) as u8,
            _ => 0,
        };
        let mut framed = vec![flag];
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&message);
        match self.below(12) {
            0 => framed.truncate(self.below(5)),
            1 => framed.extend(self.bytes(20)),
            _ => {}
        }
        framed
    }
}
