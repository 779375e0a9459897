//! Letting connections in: so many at once, and each handshake on its own time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream, StreamExt, unfold};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Wire};
use super::patience::Patience;
use super::{Door, Guard};

/// How long to leave a system alone that could not hand a connection over, such as for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// A connection whose handshake is done, or failed.
type Arrival = BoxFuture<'static, Option<Connection>>;

struct Incoming {
    listener: TcpListener,
    door: Door,
    guard: Guard,
    places: Arc<Semaphore>,
    shaking_hands: FuturesUnordered<Arrival>,
}

/// The connections of a port, as they are ready. A failed one is no reason to stop: it is logged and passed over.
pub fn incoming(
    listener: TcpListener,
    door: Door,
    guard: Guard,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = Arc::new(Semaphore::new(guard.patience.connections));
    let incoming = Incoming {
        listener,
        door,
        guard,
        places,
        shaking_hands: FuturesUnordered::new(),
    };
    unfold(incoming, |mut incoming| async {
        let connection = incoming.next().await;
        Some((Ok(connection), incoming))
    })
}

impl Incoming {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(done) = self.shaking_hands.next() => {
                    if let Some(connection) = done {
                        return connection;
                    }
                }
                (stream, place) = accept(&self.listener, &self.places) => {
                    let patience = self.guard.patience;
                    let Some(tls) = &self.guard.tls else {
                        return Connection::new(Wire::Plain(stream), self.door, &patience, place);
                    };
                    let acceptor = TlsAcceptor::from(tls.config(self.door));
                    let hands = shake_hands(acceptor, stream, self.door, patience, place);
                    self.shaking_hands.push(Box::pin(hands));
                }
            }
        }
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.expect("the places are never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection waits to fill its packets");
                }
                return (stream, place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    door: Door,
    patience: Patience,
    place: OwnedSemaphorePermit,
) -> Option<Connection> {
    let reason = match timeout(patience.arrival, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let wire = Wire::Tls(Box::new(stream));
            return Some(Connection::new(wire, door, &patience, place));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    tracing::debug!(reason, "a TLS handshake failed");
    None
}
