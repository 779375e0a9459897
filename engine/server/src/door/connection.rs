//! One connection: plain or in TLS, and not waited for longer than it deserves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Door;
use super::patience::Patience;

/// Bytes with which every HTTP/2 client begins.
const HTTP2_PREFACE: usize = 24;

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    fn read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
        }
    }
}

/// A connection that was let in. Its place is free when it is dropped.
///
/// It breaks when its first bytes do not come, and when what is written to it is not taken. What happens between is the
/// protocols' to watch: how long headers take, and whether a silent client still answers. HTTP/2 watches nothing before it
/// has been greeted, so there the whole greeting has to come.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    /// Runs until the first bytes are here.
    first: Option<Clock>,
    /// How many of them are to come.
    greeting: usize,
    /// Runs while what is written is not taken.
    written: Option<Clock>,
    departure: Duration,
    _place: OwnedSemaphorePermit,
}

type Clock = Pin<Box<Sleep>>;

impl Connection {
    pub(super) fn new(
        wire: Wire,
        door: Door,
        patience: &Patience,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            wire,
            greeting: match door {
                Door::Grpc => HTTP2_PREFACE,
                Door::Http => 1,
            },
            first: Some(Box::pin(tokio::time::sleep(patience.arrival))),
            written: None,
            // An answer that is not read has a clock of its own, which says more, and which should be first.
            departure: patience.departure + patience.departure / 4,
            _place: place,
        }
    }

    /// Lets the clock of writing run on while `polled` waits.
    fn timed<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.written = None;
            return polled;
        }
        let departure = self.departure;
        let clock = self
            .written
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(departure)));
        overdue(clock, context, "the client does not read")
    }
}

fn overdue<T>(clock: &mut Clock, context: &mut Context<'_>, what: &str) -> Poll<io::Result<T>> {
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, what.to_owned()));
    clock.as_mut().poll(context).map(|()| late())
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.wire.read(context, buffer);
        let came = buffer.filled().len() - before;
        self.greeting = self.greeting.saturating_sub(came);
        if self.greeting == 0 {
            self.first = None;
        }
        match &mut self.first {
            Some(clock) if polled.is_pending() => {
                overdue(clock, context, "the client does not greet")
            }
            _ => polled,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.wire.writer().poll_write(context, bytes);
        self.timed(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.wire.writer().poll_flush(context);
        self.timed(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.wire.writer().poll_shutdown(context);
        self.timed(context, polled)
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
