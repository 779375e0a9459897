//! The HTTP port without an engine: keys, ids, and clients that are slow, rude or too many. Most of it on raw sockets,
//! because no client library can be made to behave so.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures::stream;
use kakeya_core::{EngineHandle, Limits, Owner};
use kakeya_server::door::Guard;
use kakeya_server::door::access::{Access, engine_for};
use kakeya_server::door::keys::{FreshKey, KeyRing, parse_file};
use kakeya_server::door::patience::{MAX_HEADER_BYTES, Patience};
use kakeya_server::http::body::{ApiJson, unknown_route};
use kakeya_server::http::serve::serve_routes;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(150);

struct Port {
    at: SocketAddr,
    drained: CancellationToken,
    server: JoinHandle<()>,
    /// Says that the endless answer was given up.
    given_up: mpsc::UnboundedReceiver<()>,
}

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn start(guard: Guard) -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    let (told, given_up) = mpsc::unbounded_channel();
    let endless = move || {
        let told = Told(told.clone());
        let chunks = stream::repeat_with(move || {
            let _ = &told;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1 << 16]))
        });
        async { Body::from_stream(chunks) }
    };
    let whose = |extensions: axum::http::Extensions| async move {
        let (engine, _) = EngineHandle::channel(1);
        let engine = engine_for(&engine, &extensions);
        let everybody = engine.tenant().owner() == Owner::EVERYBODY;
        format!("{:?} {everybody}", engine.tenant().name())
    };
    let echo = |ApiJson(body): ApiJson<Value>| async move { body.to_string() };
    let routes = Router::new()
        .route("/echo", post(echo))
        .route("/endless", get(endless))
        .route("/whose", get(whose))
        .route("/healthz", get(whose))
        .fallback(unknown_route);
    let drained = CancellationToken::new();
    let server = tokio::spawn(serve_routes(listener, routes, guard, drained.clone(), SOON));
    Port {
        at,
        drained,
        server,
        given_up,
    }
}

fn patient(patience: Patience) -> Guard {
    Guard {
        patience,
        ..Guard::default()
    }
}

fn quick() -> Patience {
    Patience {
        arrival: SOON,
        departure: SOON,
        ..Patience::default()
    }
}

impl Port {
    async fn connect(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).await.expect("a connection");
        stream.write_all(bytes.as_ref()).await.expect("sent");
        stream
    }

    /// What is answered until the server closes.
    async fn answer(&self, bytes: impl AsRef<[u8]>) -> String {
        read(self.connect(bytes).await).await
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        self.answer(head).await
    }
}

async fn read(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    drop(read.expect("the server closes"));
    String::from_utf8(all).expect("text")
}

const POST: &str = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";

