//! HTTP as bytes, from a client that hides nothing.

use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use kakeya_suite::CaseFailure;

/// One connection. Dropping it closes the socket, whatever is under way.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
    host: String,
}

/// What came back of a streamed answer.
pub(super) struct Streamed {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// When the first event with text came.
    pub(super) first: Option<Instant>,
}

impl Connection {
    pub(super) async fn open(base_url: &str) -> Result<Self, CaseFailure> {
        let host = base_url.trim_start_matches("http://").to_owned();
        let socket = TcpStream::connect(&host).await?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        Ok(Self {
            sender,
            driver: tokio::spawn(connection),
            host,
        })
    }

    /// Sends a request, and answers with the head of the response.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Incoming>, CaseFailure> {
        self.sender.ready().await?;
        let request = Request::post(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .map_err(|error| CaseFailure::violated(error.to_string()))?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request and reads all events of the answer.
    pub(super) async fn stream(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Streamed, CaseFailure> {
        let response = self.post(path, body).await?;
        let status = response.status().as_u16();
        let mut read = response.into_body();
        let (mut body, mut first) = (Vec::new(), None);
        while let Some(frame) = read.frame().await {
            if let Ok(data) = frame?.into_data() {
                body.extend_from_slice(&data);
                first = first.or_else(|| Some(Instant::now()));
            }
        }
        Ok(Streamed {
            status,
            body,
            first,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
