//! Wire messages to the engine's own types, and back. Wire types stop at this door.

use kakeya_core::{
    EngineError, GenerateDone, GenerateEvent, GenerateParams, Sampling, SessionId, SessionInfo,
    StopReason, TokenLogprobs,
};
use kakeya_proto::v1;

/// How much of an id that is not one of ours is repeated in the error, in characters. An error text travels in a
/// response header, whose size clients bound.
const QUOTED_ID: usize = 80;

/// The session that a request names.
///
/// # Errors
/// [`EngineError::NotFound`] for a text that does not have the shape of an id: no session has such an id.
pub fn session_id(text: &str) -> Result<SessionId, EngineError> {
    text.parse().map_err(|_| EngineError::NotFound {
        id: text.chars().take(QUOTED_ID).collect(),
    })
}

/// The settings of one Generate. An unset temperature is 0 (greedy), and what else is unset is off.
///
/// # Errors
/// Zero `max_tokens`, or values out of range. Whether its tokens are in the vocabulary is not known here.
pub fn generate_params(request: &v1::GenerateRequest) -> Result<GenerateParams, EngineError> {
    let defaults = Sampling::default();
    let params = GenerateParams {
        max_tokens: request.max_tokens,
        sampling: Sampling {
            temperature: request.temperature.unwrap_or(defaults.temperature),
            top_p: request.top_p.unwrap_or(defaults.top_p),
            top_k: request.top_k.unwrap_or(defaults.top_k),
            min_p: request.min_p.unwrap_or(defaults.min_p),
            presence_penalty: request
                .presence_penalty
                .unwrap_or(defaults.presence_penalty),
            frequency_penalty: request
                .frequency_penalty
                .unwrap_or(defaults.frequency_penalty),
            repetition_penalty: request
                .repetition_penalty
                .unwrap_or(defaults.repetition_penalty),
            seed: request.seed,
        },
        logit_bias: request
            .logit_bias
            .iter()
            .map(|entry| (entry.token_id, entry.bias))
            .collect(),
        stop: request
            .stop_sequences
            .iter()
            .map(|sequence| sequence.token_ids.clone())
            .collect(),
        top_logprobs: request.top_logprobs,
        constraint: None,
    };
    params.validate()?;
    Ok(params)
}

/// The answer to CreateSession.
pub fn create_session_response(id: SessionId) -> v1::CreateSessionResponse {
    v1::CreateSessionResponse {
        session_id: id.to_string(),
    }
}

/// The answer to AppendTokens.
pub fn append_tokens_response(history_length: u64) -> v1::AppendTokensResponse {
    v1::AppendTokensResponse { history_length }
}

/// The answer to CloseSession.
pub fn close_session_response(final_history_length: u64) -> v1::CloseSessionResponse {
    v1::CloseSessionResponse {
        final_history_length,
    }
}

/// The answer to GetSessionInfo.
pub fn session_info_response(info: SessionInfo) -> v1::GetSessionInfoResponse {
    v1::GetSessionInfoResponse {
        history_length: info.history_length,
        kv_live_bytes: info.kv_live_bytes,
        cache_invariant_inv1_violations: info.inv1_violations,
        cache_invariant_inv2_violations: info.inv2_violations,
        idle_seconds: info.idle.as_secs_f64(),
    }
}

/// One message of Generate's stream.
pub fn generate_response(event: GenerateEvent) -> v1::GenerateResponse {
    use v1::generate_response::Payload;
    let (payload, logprobs) = match event {
        GenerateEvent::Truncated { dropped } => {
            let notice = v1::HistoryTruncated {
                dropped_token_count: dropped,
            };
            (Payload::Truncated(notice), None)
        }
        GenerateEvent::Token(token) => (Payload::TokenId(token.id), token.logprobs),
        GenerateEvent::Done(done) => (Payload::Done(generate_done(done)), None),
    };
    v1::GenerateResponse {
        payload: Some(payload),
        logprobs: logprobs.map(|logprobs| token_logprobs(*logprobs)),
    }
}

fn token_logprobs(logprobs: TokenLogprobs) -> v1::TokenLogprobs {
    v1::TokenLogprobs {
        logprob: logprobs.logprob,
        top: logprobs
            .top
            .into_iter()
            .map(|entry| v1::TokenLogprob {
                token_id: entry.token,
                logprob: entry.logprob,
            })
            .collect(),
    }
}

fn generate_done(done: GenerateDone) -> v1::GenerateDone {
    v1::GenerateDone {
        stop_reason: stop_reason(done.reason).into(),
        generated_token_count: done.generated,
        prefill_duration_seconds: done.prefill.as_secs_f64(),
        total_duration_seconds: done.total.as_secs_f64(),
    }
}

