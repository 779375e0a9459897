use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use kakeya_core::pipeline::bounded;
use kakeya_core::{Cancelled, Consumer, PipelineError, Producer, TrySend};

type Pipeline = (Producer<u32, &'static str>, Consumer<u32, &'static str>);

/// Far longer than anything here takes; a wait that should end and does not fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it never resolved")
}

#[tokio::test]
async fn items_arrive_in_order_and_the_end_stays_the_end() {
    let (producer, mut consumer): Pipeline = bounded(4);
    for item in 1..=3 {
        producer.try_send(item).unwrap();
    }
    producer.finish();
    for item in 1..=3 {
        assert_eq!(consumer.next().await, Some(Ok(item)));
    }
    for _ in 0..3 {
        assert_eq!(consumer.next().await, None);
    }
}

#[tokio::test]
async fn a_full_pipeline_refuses_until_an_item_is_taken() {
    let (producer, mut consumer): Pipeline = bounded(2);
    producer.try_send(1).unwrap();
    assert!(producer.has_room());
    producer.try_send(2).unwrap();
    assert!(!producer.has_room());
    assert_eq!(producer.try_send(3), Err(TrySend::Full(3)));
    assert_eq!(consumer.next().await, Some(Ok(1)));
    assert!(producer.has_room());
    assert_eq!(producer.try_send(3), Ok(()));
}

#[tokio::test]
async fn a_capacity_of_zero_is_taken_as_one() {
    let (producer, mut consumer): Pipeline = bounded(0);
    producer.try_send(1).unwrap();
    assert_eq!(producer.try_send(2), Err(TrySend::Full(2)));
    assert_eq!(consumer.next().await, Some(Ok(1)));
}

#[tokio::test]
async fn an_error_surfaces_once_and_after_the_items_in_flight() {
    let (producer, mut consumer): Pipeline = bounded(4);
    producer.try_send(1).unwrap();
    producer.try_send(2).unwrap();
    producer.fail("out of memory");
    assert_eq!(consumer.next().await, Some(Ok(1)));
    assert_eq!(consumer.next().await, Some(Ok(2)));
    assert_eq!(
        consumer.next().await,
        Some(Err(PipelineError::Failed("out of memory")))
    );
    assert_eq!(consumer.next().await, None);
}

#[tokio::test]
async fn a_producer_that_is_dropped_does_not_look_like_success() {
    let (producer, mut consumer): Pipeline = bounded(4);
    producer.try_send(1).unwrap();
    drop(producer);
    assert_eq!(consumer.next().await, Some(Ok(1)));
    assert_eq!(
        consumer.next().await,
        Some(Err(PipelineError::ProducerLost))
    );
    assert_eq!(consumer.next().await, None);
}

#[tokio::test]
async fn a_last_item_needs_no_room_and_comes_after_the_items_in_flight() {
    let (producer, mut consumer): Pipeline = bounded(1);
    producer.try_send(1).unwrap();
    producer.finish_with(2);
    assert_eq!(consumer.next().await, Some(Ok(1)));
    assert_eq!(consumer.next().await, Some(Ok(2)));
    assert_eq!(consumer.next().await, None);
}

