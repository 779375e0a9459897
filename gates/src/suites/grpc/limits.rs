//! Large messages, and a history that comes in pieces.

use kakeya_core::{CacheConfig, Window};
use kakeya_server::wire::limits::{MAX_REQUEST_BYTES, SAFE_APPEND_IDS};
use tonic::Code;

use super::support::{ensure_status, serving};
use crate::context::SuiteContext;
use crate::ensure_eq;
use crate::suite::Case;
use crate::suites::support::{SMALL, greedy, prose, random_ids, seeded, small, solo};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "a_message_over_the_limit_is_out_of_range_and_leaves_the_session",
            a_message_over_the_limit_is_out_of_range_and_leaves_the_session,
        ),
        Case::fast(
            "a_million_ids_reach_the_vocabulary_check",
            a_million_ids_reach_the_vocabulary_check,
        ),
        Case::full(
            "twenty_thousand_tokens_in_pieces_equal_one_append",
            twenty_thousand_tokens_in_pieces_equal_one_append,
        ),
    ]
}

fn a_message_over_the_limit_is_out_of_range_and_leaves_the_session(
    context: &SuiteContext,
) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 30)?;
    let expected = solo(context, &config, &prompt, greedy(6))?;
    let large = vec![49_000; MAX_REQUEST_BYTES / 3 + 1];
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let answer = client.append(&id, &large).await;
        ensure_status(
            "AppendTokens",
            answer,
            Code::OutOfRange,
            "4194304 bytes (4 MiB)",
        )?;
        ensure_eq!(client.info(&id).await?.history_length, 30, "the history");
        let generated = client.generate(&id, greedy(6)).await?.finish().await?;
        generated.ensure_same_as("the stream on the same connection", &expected)?;
        let passes = served.engine.stats().await?.forward_passes;
        ensure_eq!(passes, 1 + 6, "forward passes");
        Ok(())
    })
}

fn a_million_ids_reach_the_vocabulary_check(context: &SuiteContext) -> CaseResult {
    let vocabulary = context.model()?.config().vocabulary as u32;
    let mut ids = vec![vocabulary - 1; SAFE_APPEND_IDS];
    ids[SAFE_APPEND_IDS - 1] = vocabulary;
    serving(context, small(context), async |served| {
        let client = &mut served.client;
        let id = client.create(&[]).await?;
        let answer = client.append(&id, &ids).await;
        let part = format!("token {vocabulary} at index {}", SAFE_APPEND_IDS - 1);
        ensure_status("AppendTokens", answer, Code::InvalidArgument, &part)?;
        ensure_eq!(client.info(&id).await?.history_length, 0, "the history");
        Ok(())
    })
}

fn twenty_thousand_tokens_in_pieces_equal_one_append(context: &SuiteContext) -> CaseResult {
    const TOKENS: usize = 20_000;
    let mut config = small(context);
    config.cache = CacheConfig {
        window: Window::Sliding(256),
        ..SMALL
    };
    let tokens = random_ids(context, 130, TOKENS)?;
    let expected = solo(context, &config, &tokens, seeded(32, 1))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create(&[]).await?;
        let (mut sent, mut piece) = (0, 1);
        while sent < TOKENS {
            let end = TOKENS.min(sent + piece);
            let length = client.append(&id, &tokens[sent..end]).await?;
            ensure_eq!(length as usize, end, "the history after a piece of {piece}");
            // 1, 4, 13, 40 and so on up to 3,280: never a multiple of a chunk.
            (sent, piece) = (end, (3 * piece + 1).min(3280));
        }
        let generated = client.generate(&id, seeded(32, 1)).await?.finish().await?;
        generated.ensure_same_as("the stream after 20,000 tokens in pieces", &expected)?;
        ensure_eq!(
            generated.truncated,
            Some((TOKENS - 4 - 256) as u64),
            "the dropped count"
        );
        let length = client.close(&id).await? as usize;
        ensure_eq!(length, TOKENS + 32, "the final history length");
        Ok(())
    })
}
