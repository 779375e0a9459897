//! Several clients, and clients that go away.

use kakeya_core::{GenerateParams, StopReason};

use super::support::{Client, Served, WITHOUT_END, ensure_not_found, serving, until};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{
    Generated, SMALL_LIMIT, greedy, prose, random_ids, seeded, small, solo,
};
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "concurrent_sessions_stream_the_tokens_they_stream_alone",
            concurrent_sessions_stream_the_tokens_they_stream_alone,
        ),
        Case::fast(
            "a_second_generate_waits_and_goes_on_from_the_first",
            a_second_generate_waits_and_goes_on_from_the_first,
        ),
        Case::fast(
            "an_append_during_generate_comes_after_it",
            an_append_during_generate_comes_after_it,
        ),
        Case::fast(
            "a_dropped_stream_stops_the_work_and_keeps_the_emitted_tokens",
            a_dropped_stream_stops_the_work_and_keeps_the_emitted_tokens,
        ),
        Case::fast(
            "a_dropped_connection_stops_the_work_too",
            a_dropped_connection_stops_the_work_too,
        ),
        Case::fast(
            "close_during_generate_ends_the_stream_with_cancelled",
            close_during_generate_ends_the_stream_with_cancelled,
        ),
        Case::fast(
            "a_long_append_does_not_stop_the_others",
            a_long_append_does_not_stop_the_others,
        ),
    ]
}

/// One client's turns: appends in pieces of its own size, then a stream.
async fn converse(
    address: &str,
    prompt: &[u32],
    piece: usize,
    params: GenerateParams,
) -> Result<Generated, CaseFailure> {
    let mut client = Client::connect(address).await?;
    let id = client.create(&[]).await?;
    for piece in prompt.chunks(piece) {
        client.append(&id, piece).await?;
    }
    let generated = client.generate(&id, params).await?.finish().await?;
    let length = client.close(&id).await?;
    ensure_eq!(
        length as usize,
        prompt.len() + generated.tokens.len(),
        "the final history length"
    );
    Ok(generated)
}

fn concurrent_sessions_stream_the_tokens_they_stream_alone(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let text = prose(context, 150)?;
    let plans = [
        (text[..90].to_vec(), 7, seeded(24, 1)),
        (text[..90].to_vec(), 90, seeded(24, 2)),
        (text[60..].to_vec(), 33, greedy(24)),
        (random_ids(context, 110, 40)?, 1, seeded(24, 1)),
    ];
    let alone = plans
        .iter()
        .map(|(prompt, _, params)| solo(context, &config, prompt, params.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    serving(context, config, async |served| {
        let address = &served.address;
        let together = plans
            .iter()
            .map(|(prompt, piece, params)| converse(address, prompt, *piece, params.clone()));
        let together = futures::future::try_join_all(together).await?;
        for (at, (found, expected)) in together.iter().zip(&alone).enumerate() {
            found.ensure_same_as(&format!("session {at} among four"), expected)?;
            ensure_eq!(found.truncated, expected.truncated, "its dropped count");
        }
        let stats = served.engine.stats().await?;
        ensure_eq!(
            (stats.sessions, stats.free_slabs, stats.active, stats.queued),
            (0, 4, 0, 0),
            "sessions, free slabs and work once all are closed"
        );
        Ok(())
    })
}

fn a_second_generate_waits_and_goes_on_from_the_first(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    let expected = solo(context, &config, &prompt, seeded(40, 3))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let first = client.generate(&id, seeded(25, 3)).await?;
        // Asked for while the first has hardly begun.
        let second = client.generate(&id, seeded(15, 3)).await?;
        let (first, second) = (first.finish().await?, second.finish().await?);
        let tokens = [first.tokens, second.tokens].concat();
        ensure_same_tokens(
            "two streams, one after the other",
            &tokens,
            &expected.tokens,
        )?;
        ensure_eq!(
            second.truncated,
            Some((30 + 25 - SMALL_LIMIT) as u64),
            "what the second finds dropped once the first is over"
        );
        ensure!(
            second.done.prefill >= first.done.total / 2,
            "the second had its first token after {:?}, the first took {:?}",
            second.done.prefill,
            first.done.total
        );
        Ok(())
    })
}

fn an_append_during_generate_comes_after_it(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    let turn = random_ids(context, 111, 10)?;
    let first = solo(context, &config, &prompt, seeded(20, 4))?;
    let whole = [&prompt, &first.tokens[..], &turn].concat();
    let expected = solo(context, &config, &whole, seeded(5, 5))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let stream = client.generate(&id, seeded(20, 4)).await?;
        let length = client.append(&id, &turn).await?;
        ensure_eq!(length as usize, whole.len(), "the history after the append");
        let generated = stream.finish().await?;
        generated.ensure_same_as("the stream that was appended behind", &first)?;
        let next = client.generate(&id, seeded(5, 5)).await?.finish().await?;
        next.ensure_same_as("the stream after both", &expected)
    })
}

