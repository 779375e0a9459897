//! Health, and the order of a stop.

use kakeya_core::{Command, EngineHandle};
use kakeya_server::wire::{bind, serve};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::{PATIENCE, QUICK, SERVICE, Served, append, connect, id, refused};

async fn health(channel: &Channel, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(channel.clone()).check(request).await?;
    Ok(answer.into_inner().status())
}

#[tokio::test]
async fn health_serves_the_server_and_its_service_by_name() {
    let served = Served::start().await;
    for service in ["", SERVICE] {
        assert_eq!(
            health(&served.channel, service).await.expect("known"),
            ServingStatus::Serving
        );
    }
    assert_eq!(
        refused(health(&served.channel, "another").await).code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_stop_says_not_serving_while_the_port_is_open_and_then_closes_it() {
    let mut served = Served::start().await;
    let request = HealthCheckRequest {
        service: SERVICE.to_owned(),
    };
    let watch = HealthClient::new(served.channel.clone())
        .watch(request)
        .await
        .expect("a watch");
    let mut watch = watch.into_inner();
    let status = |answer: Option<Result<HealthCheckResponse, Status>>| {
        answer.expect("open").expect("fine").status()
    };
    assert_eq!(status(watch.next().await), ServingStatus::Serving);

    served.shutdown.cancel();
    let arrived = served.next().await;
    let Command::Shutdown { grace, reply } = arrived else {
        panic!("not the shutdown: {arrived:?}")
    };
    assert_eq!(grace, QUICK.grace);
    assert_eq!(status(watch.next().await), ServingStatus::NotServing);
    for service in ["", SERVICE] {
        let fresh = connect(&served.address)
            .await
            .expect("the port is still open");
        assert_eq!(
            health(&fresh, service).await.expect("known"),
            ServingStatus::NotServing
        );
    }

    drop(reply);
    assert!(
        timeout(PATIENCE, watch.next())
            .await
            .expect("the watch ends")
            .is_none()
    );
    timeout(PATIENCE, served.server)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("a clean stop");
    assert!(
        connect(&served.address).await.is_err(),
        "the port is closed"
    );
}

#[tokio::test]
async fn an_engine_that_does_not_answer_holds_up_a_stop_only_so_long() {
    let mut served = Served::start().await;
    let mut client = served.client();
    let call = tokio::spawn(async move { client.append_tokens(append(id(), vec![1])).await });
    let held = timeout(PATIENCE, served.commands.recv())
        .await
        .expect("in time");
    served.shutdown.cancel();
    timeout(PATIENCE, served.server)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("a stop all the same");
    assert!(
        connect(&served.address).await.is_err(),
        "the port is closed"
    );
    assert!(!call.is_finished(), "the call was still open: {held:?}");
}

#[tokio::test]
async fn a_stopped_engine_does_not_hold_up_a_stop() {
    let listener = bind("127.0.0.1:0").await.expect("a free port");
    let (engine, commands) = EngineHandle::channel(1);
    drop(commands);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    timeout(PATIENCE, serve(listener, engine, shutdown))
        .await
        .expect("in time")
        .expect("a clean stop");
}
