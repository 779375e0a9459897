//! Keys on the gRPC port.

use std::sync::Arc;

use kakeya_core::{Command, Limits, Owner};
use kakeya_proto::v1::{CreateSessionRequest, GetSessionInfoRequest};
use kakeya_server::door::Guard;
use kakeya_server::door::access::Access;
use kakeya_server::door::keys::{FreshKey, KeyRing, parse_file};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Served, append, generate, id, refused};

/// Two keys, and a guard that lets them in.
fn two_keys(limits: Limits) -> (FreshKey, FreshKey, Guard) {
    let [one, two] = ["one", "two"].map(|name| FreshKey::new(name).expect("a name"));
    let entries = parse_file(&(one.lines() + &two.lines())).expect("lines");
    let guard = Guard {
        access: Arc::new(Access::Keys(KeyRing::new(entries, limits))),
        ..Guard::default()
    };
    (one, two, guard)
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {key}").parse::<AsciiMetadataValue>();
    request
        .metadata_mut()
        .insert("authorization", value.expect("ascii"));
    request
}

#[tokio::test]
async fn without_a_key_every_rpc_is_unauthenticated_and_health_is_open() {
    let (one, _, guard) = two_keys(Limits::default());
    let (mut served, _) = Served::behind(guard).await;
    let mut client = served.client();
    let mut wrong = one.secret().to_owned();
    wrong.pop();
    let info = GetSessionInfoRequest { session_id: id() };
    for status in [
        refused(client.create_session(CreateSessionRequest::default()).await),
        refused(client.append_tokens(append(id(), vec![1])).await),
        refused(client.generate(generate(id())).await),
        refused(client.get_session_info(with(&wrong, info.clone())).await),
        refused(client.get_session_info(with("", info)).await),
    ] {
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(
            status.message().contains("authorization: Bearer KEY"),
            "{status:?}"
        );
    }
    let mut health = HealthClient::new(served.channel.clone());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
    served.assert_engine_untouched();
}

#[tokio::test]
async fn a_call_is_asked_for_by_the_holder_of_its_key() {
    let (one, two, guard) = two_keys(Limits::default());
    let (mut served, _) = Served::behind(guard).await;
    let mut owners = Vec::new();
    for key in [&one, &two, &one] {
        let mut client = served.client();
        let request = with(key.secret(), CreateSessionRequest::default());
        let call = tokio::spawn(async move { client.create_session(request).await });
        let kakeya_core::Request { by, command } = served.next_request().await;
        owners.push(by.owner());
        assert!(matches!(command, Command::CreateSession { .. }));
        drop(command);
        assert_eq!(
            refused(call.await.expect("no panic")).code(),
            Code::Unavailable
        );
    }
    assert_eq!(owners[0], owners[2]);
    assert_ne!(owners[0], owners[1]);
    assert!(owners.iter().all(|owner| *owner != Owner::EVERYBODY));
}

#[tokio::test]
async fn limits_are_told_with_their_keys_name() {
    let limits = Limits {
        max_new_tokens: Some(3),
        tokens_per_minute: Some(5),
        ..Limits::default()
    };
    let (one, _, guard) = two_keys(limits);
    let (mut served, _) = Served::behind(guard).await;
    let mut client = served.client();
    let status = refused(client.generate(with(one.secret(), generate(id()))).await);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(
        status.message().contains("key `one` may generate 3"),
        "{status:?}"
    );
    let six = append(id(), vec![1; 6]);
    let status = refused(client.append_tokens(with(one.secret(), six)).await);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    served.assert_engine_untouched();
}

#[tokio::test]
async fn without_keys_the_limits_hold_for_everybody() {
    let limits = Limits {
        max_new_tokens: Some(3),
        ..Limits::default()
    };
    let guard = Guard {
        access: Arc::new(Access::open(limits)),
        ..Guard::default()
    };
    let (mut served, _) = Served::behind(guard).await;
    let status = refused(served.client().generate(generate(id())).await);
    assert!(
        status.message().contains("a client of this server"),
        "{status:?}"
    );
    served.assert_engine_untouched();
}