fn stop_reason(reason: StopReason) -> v1::generate_done::StopReason {
    use v1::generate_done::StopReason as Wire;
    match reason {
        StopReason::MaxTokens => Wire::MaxTokens,
        // Nobody can ask for a form over gRPC; where one is complete, the text is at its end.
        StopReason::Eos | StopReason::Complete => Wire::Eos,
        StopReason::Cancelled => Wire::Cancelled,
        StopReason::Truncated => Wire::Truncated,
        StopReason::StopSequence => Wire::StopSequence,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kakeya_core::{
        GeneratedToken, InvalidArgument, LogitBiasError, SamplingError, StopError, TokenLogprob,
    };

    use super::*;

    #[test]
    fn an_id_of_the_right_shape_comes_back_as_it_was() {
        let id = SessionId::random();
        assert_eq!(session_id(&id.to_string()), Ok(id.clone()));
        assert_eq!(
            create_session_response(id.clone()).session_id,
            id.to_string()
        );
    }

    #[test]
    fn a_text_that_is_no_id_is_not_found_and_quoted_in_part() {
        for text in [
            "",
            "sess-",
            "sess-0123",
            "SESS-00000000000000000000000000000007",
            "sess-0000000000000000000000000000000G",
        ] {
            assert_eq!(
                session_id(text),
                Err(EngineError::NotFound {
                    id: text.to_owned()
                })
            );
        }
        let long = "\u{e9}".repeat(5_000_000);
        assert_eq!(
            session_id(&long),
            Err(EngineError::NotFound {
                id: "\u{e9}".repeat(QUOTED_ID)
            })
        );
    }

    #[test]
    fn unset_sampling_is_greedy_and_set_values_are_kept() {
        let mut request = v1::GenerateRequest {
            max_tokens: 3,
            ..Default::default()
        };
        let greedy = GenerateParams::new(3, Sampling::default());
        assert!(greedy.sampling.is_greedy());
        assert_eq!(generate_params(&request), Ok(greedy));

        request.seed = Some(0);
        request.temperature = Some(0.5);
        request.top_p = Some(0.9);
        request.top_k = Some(40);
        request.min_p = Some(0.05);
        request.presence_penalty = Some(1.5);
        request.frequency_penalty = Some(-0.5);
        request.repetition_penalty = Some(1.25);
        let sampling = Sampling {
            temperature: 0.5,
            top_p: 0.9,
            top_k: 40,
            min_p: 0.05,
            presence_penalty: 1.5,
            frequency_penalty: -0.5,
            repetition_penalty: 1.25,
            seed: Some(0),
        };
        assert_eq!(
            generate_params(&request),
            Ok(GenerateParams::new(3, sampling))
        );
    }

    #[test]
    fn biases_stop_sequences_and_logprobs_keep_their_tokens_and_order() {
        let request = v1::GenerateRequest {
            max_tokens: 3,
            logit_bias: vec![bias(9, -100.0), bias(2, 0.5)],
            stop_sequences: vec![stop(&[5, 6, 5]), stop(&[1])],
            top_logprobs: Some(0),
            ..Default::default()
        };
        let expected = GenerateParams {
            logit_bias: vec![(9, -100.0), (2, 0.5)],
            stop: vec![vec![5, 6, 5], vec![1]],
            top_logprobs: Some(0),
            ..GenerateParams::new(3, Sampling::default())
        };
        assert_eq!(generate_params(&request), Ok(expected));
    }

    fn bias(token_id: u32, bias: f32) -> v1::TokenBias {
        v1::TokenBias { token_id, bias }
    }

    fn stop(token_ids: &[u32]) -> v1::TokenSequence {
        let token_ids = token_ids.to_vec();
        v1::TokenSequence { token_ids }
    }

    #[test]
    fn what_no_session_could_run_is_refused() {
        let request = v1::GenerateRequest {
            max_tokens: 1,
            ..Default::default()
        };
        let refusal =
            |request: v1::GenerateRequest| generate_params(&request).expect_err("a refusal");
        assert_eq!(
            refusal(v1::GenerateRequest {
                max_tokens: 0,
                ..request.clone()
            }),
            InvalidArgument::ZeroMaxTokens.into()
        );
        for value in [-0.5, f32::INFINITY, 101.0] {
            let hot = v1::GenerateRequest {
                temperature: Some(value),
                ..request.clone()
            };
            assert_eq!(
                refusal(hot),
                EngineError::from(SamplingError::Temperature { value })
            );
        }
        let nan = v1::GenerateRequest {
            temperature: Some(f32::NAN),
            ..request.clone()
        };
        assert!(matches!(
            refusal(nan),
            EngineError::InvalidArgument(InvalidArgument::Sampling(_))
        ));
        for value in [0.0, -1.0, 1.5] {
            let top_p = v1::GenerateRequest {
                top_p: Some(value),
                ..request.clone()
            };
            assert_eq!(
                refusal(top_p),
                EngineError::from(SamplingError::TopP { value })
            );
        }
        let refused_argument = |request, expected: InvalidArgument| {
            assert_eq!(refusal(request), EngineError::from(expected));
        };
        refused_argument(
            v1::GenerateRequest {
                repetition_penalty: Some(0.0),
                ..request.clone()
            },
            SamplingError::RepetitionPenalty { value: 0.0 }.into(),
        );
        refused_argument(
            v1::GenerateRequest {
                logit_bias: vec![bias(4, 1.0), bias(4, 2.0)],
                ..request.clone()
            },
            LogitBiasError::Duplicate { token: 4 }.into(),
        );
        refused_argument(
            v1::GenerateRequest {
                stop_sequences: vec![stop(&[1]), stop(&[])],
                ..request.clone()
            },
            StopError::Length {
                index: 1,
                length: 0,
            }
            .into(),
        );
        refused_argument(
            v1::GenerateRequest {
                top_logprobs: Some(21),
                ..request
            },
            InvalidArgument::TopLogprobs { value: 21 },
        );
    }

    #[test]
    fn every_stop_reason_has_its_name_on_the_wire() {
        use v1::generate_done::StopReason as Wire;
        for (reason, wire) in [
            (StopReason::MaxTokens, Wire::MaxTokens),
            (StopReason::Eos, Wire::Eos),
            (StopReason::Complete, Wire::Eos),
            (StopReason::Cancelled, Wire::Cancelled),
            (StopReason::Truncated, Wire::Truncated),
            (StopReason::StopSequence, Wire::StopSequence),
        ] {
            let (prefill, total) = (Duration::from_millis(250), Duration::from_millis(1500));
            let message = generate_response(GenerateEvent::Done(GenerateDone {
                reason,
                generated: 9,
                prefill,
                total,
            }));
            let done = v1::GenerateDone {
                stop_reason: wire.into(),
                generated_token_count: 9,
                prefill_duration_seconds: 0.25,
                total_duration_seconds: 1.5,
            };
            assert_eq!(
                message.payload,
                Some(v1::generate_response::Payload::Done(done))
            );
        }
    }

    #[test]
    fn tokens_and_truncation_keep_their_numbers() {
        use v1::generate_response::Payload;
        let token = generate_response(GenerateEvent::Token(49_151.into()));
        assert_eq!(token.payload, Some(Payload::TokenId(49_151)));
        assert_eq!(token.logprobs, None);
        let truncated = v1::HistoryTruncated {
            dropped_token_count: 1 << 40,
        };
        let message = generate_response(GenerateEvent::Truncated { dropped: 1 << 40 });
        assert_eq!(message.payload, Some(Payload::Truncated(truncated)));
    }

    #[test]
    fn log_probabilities_travel_beside_their_token() {
        let logprobs = TokenLogprobs {
            logprob: -3.5,
            top: vec![
                TokenLogprob {
                    token: 8,
                    logprob: -0.25,
                },
                TokenLogprob {
                    token: 3,
                    logprob: -1.75,
                },
            ],
        };
        let message = generate_response(GenerateEvent::Token(GeneratedToken {
            id: 7,
            logprobs: Some(Box::new(logprobs)),
        }));
        let top = [(8, -0.25), (3, -1.75)];
        let expected = v1::TokenLogprobs {
            logprob: -3.5,
            top: top
                .map(|(token_id, logprob)| v1::TokenLogprob { token_id, logprob })
                .to_vec(),
        };
        assert_eq!(
            message.payload,
            Some(v1::generate_response::Payload::TokenId(7))
        );
        assert_eq!(message.logprobs, Some(expected));
    }

    #[test]
    fn lengths_and_session_facts_keep_their_numbers() {
        assert_eq!(append_tokens_response(11).history_length, 11);
        assert_eq!(close_session_response(12).final_history_length, 12);
        let info = SessionInfo {
            history_length: 1,
            cached_length: 2,
            kv_live_bytes: 3,
            inv1_violations: 4,
            inv2_violations: 5,
            idle: Duration::from_millis(6500),
        };
        let expected = v1::GetSessionInfoResponse {
            history_length: 1,
            kv_live_bytes: 3,
            cache_invariant_inv1_violations: 4,
            cache_invariant_inv2_violations: 5,
            idle_seconds: 6.5,
        };
        assert_eq!(session_info_response(info), expected);
    }
}
