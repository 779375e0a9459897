//! Request ids on the gRPC port.

use kakeya_proto::v1::CreateSessionRequest;
use kakeya_server::door::request_id::REQUEST_ID;
use tonic::Request;

use crate::support::{Served, refused};

#[tokio::test]
async fn an_id_comes_back_and_is_made_where_it_is_not_fit() {
    let mut served = Served::start().await;
    served.commands.close();
    let mut client = served.client();
    for (given, kept) in [("req-7/a.b", true), ("two words", false), ("", false)] {
        let mut request = Request::new(CreateSessionRequest::default());
        let metadata = request.metadata_mut();
        metadata.insert("x-request-id", given.parse().expect("ascii"));
        let status = refused(client.create_session(request).await);
        let told = status.metadata().get(REQUEST_ID.as_str()).expect("an id");
        assert_eq!(told == given, kept, "{told:?}");
        assert!(kept || told.len() == 32, "{told:?}");
    }
}