#[tokio::test]
async fn a_cancellation_reaches_the_producer_as_a_flag_and_as_a_future() {
    let (producer, consumer): Pipeline = bounded(1);
    assert!(!producer.is_cancelled());
    let waiting = tokio::spawn(async move {
        producer.cancelled().await;
        producer
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    consumer.cancel();
    let producer = soon(waiting).await.unwrap();
    assert!(producer.is_cancelled());
    assert_eq!(producer.try_send(1), Err(TrySend::Cancelled(1)));
    assert_eq!(producer.send(2).await, Err(Cancelled(2)));
}

#[tokio::test]
async fn after_a_cancellation_a_full_pipeline_says_cancelled_and_not_full() {
    let (producer, consumer): Pipeline = bounded(1);
    producer.try_send(1).unwrap();
    consumer.cancel();
    assert_eq!(producer.try_send(2), Err(TrySend::Cancelled(2)));
}

#[tokio::test]
async fn dropping_the_consumer_cancels() {
    let (producer, consumer): Pipeline = bounded(1);
    drop(consumer);
    assert!(producer.is_cancelled());
    soon(producer.cancelled()).await;
    assert_eq!(producer.try_send(1), Err(TrySend::Cancelled(1)));
    producer.fail("nobody reads this");
}

#[tokio::test]
async fn items_in_flight_and_the_last_one_can_be_read_after_a_cancellation() {
    let (producer, mut consumer): Pipeline = bounded(2);
    producer.try_send(1).unwrap();
    producer.try_send(2).unwrap();
    consumer.cancel();
    producer.finish_with(3);
    for item in 1..=3 {
        assert_eq!(consumer.next().await, Some(Ok(item)));
    }
    assert_eq!(consumer.next().await, None);
}

#[tokio::test]
async fn a_waiting_send_goes_through_when_an_item_is_taken() {
    let (producer, mut consumer): Pipeline = bounded(1);
    producer.try_send(1).unwrap();
    let sending = tokio::spawn(async move { producer.send(2).await });
    tokio::task::yield_now().await;
    assert!(!sending.is_finished());
    assert_eq!(consumer.next().await, Some(Ok(1)));
    assert_eq!(soon(sending).await.unwrap(), Ok(()));
    assert_eq!(consumer.next().await, Some(Ok(2)));
}

#[tokio::test]
async fn a_waiting_send_gives_its_item_back_when_the_consumer_cancels_or_is_dropped() {
    let cancels: fn(&Consumer<_, _>) = Consumer::cancel;
    for end in [Some(cancels), None] {
        let (producer, consumer): Pipeline = bounded(1);
        producer.try_send(1).unwrap();
        let sending = tokio::spawn(async move { producer.send(2).await });
        tokio::task::yield_now().await;
        assert!(!sending.is_finished());
        let mut kept = Some(consumer);
        match end {
            Some(cancel) => cancel(kept.as_ref().unwrap()),
            None => kept = None,
        }
        assert_eq!(soon(sending).await.unwrap(), Err(Cancelled(2)));
        drop(kept);
    }
}

#[tokio::test]
async fn waiting_for_room_ends_with_room_or_with_a_cancellation() {
    let (producer, mut consumer): Pipeline = bounded(1);
    soon(producer.room()).await;
    producer.try_send(1).unwrap();
    let waiting = tokio::spawn(async move {
        producer.room().await;
        producer
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(consumer.next().await, Some(Ok(1)));
    let producer = soon(waiting).await.unwrap();
    assert!(producer.has_room(), "waiting for room takes none");

    producer.try_send(2).unwrap();
    let waiting = tokio::spawn(async move { producer.room().await });
    tokio::task::yield_now().await;
    consumer.cancel();
    soon(waiting).await.unwrap();
}

#[test]
fn polling_wakes_for_an_item_and_for_the_end() {
    let (producer, mut consumer): Pipeline = bounded(1);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(consumer.poll_next(&mut cx), Poll::Pending);
    producer.try_send(1).unwrap();
    assert_eq!(consumer.poll_next(&mut cx), Poll::Ready(Some(Ok(1))));
    assert_eq!(consumer.poll_next(&mut cx), Poll::Pending);
    producer.finish();
    assert_eq!(consumer.poll_next(&mut cx), Poll::Ready(None));
    assert_eq!(consumer.poll_next(&mut cx), Poll::Ready(None));
}

#[tokio::test]
async fn a_next_that_is_dropped_before_it_resolves_loses_nothing() {
    let (producer, mut consumer): Pipeline = bounded(1);
    let impatient = tokio::time::timeout(Duration::from_millis(1), consumer.next());
    assert!(impatient.await.is_err());
    producer.try_send(1).unwrap();
    assert_eq!(consumer.next().await, Some(Ok(1)));
}

/// Sends 1, 2, 3... from a thread that never blocks, as a step loop does, until it is cancelled or `count`
/// are sent. Answers how many were.
fn produce(producer: &Producer<u32, &'static str>, count: u32) -> u32 {
    for item in 1..=count {
        loop {
            match producer.try_send(item) {
                Ok(()) => break,
                Err(TrySend::Full(_)) => thread::yield_now(),
                Err(TrySend::Cancelled(_)) => return item - 1,
            }
        }
    }
    count
}

#[test]
fn across_threads_every_item_comes_before_every_kind_of_end() {
    for round in 0..300 {
        let capacity = round % 5 + 1;
        let (producer, mut consumer): Pipeline = bounded(capacity);
        let sending = thread::spawn(move || {
            produce(&producer, 50);
            match round % 3 {
                0 => producer.finish(),
                1 => producer.fail("broken"),
                _ => drop(producer),
            }
        });
        for item in 1..=50 {
            assert_eq!(consumer.blocking_next(), Some(Ok(item)));
        }
        let end = match round % 3 {
            0 => None,
            1 => Some(Err(PipelineError::Failed("broken"))),
            _ => Some(Err(PipelineError::ProducerLost)),
        };
        assert_eq!(consumer.blocking_next(), end);
        assert_eq!(consumer.blocking_next(), None);
        sending.join().unwrap();
    }
}

#[test]
fn across_threads_a_cancelled_stream_holds_exactly_what_was_sent() {
    for round in 0..300 {
        let (producer, mut consumer): Pipeline = bounded(round % 5 + 1);
        let sending = thread::spawn(move || {
            let sent = produce(&producer, u32::MAX);
            producer.finish();
            sent
        });
        for item in 1..=10 {
            assert_eq!(consumer.blocking_next(), Some(Ok(item)));
        }
        consumer.cancel();
        let mut last = 10;
        while let Some(item) = consumer.blocking_next() {
            assert_eq!(item, Ok(last + 1));
            last += 1;
        }
        assert_eq!(sending.join().unwrap(), last);
    }
}

#[test]
fn across_threads_no_more_items_are_in_flight_than_the_capacity() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    const CAPACITY: usize = 3;
    let (producer, mut consumer): Pipeline = bounded(CAPACITY);
    let sending = thread::spawn(move || {
        for sent in 1..=2000 {
            while producer.try_send(0) == Err(TrySend::Full(0)) {
                thread::yield_now();
            }
            // The consumer counts an item just after it took it, hence the one more.
            assert!(sent <= TAKEN.load(Ordering::SeqCst) + CAPACITY + 1);
        }
        producer.finish();
    });
    while let Some(item) = consumer.blocking_next() {
        assert_eq!(item, Ok(0));
        TAKEN.fetch_add(1, Ordering::SeqCst);
    }
    sending.join().unwrap();
    assert_eq!(TAKEN.load(Ordering::SeqCst), 2000);
}

#[test]
fn a_panic_of_the_producing_thread_surfaces_as_a_lost_producer() {
    let (producer, mut consumer): Pipeline = bounded(1);
    let sending = thread::spawn(move || {
        producer.try_send(1).unwrap();
        std::panic::resume_unwind(Box::new("the step loop broke"));
    });
    assert_eq!(consumer.blocking_next(), Some(Ok(1)));
    assert_eq!(
        consumer.blocking_next(),
        Some(Err(PipelineError::ProducerLost))
    );
    assert!(sending.join().is_err());
}

#[test]
fn messages_say_what_happened() {
    assert_eq!(TrySend::Full(1).to_string(), "the pipeline is full");
    assert_eq!(
        TrySend::Cancelled(1).to_string(),
        "the consumer has cancelled"
    );
    assert_eq!(Cancelled(1).to_string(), "the consumer has cancelled");
    assert_eq!(PipelineError::Failed("broken").to_string(), "broken");
    let lost = PipelineError::<&str>::ProducerLost;
    assert_eq!(lost.to_string(), "the producer was lost before it finished");
}
