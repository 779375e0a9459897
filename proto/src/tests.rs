//! The contract, field by field. A change here is a change that existing clients notice.

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};

use crate::FILE_DESCRIPTOR_SET;
use crate::v1::generate_response::Payload;
use crate::v1::{GenerateDone, GenerateResponse, generate_done::StopReason};

const CONTRACT: &str = "\
package kakeya.v1
message CreateSessionRequest: 1 client_label string; 2 eos_token_ids repeated uint32
message CreateSessionResponse: 1 session_id string
message AppendTokensRequest: 1 session_id string; 2 token_ids repeated uint32
message AppendTokensResponse: 1 history_length uint64
message GenerateRequest: 1 session_id string; 2 max_tokens uint32; 3 seed optional uint64; \
4 temperature optional float; 5 top_p optional float; 6 top_k optional uint32; \
16 min_p optional float; 17 presence_penalty optional float; 18 frequency_penalty optional float; \
19 repetition_penalty optional float; 20 logit_bias repeated .kakeya.v1.TokenBias; \
21 stop_sequences repeated .kakeya.v1.TokenSequence; 22 top_logprobs optional uint32
message TokenBias: 1 token_id uint32; 2 bias float
message TokenSequence: 1 token_ids repeated uint32
message GenerateResponse: 1 token_id uint32 (payload); 2 done .kakeya.v1.GenerateDone (payload); \
3 truncated .kakeya.v1.HistoryTruncated (payload); 16 logprobs .kakeya.v1.TokenLogprobs
message TokenLogprobs: 1 logprob double; 2 top repeated .kakeya.v1.TokenLogprob
message TokenLogprob: 1 token_id uint32; 2 logprob double
message GenerateDone: 1 stop_reason .kakeya.v1.GenerateDone.StopReason; \
2 generated_token_count uint32; 3 prefill_duration_seconds double; 4 total_duration_seconds double
enum GenerateDone.StopReason: 0 STOP_REASON_UNSPECIFIED; 1 STOP_REASON_MAX_TOKENS; \
2 STOP_REASON_EOS; 3 STOP_REASON_CANCELLED; 4 STOP_REASON_TRUNCATED; \
16 STOP_REASON_STOP_SEQUENCE
message HistoryTruncated: 1 dropped_token_count uint64
message CloseSessionRequest: 1 session_id string
message CloseSessionResponse: 1 final_history_length uint64
message GetSessionInfoRequest: 1 session_id string
message GetSessionInfoResponse: 1 history_length uint64; 2 kv_live_bytes uint64; \
3 cache_invariant_inv1_violations uint64; 4 cache_invariant_inv2_violations uint64; \
5 idle_seconds double
rpc RuntimeService.CreateSession(.kakeya.v1.CreateSessionRequest) .kakeya.v1.CreateSessionResponse
rpc RuntimeService.AppendTokens(.kakeya.v1.AppendTokensRequest) .kakeya.v1.AppendTokensResponse
rpc RuntimeService.Generate(.kakeya.v1.GenerateRequest) stream .kakeya.v1.GenerateResponse
rpc RuntimeService.CloseSession(.kakeya.v1.CloseSessionRequest) .kakeya.v1.CloseSessionResponse
rpc RuntimeService.GetSessionInfo(.kakeya.v1.GetSessionInfoRequest) .kakeya.v1.GetSessionInfoResponse
";

