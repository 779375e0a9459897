//! A loopback server that keeps the state of one repository on GitHub: its pull request, labels and check runs.
//!
//! What is true to GitHub: paths, methods and statuses of the REST calls that we make; the forms of answers and bodies,
//! held to GitHub's published description (`schema.rs`); `Link` pages of at most 100; labels that are found whatever
//! their capitals, and stay single; 404 for a label that is absent, 422 for one that exists; redirects after a rename,
//! 301 for what reads and 307 for what writes; no more than 3,000 files; 50 annotations a request; 403 with
//! `x-accepted-github-permissions` where a token lacks a permission.
//!
//! What is not: it is one repository and one pull request; a permission is what a test grants, and what GitHub asks for an
//! endpoint is written down here, from its documentation, not observed; no limit is ever reached by itself: faults are
//! set by a test and used up one by one; values that we do not read are placeholders of the right type.

mod routes;
pub mod schema;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What the server does instead of answering.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It answers with this status, these headers and this message.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// It does what is asked, and answers 502.
    Lost,
    /// It never answers.
    Hangs,
    /// It answers with text that is no JSON.
    Garbled,
    /// Its answer ends before its length.
    Cut,
    /// Its answer has 65 MiB.
    Huge,
}

/// A label of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoLabel {
    pub name: String,
    pub color: String,
    pub description: String,
}

/// The state.
pub struct State {
    /// What the repository is called, and what it was called before.
    pub repo: String,
    pub former: Option<String>,
    /// The path of the API on the host: empty, or `/api/v3`.
    pub prefix: &'static str,
    pub number: u64,
    pub open: bool,
    pub head: String,
    pub base: String,
    /// Each file, with its previous name where it was renamed.
    pub files: Vec<(String, Option<String>)>,
    /// How many files the pull request says it has; all of them by default.
    pub told: Option<u64>,
    pub labels: Vec<RepoLabel>,
    pub on_pull: Vec<String>,
    pub policy: Option<String>,
    pub tree: Vec<String>,
    pub tree_truncated: bool,
    pub checks: Vec<Value>,
    /// What the token may do; everything by default.
    pub lacks: Vec<&'static str>,
    pub token: String,
    /// After each page of files the head becomes the next of these; `closed` closes the pull request, and `base:NAME` aims
    /// it at another branch.
    pub pushes: VecDeque<String>,
    /// Used up one by one, each by the first request whose `METHOD path` contains the text.
    pub faults: VecDeque<(String, Fault)>,
    /// Where the next page of the last list is said to be, instead of here.
    pub elsewhere: Option<String>,
    /// Whether each page of files has a next one.
    pub endless: bool,
    /// Each request, as `METHOD path?query`.
    pub log: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            repo: "o/r".to_owned(),
            former: None,
            prefix: "",
            number: 7,
            open: true,
            head: "a".repeat(40),
            base: "main".to_owned(),
            files: Vec::new(),
            told: None,
            labels: Vec::new(),
            on_pull: Vec::new(),
            policy: Some(POLICY.to_owned()),
            tree: vec!["engine/a.rs".to_owned(), "cuda/a.cu".to_owned()],
            tree_truncated: false,
            checks: Vec::new(),
            lacks: Vec::new(),
            token: "secret-token".to_owned(),
            pushes: VecDeque::new(),
            faults: VecDeque::new(),
            elsewhere: None,
            endless: false,
            log: Vec::new(),
        }
    }
}

/// The policy of the base branch.
pub const POLICY: &str = "[[label]]\nname = 'needs-mac-m4'\ncolour = '5319e7'\ndescription = 'Needs the mac'\n\
    globs = ['engine/**']\n[[label]]\nname = 'needs-cuda'\ncolour = '76b900'\ndescription = 'Needs the card'\n\
    globs = ['cuda/**']\n";

/// The server. It lives as long as this value.
pub struct Github {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Github {
    /// Starts it on a thread of its own.
    pub fn start(state: State) -> Self {
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let (ready, address) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let handler = move |request: Request| serve(Arc::clone(&shared), address, request);
                ready.send(address).unwrap();
                let server = axum::serve(listener, Router::new().fallback(handler));
                tokio::select! {
                    _ = server => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            state,
            address: address.recv().unwrap(),
            stop: Some(stop),
        }
    }

    /// The state, to look at and to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The base of its API.
    pub fn base(&self) -> String {
        let prefix = self.state().prefix;
        format!("http://{}{prefix}", self.address)
    }

    /// How many requests there were whose `METHOD path` contains a text.
    pub fn count(&self, text: &str) -> usize {
        self.state()
            .log
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

async fn serve(state: Arc<Mutex<State>>, address: SocketAddr, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = to_bytes(body, 1 << 26).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let line = format!("{} {}", parts.method, parts.uri);
    let fault = {
        let mut state = state.lock().unwrap();
        state.log.push(line.clone());
        let due = state
            .faults
            .iter()
            .position(|(text, _)| line.contains(text.as_str()));
        due.and_then(|due| state.faults.remove(due))
            .map(|(_, fault)| fault)
    };
    match fault {
        Some(Fault::Hangs) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            ().into_response()
        }
        Some(Fault::Status(status, headers, message)) => {
            let body =
                json!({ "message": message, "documentation_url": "https://docs.github.com/rest" });
            reply(status, &headers, &body)
        }
        Some(Fault::Garbled) => (axum::http::StatusCode::OK, "<html>").into_response(),
        Some(Fault::Huge) => vec![b' '; 65 << 20].into_response(),
        Some(Fault::Cut) => {
            let parts = [Ok("{"), Err(std::io::Error::other("cut"))];
            axum::body::Body::from_stream(futures::stream::iter(parts)).into_response()
        }
        other => {
            let mut state = state.lock().unwrap();
            let answer = routes::answer(&mut state, address, &parts, &body);
            match other {
                Some(_) => reply(502, &[], &json!({ "message": "Server Error" })),
                None => answer,
            }
        }
    }
}

fn reply(status: u16, headers: &[(&'static str, String)], body: &Value) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    let mut response = (status, axum::Json(body.clone())).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}
