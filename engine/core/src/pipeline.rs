//! The bounded, cancellable way from the step loop to one stream.
//!
//! The producer sits on the step loop's thread and must never wait for a slow client: it asks for room and
//! moves on. The consumer sits on the wire. The rules between them:
//!
//! - **Bounded.** At most `capacity` items are in flight; a full pipeline refuses ([`TrySend::Full`]).
//! - **Drain, then end.** How the stream ended is known to the consumer only after every item sent before it.
//! - **No false success.** A producer that is dropped without [`Producer::finish`] or [`Producer::fail`], as
//!   it is when the step loop's thread panics, surfaces as [`PipelineError::ProducerLost`].
//! - **Cancellation reaches the producer**, as a flag and as a future. Dropping the consumer cancels.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Is told of what a pipeline carries, on the producer's side.
///
/// It is dropped before the consumer can know that the stream has ended, and with a producer that is lost.
pub trait Tap<T>: Send + Sync + std::fmt::Debug {
    /// An item is about to be sent.
    fn sent(&self, item: &T);
}

/// A pipeline for at most `capacity` items in flight. With no room nothing could ever pass, so 0 is taken as 1.
pub fn bounded<T, E>(capacity: usize) -> (Producer<T, E>, Consumer<T, E>) {
    tapped(capacity, None)
}

/// [`bounded`], with somebody who is told of every item.
pub fn tapped<T, E>(
    capacity: usize,
    tap: Option<Box<dyn Tap<T>>>,
) -> (Producer<T, E>, Consumer<T, E>) {
    let (items, received) = mpsc::channel(capacity.max(1));
    let (end, ended) = oneshot::channel();
    let cancel = CancellationToken::new();
    let producer = Producer {
        items,
        end,
        cancel: cancel.clone(),
        tap,
    };
    (
        producer,
        Consumer {
            received,
            ended,
            cancel,
            over: false,
        },
    )
}

/// An item that was not sent, because the consumer has cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the consumer has cancelled")]
pub struct Cancelled<T>(pub T);

/// Why an item was not sent, with the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySend<T> {
    /// As many items are in flight as may be: try again when the consumer has taken one.
    #[error("the pipeline is full")]
    Full(T),
    /// The consumer wants no more.
    #[error("the consumer has cancelled")]
    Cancelled(T),
}

/// How a stream failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError<E> {
    /// The producer said so.
    #[error("{0}")]
    Failed(E),
    /// The producer is gone and said nothing.
    #[error("the producer was lost before it finished")]
    ProducerLost,
}

#[derive(Debug)]
enum End<T, E> {
    Finished(Option<T>),
    Failed(E),
}

/// The step loop's end.
#[derive(Debug)]
pub struct Producer<T, E> {
    items: mpsc::Sender<T>,
    end: oneshot::Sender<End<T, E>>,
    cancel: CancellationToken,
    tap: Option<Box<dyn Tap<T>>>,
}

impl<T, E> Producer<T, E> {
    /// Sends without waiting.
    ///
    /// # Errors
    /// [`TrySend::Full`] or [`TrySend::Cancelled`], with the item. After a cancellation it is always the latter.
    pub fn try_send(&self, item: T) -> Result<(), TrySend<T>> {
        match self.items.try_reserve() {
            Ok(room) if !self.is_cancelled() => {
                self.tell(&item);
                room.send(item);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) if !self.is_cancelled() => {
                Err(TrySend::Full(item))
            }
            _ => Err(TrySend::Cancelled(item)),
        }
    }

    /// Sends as soon as there is room.
    ///
    /// # Errors
    /// [`Cancelled`], with the item, also when the cancellation comes during the wait.
    pub async fn send(&self, item: T) -> Result<(), Cancelled<T>> {
        match self.cancel.run_until_cancelled(self.items.reserve()).await {
            Some(Ok(room)) if !self.is_cancelled() => {
                self.tell(&item);
                room.send(item);
                Ok(())
            }
            _ => Err(Cancelled(item)),
        }
    }

    /// Whether an item would be taken now. There is one producer, so room that was seen stays.
    pub fn has_room(&self) -> bool {
        self.items.capacity() > 0
    }

    /// Resolves when there is room or the consumer has cancelled: what a loop with nothing else to do waits for.
    pub async fn room(&self) {
        let _ = self.cancel.run_until_cancelled(self.items.reserve()).await;
    }

    /// Ends the stream as it should.
    pub fn finish(self) {
        self.end_with(End::Finished(None));
    }

    /// Ends the stream as it should, with a last item that needs no room and is delivered even after a
    /// cancellation, so that the step loop never waits to say how a stream ended.
    pub fn finish_with(self, last: T) {
        self.end_with(End::Finished(Some(last)));
    }

    /// Ends the stream with an error, which surfaces after the items in flight.
    pub fn fail(self, error: E) {
        self.end_with(End::Failed(error));
    }

    /// Whether the consumer has cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Resolves when the consumer cancels.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    fn tell(&self, item: &T) {
        if let Some(tap) = &self.tap {
            tap.sent(item);
        }
    }

    // The consumer looks for the end once the item channel is closed, so the end is in place before `items`
    // is dropped. A consumer that is already gone has no use for it.
    fn end_with(self, end: End<T, E>) {
        let Self {
            items,
            end: to_consumer,
            tap,
            ..
        } = self;
        drop(tap);
        let _ = to_consumer.send(end);
        drop(items);
    }
}

/// The wire's end. Dropping it cancels.
#[derive(Debug)]
pub struct Consumer<T, E> {
    received: mpsc::Receiver<T>,
    ended: oneshot::Receiver<End<T, E>>,
    cancel: CancellationToken,
    over: bool,
}

impl<T, E> Consumer<T, E> {
    /// The next item, or the error that ended the stream; `None` once it is over. Nothing is lost when the
    /// future is dropped before it resolves.
    pub async fn next(&mut self) -> Option<Result<T, PipelineError<E>>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Consumer::next`], for a thread that may block. It panics inside an async task.
    pub fn blocking_next(&mut self) -> Option<Result<T, PipelineError<E>>> {
        self.received.blocking_recv().map(Ok).or_else(|| self.end())
    }

    /// [`Consumer::next`], for a `Stream`.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, PipelineError<E>>>> {
        let item = ready!(self.received.poll_recv(cx));
        Poll::Ready(item.map(Ok).or_else(|| self.end()))
    }

    /// Tells the producer to stop. Items in flight, and how the producer then ends the stream, can still be read.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    // Called with every item taken and the producer gone. An end that is not there by now never comes.
    fn end(&mut self) -> Option<Result<T, PipelineError<E>>> {
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        match self.ended.try_recv() {
            Ok(End::Finished(last)) => last.map(Ok),
            Ok(End::Failed(error)) => Some(Err(PipelineError::Failed(error))),
            Err(_) => Some(Err(PipelineError::ProducerLost)),
        }
    }
}

impl<T, E> Drop for Consumer<T, E> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