/// Requires that the work of a session has stopped after `read` tokens or a few more, and that the session
/// goes on exactly as one that streamed the same tokens to a client that stayed.
async fn ensure_goes_on(
    context: &SuiteContext,
    served: &mut Served,
    id: &str,
    prompt: &[u32],
    read: &[u32],
    seed: u64,
) -> CaseResult {
    let client = &mut served.client;
    let length = client.settled_length(id).await? as usize;
    let stats = served.engine.stats().await?;
    let emitted = length - prompt.len();
    ensure!(
        emitted >= read.len(),
        "{emitted} tokens kept, {} read",
        read.len()
    );
    ensure_eq!(
        (stats.active, stats.queued, stats.tokens_generated as usize),
        (0, 0, emitted),
        "work left, and tokens generated against tokens kept"
    );
    let rest = client
        .generate(id, seeded(12, seed))
        .await?
        .finish()
        .await?;
    let whole = seeded((emitted + 12) as u32, seed);
    let expected = solo(context, &small(context), prompt, whole)?;
    ensure_same_tokens("what was read", read, &expected.tokens[..read.len()])?;
    ensure_same_tokens(
        "what came after the client that left",
        &rest.tokens,
        &expected.tokens[emitted..],
    )?;
    let later = served.engine.stats().await?.tokens_generated as usize;
    ensure_eq!(later, emitted + 12, "tokens generated in all");
    Ok(())
}

fn a_dropped_stream_stops_the_work_and_keeps_the_emitted_tokens(
    context: &SuiteContext,
) -> CaseResult {
    for (length, seed) in [(20, 6), (SMALL_LIMIT + 20, 7)] {
        let prompt = prose(context, length)?;
        serving(context, small(context), async |served| {
            let id = served.client.create_with(&prompt).await?;
            let params = seeded(WITHOUT_END, seed);
            let mut stream = served.client.generate(&id, params).await?;
            stream.read(6).await?;
            let read = stream.tokens();
            drop(stream);
            ensure_goes_on(context, served, &id, &prompt, &read, seed).await
        })?;
    }
    Ok(())
}

fn a_dropped_connection_stops_the_work_too(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    serving(context, small(context), async |served| {
        let id = served.client.create_with(&prompt).await?;
        let mut other = Client::connect(&served.address).await?;
        let mut stream = other.generate(&id, seeded(WITHOUT_END, 8)).await?;
        stream.read(3).await?;
        let read = stream.tokens();
        drop(other);
        drop(stream);
        ensure_goes_on(context, served, &id, &prompt, &read, 8).await
    })
}

fn close_during_generate_ends_the_stream_with_cancelled(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    serving(context, small(context), async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let mut stream = client.generate(&id, seeded(WITHOUT_END, 9)).await?;
        let mut waiting = client.generate(&id, seeded(5, 9)).await?;
        stream.read(4).await?;
        let length = client.close(&id).await? as usize;
        ensure_not_found(client, &id).await?;
        let generated = stream.finish().await?;
        ensure_eq!(
            (generated.done.reason, generated.tokens.len()),
            (StopReason::Cancelled, length - prompt.len()),
            "the reason, and the tokens against the final history"
        );
        let status = waiting.failure().await?;
        ensure_eq!(
            status.code(),
            tonic::Code::NotFound,
            "the status of the stream that still waited"
        );
        let stats = served.engine.stats().await?;
        ensure_eq!(
            (stats.sessions, stats.free_slabs, stats.active, stats.queued),
            (0, 4, 0, 0),
            "sessions, free slabs and work after the close"
        );
        Ok(())
    })
}

fn a_long_append_does_not_stop_the_others(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 20)?;
    // Long enough to be read after the stream.
    let count = if context.isa().is_gpu() {
        20_000
    } else {
        1_500
    };
    let long = random_ids(context, 112, count)?;
    let expected = solo(context, &config, &prompt, seeded(6, 10))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let (busy, quick) = (
            client.create(&[]).await?,
            client.create_with(&prompt).await?,
        );
        let mut other = client.clone();
        let append = async { Ok(other.append(&busy, &long).await?) };
        let stream = async {
            let mut watching = client.clone();
            until("the long append begins", async || {
                Ok(watching.info(&busy).await?.history_length > 0)
            })
            .await?;
            let generated = client
                .generate(&quick, seeded(6, 10))
                .await?
                .finish()
                .await?;
            // The long append has not been waited for.
            let length = client.info(&busy).await?.history_length;
            Ok::<_, CaseFailure>((generated, length))
        };
        let (appended, (generated, meanwhile)) = futures::future::try_join(append, stream).await?;
        ensure_eq!(appended, count as u64, "the history after the long append");
        ensure!(
            meanwhile < count as u64,
            "the stream came only after the whole append of {meanwhile}"
        );
        generated.ensure_same_as("the stream beside a long append", &expected)
    })
}
