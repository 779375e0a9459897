//! Generate's stream: the engine's events as messages, in the order the contract promises.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use kakeya_core::{Consumer, EngineError, GenerateEvent};
use kakeya_proto::v1;
use tonic::Status;

use super::convert::generate_response;
use super::status::{out_of_order, pipeline_status};

/// The stream behind one Generate: `truncated` at most once and first, tokens, `done` exactly once and last; or an
/// error status in the place of whatever could not come.
///
/// Dropping it, as the transport does when the client goes away, cancels the generation.
#[derive(Debug)]
pub struct GenerateStream {
    events: Consumer<GenerateEvent, EngineError>,
    stage: Stage,
}

/// How far the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Tokens,
    Ended,
}

impl GenerateStream {
    /// The stream of `events`.
    pub fn new(events: Consumer<GenerateEvent, EngineError>) -> Self {
        Self {
            events,
            stage: Stage::Opening,
        }
    }

    /// What follows `event`, or an error where the event may not come now.
    fn advance(&self, event: &GenerateEvent) -> Result<Stage, Status> {
        match (self.stage, event) {
            (Stage::Opening, GenerateEvent::Truncated { .. }) | (_, GenerateEvent::Token(_)) => {
                Ok(Stage::Tokens)
            }
            (_, GenerateEvent::Done(_)) => Ok(Stage::Ended),
            (_, GenerateEvent::Truncated { .. }) => Err(out_of_order(Some(event))),
        }
    }
}

impl Stream for GenerateStream {
    type Item = Result<v1::GenerateResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stage == Stage::Ended {
            return Poll::Ready(None);
        }
        let item = match ready!(self.events.poll_next(context)) {
            Some(Ok(event)) => self
                .advance(&event)
                .map(|stage| (stage, generate_response(event))),
            Some(Err(error)) => Err(pipeline_status(error)),
            None => Err(out_of_order(None)),
        };
        self.stage = item.as_ref().map_or(Stage::Ended, |(stage, _)| *stage);
        Poll::Ready(Some(item.map(|(_, message)| message)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use kakeya_core::pipeline::bounded;
    use kakeya_core::{GenerateDone, Producer, StopReason};
    use tonic::Code;

    use super::*;

    type Events = Producer<GenerateEvent, EngineError>;

    const DONE: GenerateEvent = GenerateEvent::Done(GenerateDone {
        reason: StopReason::Eos,
        generated: 2,
        prefill: Duration::from_millis(250),
        total: Duration::from_millis(500),
    });
    const TRUNCATED: GenerateEvent = GenerateEvent::Truncated { dropped: 5 };

    fn token(id: u32) -> GenerateEvent {
        GenerateEvent::Token(id.into())
    }

    /// A stream that holds `events`, and the end that still sends to it.
    fn stream_of(events: &[GenerateEvent]) -> (Events, GenerateStream) {
        let (producer, consumer) = bounded(8);
        for event in events {
            producer.try_send(event.clone()).expect("room");
        }
        (producer, GenerateStream::new(consumer))
    }

    /// Everything a client would read: the messages, and the code that ended the stream where one did.
    async fn read(mut stream: GenerateStream) -> (Vec<v1::GenerateResponse>, Option<Code>) {
        let mut messages = Vec::new();
        let mut failure = None;
        while let Some(item) = stream.next().await {
            assert_eq!(failure, None, "nothing follows an error");
            match item {
                Ok(message) => messages.push(message),
                Err(status) => failure = Some(status.code()),
            }
        }
        (messages, failure)
    }

    #[tokio::test]
    async fn events_come_as_messages_in_their_order_and_done_is_last() {
        let events = [TRUNCATED, token(7), token(8)];
        let (producer, stream) = stream_of(&events);
        producer.finish_with(DONE);
        let expected: Vec<_> = events
            .into_iter()
            .chain([DONE])
            .map(generate_response)
            .collect();
        assert_eq!(read(stream).await, (expected, None));
    }

    #[tokio::test]
    async fn nothing_follows_done() {
        let (producer, stream) = stream_of(&[DONE, token(7)]);
        producer.finish();
        assert_eq!(read(stream).await, (vec![generate_response(DONE)], None));
    }

    #[tokio::test]
    async fn truncated_twice_or_late_is_an_internal_error() {
        for (first, second) in [(TRUNCATED, TRUNCATED), (token(7), TRUNCATED)] {
            let (producer, stream) = stream_of(&[first.clone(), second]);
            producer.finish_with(DONE);
            assert_eq!(
                read(stream).await,
                (vec![generate_response(first)], Some(Code::Internal))
            );
        }
    }

    #[tokio::test]
    async fn an_end_without_done_is_an_internal_error() {
        let (producer, stream) = stream_of(&[token(7)]);
        producer.finish();
        assert_eq!(
            read(stream).await,
            (vec![generate_response(token(7))], Some(Code::Internal))
        );
    }

    #[tokio::test]
    async fn an_error_surfaces_after_the_tokens_in_flight() {
        let (producer, stream) = stream_of(&[token(7)]);
        producer.fail(EngineError::Draining);
        assert_eq!(
            read(stream).await,
            (vec![generate_response(token(7))], Some(Code::Unavailable))
        );
    }

    #[tokio::test]
    async fn a_lost_producer_is_an_internal_error() {
        let (producer, stream) = stream_of(&[]);
        drop(producer);
        assert_eq!(read(stream).await, (vec![], Some(Code::Internal)));
    }

    #[test]
    fn dropping_the_stream_cancels_the_generation() {
        let (producer, stream) = stream_of(&[token(7)]);
        assert!(!producer.is_cancelled());
        drop(stream);
        assert!(producer.is_cancelled());
    }
}
