//! Health, reflection, and a stop that cuts nobody off.

use std::time::Duration;

use futures::FutureExt;
use kakeya_core::StopReason;
use kakeya_server::wire::Drain;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::support::{Client, WITHOUT_END, ensure_status, serving, serving_until};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::suites::support::{PATIENCE, greedy, prose, seeded, small, solo};
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::fast(
            "health_and_reflection_name_the_service",
            health_and_reflection_name_the_service,
        ),
        Case::fast(
            "a_draining_engine_takes_no_new_work_and_finishes_the_old",
            a_draining_engine_takes_no_new_work_and_finishes_the_old,
        ),
        Case::fast(
            "a_stop_lets_a_running_stream_end_by_itself",
            a_stop_lets_a_running_stream_end_by_itself,
        ),
        Case::fast(
            "a_stop_ends_what_outlasts_the_timeout_with_deadline_exceeded",
            a_stop_ends_what_outlasts_the_timeout_with_deadline_exceeded,
        ),
    ]
}

const SERVICE: &str = "kakeya.v1.RuntimeService";

async fn health(channel: &Channel, service: &str) -> Result<i32, Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(channel.clone()).check(request).await?;
    Ok(answer.into_inner().status)
}

async fn reflect(channel: &Channel, asked: MessageRequest) -> Result<MessageResponse, CaseFailure> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(asked),
    };
    let mut answers = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::once(request))
        .await?
        .into_inner();
    let answer = answers.message().await?;
    answer
        .and_then(|answer| answer.message_response)
        .ok_or_else(|| CaseFailure::violated("reflection did not answer"))
}

fn health_and_reflection_name_the_service(context: &SuiteContext) -> CaseResult {
    serving(context, small(context), async |served| {
        let channel = &served.client.channel;
        for service in ["", SERVICE] {
            ensure_eq!(
                health(channel, service).await?,
                ServingStatus::Serving as i32,
                "the health of `{service}`"
            );
        }
        ensure_status(
            "another service's health",
            health(channel, "x").await,
            Code::NotFound,
            "",
        )?;
        let list = reflect(channel, MessageRequest::ListServices(String::new())).await?;
        let MessageResponse::ListServicesResponse(list) = list else {
            return Err(CaseFailure::violated(format!("not a list: {list:?}")));
        };
        let names: Vec<_> = list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        for name in [SERVICE, "grpc.health.v1.Health"] {
            ensure!(
                names.iter().any(|known| known == name),
                "{name} is not in {names:?}"
            );
        }
        for rpc in [
            "CreateSession",
            "AppendTokens",
            "Generate",
            "CloseSession",
            "GetSessionInfo",
        ] {
            let symbol = MessageRequest::FileContainingSymbol(format!("{SERVICE}.{rpc}"));
            let file = reflect(channel, symbol).await?;
            ensure!(
                matches!(file, MessageResponse::FileDescriptorResponse(_)),
                "no file has {rpc}: {file:?}"
            );
        }
        Ok(())
    })
}

fn a_draining_engine_takes_no_new_work_and_finishes_the_old(context: &SuiteContext) -> CaseResult {
    let prompt = prose(context, 20)?;
    serving(context, small(context), async |served| {
        let client = &mut served.client;
        let (busy, idle) = (
            client.create_with(&prompt).await?,
            client.create_with(&prompt).await?,
        );
        let mut running = client.generate(&busy, greedy(WITHOUT_END)).await?;
        running.read(1).await?;
        let mut drained = Box::pin(served.engine.shutdown(Duration::from_secs(3600)));
        // Polled once, the command is ahead of every request that follows.
        ensure!(
            (&mut drained).now_or_never().is_none(),
            "drained in no time"
        );
        let part = "draining";
        let create = client.create(&[]).await;
        ensure_status("CreateSession", create, Code::Unavailable, part)?;
        for id in [&busy, &idle] {
            let append = client.append(id, &prompt).await;
            ensure_status("AppendTokens", append, Code::Unavailable, part)?;
            let generate = client.generate(id, greedy(1)).await.map(|_| ());
            ensure_status("Generate", generate, Code::Unavailable, part)?;
        }
        // What is no new work is still answered.
        ensure_eq!(
            client.info(&idle).await?.history_length,
            20,
            "the idle history"
        );
        ensure_eq!(client.close(&idle).await?, 20, "the final history length");
        running.read(2).await?;
        ensure!(
            (&mut drained).now_or_never().is_none(),
            "drained while a stream still ran"
        );
        drop(running);
        tokio::time::timeout(PATIENCE, drained).await??;
        let info = client.info(&busy).await;
        ensure_status("GetSessionInfo", info, Code::Unavailable, "stopped")
    })
}

fn a_stop_lets_a_running_stream_end_by_itself(context: &SuiteContext) -> CaseResult {
    let config = small(context);
    let prompt = prose(context, 20)?;
    let expected = solo(context, &config, &prompt, seeded(40, 1))?;
    let drain = Drain {
        grace: PATIENCE,
        flush: Duration::from_secs(10),
    };
    serving_until(context, config, drain, async |mut served| {
        let request = HealthCheckRequest {
            service: SERVICE.to_owned(),
        };
        let mut watch = HealthClient::new(served.client.channel.clone())
            .watch(request)
            .await?
            .into_inner();
        let first = watch.message().await?.map(|answer| answer.status);
        ensure_eq!(
            first,
            Some(ServingStatus::Serving as i32),
            "the health at first"
        );
        let id = served.client.create_with(&prompt).await?;
        let mut stream = served.client.generate(&id, seeded(40, 1)).await?;
        stream.read(1).await?;
        served.shutdown.cancel();
        let next = watch.message().await?.map(|answer| answer.status);
        ensure_eq!(
            next,
            Some(ServingStatus::NotServing as i32),
            "the health of a server that stops"
        );
        let generated = stream.finish().await?;
        generated.ensure_same_as("the stream that was running", &expected)?;
        ensure_eq!(generated.done.reason, StopReason::MaxTokens, "its reason");
        drop(watch);
        let address = served.address.clone();
        served.stop().await?;
        ensure!(
            Client::connect(&address).await.is_err(),
            "the port is open after the stop"
        );
        Ok(())
    })
}

fn a_stop_ends_what_outlasts_the_timeout_with_deadline_exceeded(
    context: &SuiteContext,
) -> CaseResult {
    let prompt = prose(context, 20)?;
    let drain = Drain {
        grace: Duration::from_millis(200),
        flush: Duration::from_secs(10),
    };
    serving_until(context, small(context), drain, async |mut served| {
        let id = served.client.create_with(&prompt).await?;
        let mut stream = served.client.generate(&id, seeded(WITHOUT_END, 2)).await?;
        stream.read(1).await?;
        served.shutdown.cancel();
        let status = stream.failure().await?;
        ensure_eq!(
            status.code(),
            Code::DeadlineExceeded,
            "the status of a stream that outlasted the timeout"
        );
        ensure!(
            status.message().contains("--shutdown-timeout"),
            "the status does not say what was too short: {}",
            status.message()
        );
        served.stop().await?;
        let tokens = stream.tokens();
        let count = tokens.len() as u32;
        ensure!(count > 1, "{count} tokens in the time that was left");
        let expected = solo(context, &small(context), &prompt, seeded(count, 2))?;
        crate::ensure_same_tokens("what it had emitted", &tokens, &expected.tokens)
    })
}
