//! The part of the hub that a download meets: HEAD and GET of a file, with byte ranges.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A loopback server that lives as long as the test process.
pub struct Hub {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    silent: bool,
    files: Vec<(String, Vec<u8>)>,
    cut_at: Mutex<Option<usize>>,
    /// The first byte asked for by each GET, `None` for a whole file.
    ranges: Mutex<Vec<Option<usize>>>,
}

impl Hub {
    pub fn serving(files: &[(&str, &[u8])]) -> Self {
        Self::start(State {
            files: files
                .iter()
                .map(|(name, content)| ((*name).to_owned(), content.to_vec()))
                .collect(),
            ..State::default()
        })
    }

    /// Accepts connections and never says a word.
    pub fn silent() -> Self {
        Self::start(State {
            silent: true,
            ..State::default()
        })
    }

    fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || state.serve(stream));
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.state
            .files
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// The next body ends after that many bytes, as when a connection breaks.
    pub fn cut_next_body_at(&self, bytes: usize) {
        *self.state.cut_at.lock().unwrap() = Some(bytes);
    }

    pub fn ranges(&self) -> Vec<Option<usize>> {
        self.state.ranges.lock().unwrap().clone()
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((request, range)) = read_request(&mut reader) {
            if self.silent {
                continue;
            }
            let (head, body) = self.answer(&request, range);
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            if let Some(body) = body {
                let cut = self.cut_at.lock().unwrap().take();
                let end = cut.unwrap_or(body.len()).min(body.len());
                if stream.write_all(&body[..end]).is_err() || cut.is_some() {
                    return;
                }
            }
        }
    }

    fn answer(&self, request: &str, range: Option<usize>) -> (String, Option<&[u8]>) {
        let mut words = request.split_whitespace();
        let method = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let wanted = path.strip_prefix("/org/tiny/resolve/main/");
        let found = self
            .files
            .iter()
            .find(|(name, _)| Some(name.as_str()) == wanted);
        let Some((_, content)) = found else {
            return (
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                None,
            );
        };
        let start = range.unwrap_or(0);
        let status = match range {
            Some(_) => "206 Partial Content",
            None => "200 OK",
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"tag\"\r\nX-Repo-Commit: {}\r\n\r\n",
            content.len() - start,
            "0".repeat(40)
        );
        if method == "HEAD" {
            return (head, None);
        }
        self.ranges.lock().unwrap().push(range);
        (head, Some(&content[start..]))
    }
}

/// The request line and the first byte of its range. `None` once the client has gone.
fn read_request(reader: &mut impl BufRead) -> Option<(String, Option<usize>)> {
    let mut request = String::new();
    if reader.read_line(&mut request).ok()? == 0 {
        return None;
    }
    let mut range = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            return Some((request, range));
        }
        if let Some(bytes) = line.to_lowercase().strip_prefix("range: bytes=") {
            range = bytes.split('-').next().and_then(|start| start.parse().ok());
        }
    }
}