#[tokio::test]
async fn without_keys_a_page_of_another_name_gets_nothing() {
    let asked =
        |host: &str| format!("GET /whose HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let open = start(Guard::default()).await;
    for host in [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
    ] {
        let answer = open.answer(asked(host)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            answer.contains(&format!("for the host `{host}`")),
            "{answer}"
        );
    }
    for host in ["127.0.0.1:1", "localhost"] {
        let answer = open.answer(asked(host)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // A key is something that a page does not have.
    let keyed = Guard {
        access: Arc::new(Access::Keys(KeyRing::new(Vec::new(), Limits::default()))),
        ..Guard::default()
    };
    let keyed = start(keyed).await;
    let answer = keyed.answer(asked("kakeya.example")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_never_comes_is_408_and_one_that_trickles_too() {
    let port = start(patient(quick())).await;
    let answer = port
        .answer(format!("{POST}content-length: 100\r\n\r\n{{"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    for part in ["request_timeout", "did not come within 0.15 seconds"] {
        assert!(answer.contains(part), "{answer}");
    }
    let stream = port
        .connect(format!("{POST}content-length: 100000\r\n\r\n{{"))
        .await;
    let (reader, mut writer) = stream.into_split();
    let trickling = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut start = [0; 12];
    let mut reader = reader;
    let read = timeout(PATIENCE, reader.read_exact(&mut start)).await;
    read.expect("in time").expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 408");
    trickling.abort();
    let answer = port
        .answer(format!(
            "{POST}content-length: 7\r\nconnection: close\r\n\r\n{{\"a\":1}}"
        ))
        .await;
    assert!(answer.ends_with("{\"a\":1}"), "{answer}");
}

#[tokio::test]
async fn headers_that_never_end_and_silence_close_the_connection() {
    let port = start(patient(quick())).await;
    for begun in ["", "GET /", "GET /whose HTTP/1.1\r\nhost: localhost\r\n"] {
        let answer = port.answer(begun).await;
        assert!(
            answer.is_empty() || answer.contains(" 408 "),
            "{begun}: {answer}"
        );
    }
    // An idle connection after an answer is silent as well.
    let answer = port
        .answer("GET /whose HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert!(answer.ends_with("None true"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let port = start(Guard::default()).await;
    let large = format!("x: {}\r\n", "y".repeat(MAX_HEADER_BYTES));
    let answer = port.get("/whose", &large).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let fits = format!("x: {}\r\n", "y".repeat(MAX_HEADER_BYTES - 100));
    assert!(port.get("/whose", &fits).await.starts_with("HTTP/1.1 200 "));
    let nonsense = port.answer("\x16\x03\x01 hello\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let mut port = start(patient(quick())).await;
    let stream = port
        .connect("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    let told = timeout(PATIENCE, port.given_up.recv()).await;
    assert_eq!(told.expect("in time"), Some(()));
    // What was sent can be read, and then the connection ends without the last chunk.
    let rest = read(stream).await;
    assert!(rest.starts_with("HTTP/1.1 200 ") && !rest.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let patience = Patience {
        connections: 1,
        ..Patience::default()
    };
    let port = start(patient(patience)).await;
    let mut first = port
        .connect("GET /whose HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert_eq!(first.read_u8().await.expect("an answer"), b'H');
    let mut second = port
        .connect("GET /whose HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert!(
        timeout(SOON, second.read_u8()).await.is_err(),
        "it was let in"
    );
    drop(first);
    let read = timeout(PATIENCE, second.read_u8()).await;
    assert_eq!(read.expect("in time").expect("an answer"), b'H');
}

#[tokio::test]
async fn keys_are_asked_for_where_a_route_is_not_open() {
    let key = FreshKey::new("app").expect("a name");
    let ring = KeyRing::new(parse_file(&key.lines()).expect("lines"), Limits::default());
    let guard = Guard {
        access: Arc::new(Access::Keys(ring)),
        ..Guard::default()
    };
    let port = start(guard).await;
    let bearer = format!("authorization: Bearer {}\r\n", key.secret());
    let wrong = "authorization: Bearer sk-wrong\u{e9}\r\n";
    for (path, headers) in [
        ("/whose", ""),
        ("/whose", wrong),
        ("/nothing", ""),
        ("/echo", wrong),
    ] {
        let answer = port.get(path, headers).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
        for part in [
            "www-authenticate: Bearer",
            "\"code\":\"invalid_api_key\"",
            "x-request-id: ",
        ] {
            assert!(answer.contains(part), "{path}: {answer}");
        }
        assert!(!answer.contains("sk-wrong"), "{answer}");
    }
    for (path, headers, whose) in [
        ("/whose", &bearer[..], "Some(\"app\") false"),
        ("/healthz", "", "None true"),
        ("/healthz", wrong, "None true"),
        ("/healthz", &bearer, "Some(\"app\") false"),
    ] {
        let answer = port.get(path, headers).await;
        assert!(answer.ends_with(whose), "{path}: {answer}");
    }
    assert!(
        port.get("/nothing", &bearer)
            .await
            .starts_with("HTTP/1.1 404 ")
    );
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_log_has_the_requests_id_and_nothing_that_it_says() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("kakeya_server=trace,kakeya_core=trace")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let key = FreshKey::new("app").expect("a name");
    let ring = KeyRing::new(parse_file(&key.lines()).expect("lines"), Limits::default());
    let guard = Guard {
        access: Arc::new(Access::Keys(ring)),
        patience: quick(),
        ..Guard::default()
    };
    let mut port = start(guard).await;
    let secret = key.secret();
    let head = format!("{POST}authorization: Bearer {secret}\r\nx-request-id: req-7\r\n");
    for body in ["{\"a\":\"my prompt\"}", "{\"a\": my prompt", "my prompt"] {
        let length = body.len();
        port.answer(format!(
            "{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
        .await;
    }
    port.get(
        "/whose",
        "authorization: Bearer sk-wrong\r\nx-request-id: req-8\r\n",
    )
    .await;
    let endless = format!(
        "GET /endless HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\nx-request-id: req-9\r\n\r\n"
    );
    let _unread = port.connect(endless).await;
    assert_eq!(port.given_up.recv().await, Some(()));
    let logged = || String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    // The answer is given up a moment before that is logged.
    for _ in 0..500 {
        if logged().contains("a client did not read its answer") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let logged = logged();
    for part in [
        "request{id=\"req-8\" door=\"http\"}",
        "refused: no key, or a wrong one",
        "request{id=\"req-9\" door=\"http\" key=\"app\"}",
        "a client did not read its answer",
    ] {
        assert!(logged.contains(part), "{part}: {logged}");
    }
    for part in ["my prompt", "sk-wrong", secret] {
        assert!(!logged.contains(part), "{part}: {logged}");
    }
}

#[tokio::test]
async fn a_request_id_comes_back_or_is_made() {
    let port = start(Guard::default()).await;
    let answer = port.get("/whose", "x-request-id: mine-1\r\n").await;
    assert!(answer.contains("x-request-id: mine-1\r\n"), "{answer}");
    let answer = port.get("/whose", "x-request-id: two words\r\n").await;
    assert!(
        answer.contains("x-request-id: ") && !answer.contains("two words"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_drained_port_closes_and_cuts_what_does_not_end() {
    let port = start(Guard::default()).await;
    let idle = port
        .connect("GET /whose HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    let _endless = port
        .connect("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    tokio::time::sleep(SOON).await;
    port.drained.cancel();
    assert!(read(idle).await.ends_with("None true"));
    let ended = timeout(PATIENCE, port.server).await;
    ended.expect("in time").expect("no panic");
    assert!(
        TcpStream::connect(port.at).await.is_err(),
        "the port is closed"
    );
}
