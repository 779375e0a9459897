//! Deadlines, and compressed messages.

use http_body_util::Full;
use hyper::body::{Body as _, Bytes};
use kakeya_core::{Command, GenerateEvent};
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};

use crate::support::{PATIENCE, Served, append, connect, generate, id, refused};

/// A call with this text for its deadline.
fn within<T>(text: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = text.parse().expect("ascii");
    request.metadata_mut().insert("grpc-timeout", value);
    request
}

#[tokio::test]
async fn a_deadline_of_nothing_does_not_reach_the_engine() {
    let mut served = Served::start().await;
    let mut client = served.bare_client().await;
    let status = refused(
        client
            .append_tokens(within("0S", append(id(), vec![1])))
            .await,
    );
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    served.assert_engine_untouched();
}

#[tokio::test]
async fn a_deadline_that_is_none_is_refused_and_quoted() {
    let mut served = Served::start().await;
    let mut client = served.bare_client().await;
    for text in ["1x", "soon", "123456789S"] {
        let status = refused(
            client
                .append_tokens(within(text, append(id(), vec![1])))
                .await,
        );
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    served.assert_engine_untouched();
}

/// gRPC's C core, which Python and others stand on, takes a status in headers that an empty frame follows for a broken
/// stream, and tells UNKNOWN.
#[tokio::test]
async fn a_refusal_within_a_deadline_is_headers_and_nothing_after_them() {
    let mut served = Served::start().await;
    // An empty message: no session has an empty id.
    let message = Body::new(Full::new(Bytes::from_static(&[0; 5])));
    let request = hyper::Request::post("http://localhost/kakeya.v1.RuntimeService/GetSessionInfo")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "60S")
        .body(message)
        .expect("a request");
    let answer = served.bare().await.0.send_request(request).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.headers()["grpc-status"], "5", "{answer:?}");
    assert!(answer.body().is_end_stream(), "{answer:?}");
    served.assert_engine_untouched();
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_waits() {
    let mut served = Served::start().await;
    let mut client = served.bare_client().await;
    let request = within("50m", generate(id()));
    let call = tokio::spawn(async move { client.generate(request).await });
    let Command::Generate { events, reply, .. } = served.next().await else {
        panic!("not the generate")
    };
    timeout(PATIENCE, events.cancelled())
        .await
        .expect("cancelled");
    let status = refused(call.await.expect("no panic"));
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    drop(reply);
}

#[tokio::test]
async fn a_deadline_ends_a_stream_and_cancels_its_work() {
    let mut served = Served::start().await;
    let mut client = served.bare_client().await;
    let request = within("400m", generate(id()));
    let call = tokio::spawn(async move { client.generate(request).await });
    let Command::Generate { events, reply, .. } = served.next().await else {
        panic!("not the generate")
    };
    reply.send(Ok(())).expect("somebody waits");
    events
        .try_send(GenerateEvent::Token(7.into()))
        .expect("room");
    let mut stream = call
        .await
        .expect("no panic")
        .expect("taken in")
        .into_inner();
    assert!(stream.message().await.expect("a token").is_some());
    timeout(PATIENCE, events.cancelled())
        .await
        .expect("cancelled");
    let status = refused(stream.message().await);
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn a_call_that_ends_before_its_deadline_is_not_touched_by_it() {
    let mut served = Served::start().await;
    served.commands.close();
    let mut client = served.bare_client().await;
    for far in ["99999999H", "30S"] {
        let request = within(far, append(id(), vec![1]));
        let status = refused(client.append_tokens(request).await);
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
}

#[tokio::test]
async fn messages_may_come_compressed() {
    let mut served = Served::start().await;
    let channel = connect(&served.address).await.expect("a connection");
    let mut client = RuntimeServiceClient::new(channel)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let session_id = id();
    let request = append(session_id.clone(), vec![5; 1000]);
    let call = tokio::spawn(async move { client.append_tokens(request).await });
    let Command::Append {
        id: to,
        tokens,
        reply,
    } = served.next().await
    else {
        panic!("not the append")
    };
    assert_eq!((to.to_string(), tokens), (session_id, vec![5; 1000]));
    reply.send(Ok(1000)).expect("somebody waits");
    let answer = call.await.expect("no panic").expect("an answer");
    assert_eq!(
        answer.metadata().get("grpc-encoding").expect("compressed"),
        "gzip"
    );
    assert_eq!(answer.into_inner().history_length, 1000);
    // A small message that swells is bounded by what it swells to.
    let mut client = RuntimeServiceClient::new(served.channel.clone())
        .send_compressed(CompressionEncoding::Gzip);
    let swollen = append("x".repeat(64 << 20), vec![]);
    let status = refused(client.append_tokens(swollen).await);
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    served.assert_engine_untouched();
}