const SESSIONS: &str = "\
package kakeya.v1
message ForkSessionRequest: 1 session_id string; 2 count optional uint32
message ForkSessionResponse: 1 session_ids repeated string
message SnapshotSessionRequest: 1 session_id string
message SnapshotChunk: 1 data bytes
message RestoreSessionResponse: 1 session_id string; 2 history_length uint64
message ListSessionsRequest:
message ListSessionsResponse: 1 sessions repeated .kakeya.v1.SessionSummary
message SessionSummary: 1 session_id string; 2 client_label string; 3 history_length uint64; \
4 kv_live_bytes uint64; 5 idle_seconds double; 6 busy bool
message GetStateDigestRequest: 1 session_id string
message GetStateDigestResponse: 1 history_length uint64; 2 history_sha256 string; \
3 kv_sha256 string; 4 state_sha256 string; 5 settings_sha256 string
rpc SessionService.ForkSession(.kakeya.v1.ForkSessionRequest) .kakeya.v1.ForkSessionResponse
rpc SessionService.SnapshotSession(.kakeya.v1.SnapshotSessionRequest) stream .kakeya.v1.SnapshotChunk
rpc SessionService.RestoreSession(stream .kakeya.v1.SnapshotChunk) .kakeya.v1.RestoreSessionResponse
rpc SessionService.ListSessions(.kakeya.v1.ListSessionsRequest) .kakeya.v1.ListSessionsResponse
rpc SessionService.GetStateDigest(.kakeya.v1.GetStateDigestRequest) .kakeya.v1.GetStateDigestResponse
";

fn files() -> [FileDescriptorProto; 2] {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    set.file.try_into().expect("two files")
}

fn field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let label = match field.label() {
        Label::Repeated => "repeated ",
        _ if field.proto3_optional() => "optional ",
        _ => "",
    };
    let type_name = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    };
    // An optional scalar sits in a oneof of its own, which is not part of the contract.
    let oneof = field
        .oneof_index
        .filter(|_| !field.proto3_optional())
        .map(|index| format!(" ({})", message.oneof_decl[index as usize].name()));
    let oneof = oneof.unwrap_or_default();
    format!(
        "{} {} {label}{type_name}{oneof}",
        field.number(),
        field.name()
    )
}

fn enum_line(message: &DescriptorProto, values: &EnumDescriptorProto) -> String {
    let listed: Vec<_> = values
        .value
        .iter()
        .map(|value| format!("{} {}", value.number(), value.name()))
        .collect();
    format!(
        "enum {}.{}: {}\n",
        message.name(),
        values.name(),
        listed.join("; ")
    )
}

fn describe(file: &FileDescriptorProto) -> String {
    let mut text = format!("package {}\n", file.package());
    for message in &file.message_type {
        let fields: Vec<_> = message.field.iter().map(|f| field(message, f)).collect();
        let fields = fields.join("; ");
        let line = format!("message {}: {fields}", message.name());
        text += &format!("{}\n", line.trim_end());
        text.extend(
            message
                .enum_type
                .iter()
                .map(|values| enum_line(message, values)),
        );
    }
    for service in &file.service {
        for method in &service.method {
            let stream = |streaming| if streaming { "stream " } else { "" };
            let (input, output) = (method.input_type(), method.output_type());
            text += &format!(
                "rpc {}.{}({}{input}) {}{output}\n",
                service.name(),
                method.name(),
                stream(method.client_streaming()),
                stream(method.server_streaming())
            );
        }
    }
    text
}

#[test]
fn the_contract_has_exactly_these_names_numbers_and_types() {
    for (file, (name, contract)) in files().iter().zip([
        ("kakeya/v1/runtime.proto", CONTRACT),
        ("kakeya/v1/session.proto", SESSIONS),
    ]) {
        assert_eq!(file.name(), name);
        assert_eq!(describe(file), contract);
        assert_eq!(file.enum_type.len(), 0);
    }
}

#[test]
fn the_generated_code_has_the_contracts_numbers_on_the_wire() {
    let done = GenerateDone {
        stop_reason: StopReason::Truncated.into(),
        generated_token_count: 300,
        prefill_duration_seconds: 0.0,
        total_duration_seconds: 0.0,
    };
    let response = GenerateResponse {
        payload: Some(Payload::Done(done)),
        logprobs: None,
    };
    // Field 2, a message of 5 bytes: field 1 is 4, field 2 is 300.
    assert_eq!(
        response.encode_to_vec(),
        [0x12, 5, 0x08, 4, 0x10, 0xac, 0x02]
    );
}

#[test]
fn the_services_answer_under_their_full_names() {
    let name = crate::v1::runtime_service_server::SERVICE_NAME;
    assert_eq!(name, "kakeya.v1.RuntimeService");
    let name = crate::v1::session_service_server::SERVICE_NAME;
    assert_eq!(name, "kakeya.v1.SessionService");
}
