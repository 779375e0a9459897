//! What one Generate says on the wire.

use kakeya_core::{GenerateEvent, StopReason};
use kakeya_proto::v1;
use tonic::Code;

use super::support::{ensure_status, serving};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{SMALL_LIMIT, greedy, prose, seeded, small, solo};
use crate::{ensure, ensure_eq, ensure_same_tokens};
use kakeya_suite::CaseResult;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "truncated_comes_once_and_first_and_only_when_something_is_dropped",
            truncated_comes_once_and_first_and_only_when_something_is_dropped,
        ),
        Case::fast(
            "eos_ends_the_stream_after_its_token",
            eos_ends_the_stream_after_its_token,
        ),
        Case::fast(
            "unset_sampling_values_are_greedy",
            unset_sampling_values_are_greedy,
        ),
        Case::fast(
            "a_seed_on_the_wire_is_the_engine_s_seed",
            a_seed_on_the_wire_is_the_engine_s_seed,
        ),
        Case::fast(
            "penalties_biases_stop_sequences_and_log_probabilities_cross_the_wire",
            penalties_biases_stop_sequences_and_log_probabilities_cross_the_wire,
        ),
    ]
}

fn truncated_comes_once_and_first_and_only_when_something_is_dropped(
    context: &SuiteContext,
) -> CaseResult {
    let tokens = prose(context, SMALL_LIMIT + 7)?;
    serving(context, small(context), async |served| {
        let client = &mut served.client;
        // The order is what `finish` asks of every stream.
        let id = client.create_with(&tokens[..SMALL_LIMIT]).await?;
        let all_cached = client.generate(&id, greedy(3)).await?.finish().await?;
        ensure_eq!(all_cached.truncated, None, "the notice while all is cached");
        let beyond = client.generate(&id, greedy(3)).await?.finish().await?;
        ensure_eq!(beyond.truncated, Some(3), "the notice after three more");
        let id = client.create_with(&tokens).await?;
        let at_once = client.generate(&id, greedy(3)).await?.finish().await?;
        ensure_eq!(at_once.truncated, Some(7), "the notice after a long append");
        Ok(())
    })
}

fn eos_ends_the_stream_after_its_token(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 25)?;
    let stream = solo(context, &config, &prompt, seeded(10, 3))?.tokens;
    let eos = stream[6];
    let end = stream.iter().position(|token| *token == eos).unwrap_or(6);
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create(&[eos]).await?;
        client.append(&id, &prompt).await?;
        let generated = client.generate(&id, seeded(10, 3)).await?.finish().await?;
        ensure_same_tokens("up to and with EOS", &generated.tokens, &stream[..=end])?;
        ensure_eq!(generated.done.reason, StopReason::Eos, "the stop reason");
        let length = client.info(&id).await?.history_length;
        ensure_eq!(length as usize, 25 + end + 1, "the history after EOS");
        Ok(())
    })
}

fn unset_sampling_values_are_greedy(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 25)?;
    let expected = solo(context, &config, &prompt, greedy(10))?;
    serving(context, config, async |served| {
        let client = &mut served.client;
        for seed in [None, Some(9)] {
            let session_id = client.create_with(&prompt).await?;
            let unset = v1::GenerateRequest {
                session_id,
                max_tokens: 10,
                seed,
                ..Default::default()
            };
            let generated = client.send(unset).await?.finish().await?;
            generated.ensure_same_as("a stream with nothing set", &expected)?;
        }
        Ok(())
    })
}

fn a_seed_on_the_wire_is_the_engine_s_seed(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 25)?;
    let mut params = seeded(10, u64::MAX);
    params.sampling.top_k = 50;
    params.sampling.top_p = 0.95;
    let expected = solo(context, &config, &prompt, params.clone())?;
    let mut other = params.clone();
    other.sampling.seed = None;
    serving(context, config, async |served| {
        let client = &mut served.client;
        for _ in 0..2 {
            let id = client.create_with(&prompt).await?;
            let generated = client.generate(&id, params.clone()).await?.finish().await?;
            generated.ensure_same_as("a seeded stream of the wire", &expected)?;
        }
        let id = client.create_with(&prompt).await?;
        let unseeded = client.generate(&id, other).await?.finish().await?;
        ensure!(
            unseeded.tokens != expected.tokens,
            "a stream without a seed is the seeded one"
        );
        Ok(())
    })
}

fn penalties_biases_stop_sequences_and_log_probabilities_cross_the_wire(
    context: &SuiteContext,
) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 25)?;
    let mut params = seeded(10, 4);
    params.sampling.min_p = 0.001;
    params.sampling.presence_penalty = 0.5;
    params.sampling.frequency_penalty = 0.25;
    params.sampling.repetition_penalty = 1.25;
    params.logit_bias = vec![(260, 1.5), (28, -3.0)];
    params.top_logprobs = Some(3);
    let free = solo(context, &config, &prompt, params.clone())?;
    params.stop = vec![free.tokens[4..6].to_vec()];
    let expected = solo(context, &config, &prompt, params.clone())?;
    ensure_eq!(
        expected.done.reason,
        StopReason::StopSequence,
        "the reason of the stream to compare with"
    );
    serving(context, config, async |served| {
        let client = &mut served.client;
        let id = client.create_with(&prompt).await?;
        let mut stream = client.generate(&id, params.clone()).await?;
        while let Some(event) = stream.next().await? {
            if let GenerateEvent::Token(token) = event {
                let top = token.logprobs.map(|logprobs| logprobs.top.len());
                ensure_eq!(top, Some(3), "log-probabilities beside a token");
            }
        }
        let generated = stream.finish().await?;
        generated.ensure_same_as("a stream of the wire with every option", &expected)?;
        let vocabulary = context.model()?.config().vocabulary as u32;
        params.logit_bias.push((vocabulary, 1.0));
        let refused = client.generate(&id, params.clone()).await.map(|_| ());
        let part = format!("logit_bias names token {vocabulary}");
        ensure_status("Generate", refused, Code::InvalidArgument, &part)
    })
}
