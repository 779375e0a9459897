//! Requests that the wire layer refuses itself, and requests that reach the engine's door.

use kakeya_core::Command;
use kakeya_proto::v1::{
    CloseSessionRequest, CreateSessionRequest, GenerateRequest, GetSessionInfoRequest, TokenBias,
    TokenSequence,
};
use kakeya_server::wire::limits::{MAX_REQUEST_BYTES, SAFE_APPEND_IDS};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{PATIENCE, Served, append, generate, id, refused};

#[tokio::test]
async fn every_rpc_of_a_stopped_engine_is_unavailable() {
    let mut served = Served::start().await;
    served.commands.close();
    let mut client = served.client();
    let statuses = [
        refused(client.create_session(CreateSessionRequest::default()).await),
        refused(client.append_tokens(append(id(), vec![1])).await),
        refused(client.generate(generate(id())).await),
        refused(
            client
                .close_session(CloseSessionRequest { session_id: id() })
                .await,
        ),
        refused(
            client
                .get_session_info(GetSessionInfoRequest { session_id: id() })
                .await,
        ),
    ];
    for status in statuses {
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "the engine has stopped");
    }
}

#[tokio::test]
async fn a_session_id_of_the_wrong_shape_is_not_found_and_does_not_reach_the_engine() {
    let mut served = Served::start().await;
    let mut client = served.client();
    for wrong in [
        "",
        "sess-",
        "session",
        "sess-0000000000000000000000000000000g",
        &"x".repeat(100_000),
    ] {
        let session_id = wrong.to_owned();
        let statuses = [
            refused(
                client
                    .append_tokens(append(session_id.clone(), vec![1]))
                    .await,
            ),
            refused(client.generate(generate(session_id.clone())).await),
            refused(
                client
                    .close_session(CloseSessionRequest {
                        session_id: session_id.clone(),
                    })
                    .await,
            ),
            refused(
                client
                    .get_session_info(GetSessionInfoRequest { session_id })
                    .await,
            ),
        ];
        for status in statuses {
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
            let quoted: String = wrong.chars().take(80).collect();
            assert!(
                status.message().contains(&format!("`{quoted}` not found")),
                "{status:?}"
            );
        }
    }
    served.assert_engine_untouched();
}

#[tokio::test]
async fn generate_arguments_out_of_range_are_invalid_and_do_not_reach_the_engine() {
    let mut served = Served::start().await;
    let mut client = served.client();
    let fine = generate(id());
    for (request, part) in [
        (
            GenerateRequest {
                max_tokens: 0,
                ..fine.clone()
            },
            "max_tokens is 0, and must be 1 or more",
        ),
        (
            GenerateRequest {
                temperature: Some(-1.0),
                ..fine.clone()
            },
            "temperature is -1",
        ),
        (
            GenerateRequest {
                temperature: Some(f32::NAN),
                ..fine.clone()
            },
            "temperature is NaN",
        ),
        (
            GenerateRequest {
                temperature: Some(f32::INFINITY),
                ..fine.clone()
            },
            "temperature is inf",
        ),
        (
            GenerateRequest {
                top_p: Some(0.0),
                ..fine.clone()
            },
            "top_p is 0",
        ),
        (
            GenerateRequest {
                top_p: Some(1.5),
                ..fine.clone()
            },
            "top_p is 1.5",
        ),
        (
            GenerateRequest {
                top_p: Some(f32::NAN),
                ..fine.clone()
            },
            "top_p is NaN",
        ),
        (
            GenerateRequest {
                min_p: Some(1.5),
                ..fine.clone()
            },
            "min_p is 1.5",
        ),
        (
            GenerateRequest {
                presence_penalty: Some(2.5),
                ..fine.clone()
            },
            "presence_penalty is 2.5",
        ),
        (
            GenerateRequest {
                frequency_penalty: Some(f32::NAN),
                ..fine.clone()
            },
            "frequency_penalty is NaN",
        ),
        (
            GenerateRequest {
                repetition_penalty: Some(0.0),
                ..fine.clone()
            },
            "repetition_penalty is 0",
        ),
        (
            GenerateRequest {
                logit_bias: vec![TokenBias {
                    token_id: 7,
                    bias: -101.0,
                }],
                ..fine.clone()
            },
            "logit_bias of token 7 is -101",
        ),
        (
            GenerateRequest {
                stop_sequences: vec![TokenSequence::default()],
                ..fine.clone()
            },
            "stop sequence 0 has 0 tokens",
        ),
        (
            GenerateRequest {
                top_logprobs: Some(21),
                ..fine
            },
            "top_logprobs is 21",
        ),
    ] {
        let status = refused(client.generate(request).await);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(part), "{part}: {status:?}");
    }
    served.assert_engine_untouched();
}

#[tokio::test]
async fn a_request_over_the_limit_is_told_to_come_in_pieces_and_the_connection_lives_on() {
    let mut served = Served::start().await;
    let mut client = served.client();
    for ids in [2_000_000, 20_000_000] {
        let status = refused(client.append_tokens(append(id(), vec![49_000; ids])).await);
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        for part in ["4194304 bytes (4 MiB)", "in pieces of at most 1000000 ids"] {
            assert!(status.message().contains(part), "{part}: {status:?}");
        }
    }
    let after = refused(client.append_tokens(append("none".into(), vec![1])).await);
    assert_eq!(after.code(), Code::NotFound, "{after:?}");
    served.assert_engine_untouched();
}

#[tokio::test]
async fn a_million_ids_fit_in_one_request() {
    let mut served = Served::start().await;
    let largest_of_three_bytes = (1 << 21) - 1;
    let session_id = id();
    let request = append(
        session_id.clone(),
        vec![largest_of_three_bytes; SAFE_APPEND_IDS],
    );
    let mut client = served.client();
    let call = tokio::spawn(async move { client.append_tokens(request).await });
    let arrived = served.next().await;
    let Command::Append { id, tokens, reply } = arrived else {
        panic!("not the append: {arrived:?}")
    };
    assert_eq!(
        (id.to_string(), tokens.len()),
        (session_id, SAFE_APPEND_IDS)
    );
    assert!(tokens.iter().all(|token| *token == largest_of_three_bytes));
    drop(reply);
    assert_eq!(
        refused(call.await.expect("no panic")).code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn the_limit_is_on_the_byte() {
    let mut served = Served::start().await;
    let mut client = served.client();
    // A message with one string field of n bytes, n from 2^21 up, takes 1 + 4 bytes more.
    let text = |bytes: usize| "x".repeat(bytes - 5);
    let fits = client
        .append_tokens(append(text(MAX_REQUEST_BYTES), vec![]))
        .await;
    assert_eq!(refused(fits).code(), Code::NotFound);
    let over = client
        .append_tokens(append(text(MAX_REQUEST_BYTES + 1), vec![]))
        .await;
    assert_eq!(refused(over).code(), Code::OutOfRange);
    served.assert_engine_untouched();
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_generate() {
    let mut served = Served::start().await;
    let mut client = served.client();
    let request = generate(id());
    let call = tokio::spawn(async move { client.generate(request).await });
    let arrived = served.next().await;
    let Command::Generate { events, .. } = arrived else {
        panic!("not the generate: {arrived:?}")
    };
    assert!(!events.is_cancelled());
    call.abort();
    timeout(PATIENCE, events.cancelled())
        .await
        .expect("the cancellation reaches the producer");
}
