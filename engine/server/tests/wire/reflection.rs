//! Reflection: a client without the contract's files can ask for them.

use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::support::{SERVICE, Served};

async fn reflect(channel: &Channel, asked: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(asked),
    };
    let mut answers = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection")
        .into_inner();
    let ServerReflectionResponse {
        message_response, ..
    } = answers.next().await.expect("an answer").expect("fine");
    message_response.expect("a message")
}

#[tokio::test]
async fn reflection_lists_the_services_and_gives_their_files() {
    let served = Served::start().await;
    let MessageResponse::ListServicesResponse(list) =
        reflect(&served.channel, MessageRequest::ListServices(String::new())).await
    else {
        panic!("not a list")
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in [
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(
            names.iter().any(|listed| listed == name),
            "{name} in {names:?}"
        );
    }
    let symbol = MessageRequest::FileContainingSymbol(format!("{SERVICE}.Generate"));
    let MessageResponse::FileDescriptorResponse(files) = reflect(&served.channel, symbol).await
    else {
        panic!("not a file")
    };
    assert!(!files.file_descriptor_proto.is_empty());
}
