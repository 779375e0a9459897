//! Clients of the gRPC port that are too slow, and too many.

use std::time::Duration;

use kakeya_core::{Command, GenerateEvent, TrySend};
use kakeya_proto::v1::GetSessionInfoRequest;
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use kakeya_server::door::Guard;
use kakeya_server::door::patience::Patience;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::support::{PATIENCE, Served, connect, generate, id, refused};

fn guard(patience: Patience) -> Guard {
    Guard {
        patience,
        ..Guard::default()
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let patience = Patience {
        arrival: Duration::from_millis(100),
        ..Patience::default()
    };
    let (_served, at) = Served::behind(guard(patience)).await;
    for said in ["", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut silent = TcpStream::connect(at).await.expect("a connection");
        silent.write_all(said.as_bytes()).await.expect("sent");
        let mut all = Vec::new();
        let read = timeout(PATIENCE, silent.read_to_end(&mut all)).await;
        drop(read.expect("the server closes"));
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let patience = Patience {
        connections: 1,
        ..Patience::default()
    };
    let (mut served, _) = Served::behind(guard(patience)).await;
    served.commands.close();
    let call = async |channel: Channel| {
        let info = GetSessionInfoRequest { session_id: id() };
        refused(
            RuntimeServiceClient::new(channel)
                .get_session_info(info)
                .await,
        )
    };
    let first = connect(&served.address).await.expect("a connection");
    assert_eq!(
        call(first.clone()).await.message(),
        "the engine has stopped"
    );
    let second = connect(&served.address).await.expect("the system takes it");
    let mut waiting = std::pin::pin!(call(second));
    let early = timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "it was let in: {early:?}");
    drop(first);
    let status = timeout(PATIENCE, waiting).await.expect("in time");
    assert_eq!(status.message(), "the engine has stopped");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_given_up() {
    let patience = Patience {
        departure: Duration::from_millis(200),
        ..Patience::default()
    };
    let (mut served, at) = Served::behind(guard(patience)).await;
    let channel = Channel::from_shared(format!("http://{at}"))
        .expect("an address")
        .initial_stream_window_size(1 << 14)
        .connect()
        .await
        .expect("a connection");
    let call = tokio::spawn(async move {
        RuntimeServiceClient::new(channel)
            .generate(generate(id()))
            .await
    });
    let Command::Generate { events, reply, .. } = served.next().await else {
        panic!("not the generate")
    };
    reply.send(Ok(())).expect("somebody waits");
    let sending = async {
        loop {
            match events.try_send(GenerateEvent::Token(7.into())) {
                Ok(()) => tokio::task::yield_now().await,
                Err(TrySend::Full(_)) => events.room().await,
                Err(TrySend::Cancelled(_)) => return,
            }
        }
    };
    timeout(PATIENCE, sending).await.expect("given up");
    // It would have gone on: the client is there, and has not read.
    let mut stream = call
        .await
        .expect("no panic")
        .expect("taken in")
        .into_inner();
    let failed = async {
        while let Ok(message) = stream.message().await {
            assert!(message.is_some(), "it did not come to its end");
        }
    };
    timeout(PATIENCE, failed).await.expect("an end");
}
