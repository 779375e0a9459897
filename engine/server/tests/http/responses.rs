//! Answers, byte for byte as they are sent.

use kakeya_server::http::responses::chat::{Call, CallDelta, Reply};
use kakeya_server::http::responses::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatLogprobs, CompletionChoice,
    CompletionLogprobs, Delta, Detokenized, FinishReason, Head, Model, ModelList, TextCompletion,
    TokenLogprob, Tokenized, Usage,
};
use serde::Serialize;

fn head() -> Head {
    Head {
        id: "id-1".into(),
        created: 1_700_000_000,
        model: "m".into(),
        system_fingerprint: None,
    }
}

#[track_caller]
fn assert_sent(body: &impl Serialize, expected: &[&str]) {
    assert_eq!(
        serde_json::to_string(body).expect("JSON"),
        expected.concat()
    );
}

fn token(text: &str, logprob: f32) -> TokenLogprob {
    TokenLogprob::new(text.into(), logprob)
}

#[test]
fn a_chat_is_answered_in_one_piece() {
    let choice = ChatChoice {
        index: 0,
        message: Reply::text("hello"),
        logprobs: None,
        finish_reason: FinishReason::Stop,
    };
    let head = Head {
        system_fingerprint: Some("fp-1".into()),
        ..head()
    };
    assert_sent(
        &ChatCompletion::new(head, vec![choice], Usage::new(9, 4, 2)),
        &[
            r#"{"id":"id-1","object":"chat.completion","created":1700000000,"model":"m","#,
            r#""choices":[{"index":0,"message":{"role":"assistant","content":"hello","refusal":null},"#,
            r#""logprobs":null,"finish_reason":"stop"}],"#,
            r#""usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"#,
            r#""prompt_tokens_details":{"cached_tokens":4}},"system_fingerprint":"fp-1"}"#,
        ],
    );
}

#[test]
fn calls_of_functions_are_told_with_or_without_a_text() {
    let call = || Call::new("call_1".into(), "look".into(), r#"{"at":1}"#.into());
    let called = concat!(
        r#""tool_calls":[{"id":"call_1","type":"function","#,
        r#""function":{"name":"look","arguments":"{\"at\":1}"}}]}"#,
    );
    assert_sent(
        &Reply::calls(None, vec![call()]),
        &[
            r#"{"role":"assistant","content":null,"refusal":null,"#,
            called,
        ],
    );
    assert_sent(
        &Reply::calls(Some("so:".into()), vec![call()]),
        &[
            r#"{"role":"assistant","content":"so:","refusal":null,"#,
            called,
        ],
    );
    assert_sent(
        &Delta::calls(vec![
            CallDelta::begin(0, call()),
            CallDelta::arguments(1, "{".into()),
        ]),
        &[
            r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","#,
            r#""function":{"name":"look","arguments":"{\"at\":1}"}},"#,
            r#"{"index":1,"function":{"arguments":"{"}}]}"#,
        ],
    );
}

fn chunk(delta: Delta, finish_reason: Option<FinishReason>) -> Vec<ChatChunkChoice> {
    vec![ChatChunkChoice {
        index: 1,
        delta,
        logprobs: None,
        finish_reason,
    }]
}

#[test]
fn a_chat_is_answered_in_chunks() {
    const HEAD: &str = concat!(
        r#"{"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"m","#,
        r#""system_fingerprint":null,"choices":["#,
    );
    for (choices, expected) in [
        (
            chunk(Delta::begin(), None),
            r#"{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}"#,
        ),
        (
            chunk(Delta::begin_without_text(), None),
            r#"{"index":1,"delta":{"role":"assistant"},"logprobs":null,"finish_reason":null}"#,
        ),
        (
            chunk(Delta::text("hi"), None),
            r#"{"index":1,"delta":{"content":"hi"},"logprobs":null,"finish_reason":null}"#,
        ),
        (
            chunk(Delta::default(), Some(FinishReason::Length)),
            r#"{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}"#,
        ),
    ] {
        assert_sent(
            &ChatChunk::new(head(), choices.clone(), None),
            &[HEAD, expected, "]}"],
        );
        let null = [HEAD, expected, r#"],"usage":null}"#];
        assert_sent(&ChatChunk::new(head(), choices, Some(None)), &null);
    }
    assert_sent(
        &ChatChunk::new(head(), vec![], Some(Some(Usage::new(1, 0, 2)))),
        &[
            HEAD,
            r#"],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"#,
            r#""prompt_tokens_details":{"cached_tokens":0}}}"#,
        ],
    );
}

#[test]
fn a_completion_has_one_form_for_the_whole_and_for_a_chunk() {
    const HEAD: &str =
        r#"{"id":"id-1","object":"text_completion","created":1700000000,"model":"m","#;
    let choice = |finish_reason| {
        vec![CompletionChoice {
            text: "upon".into(),
            index: 0,
            logprobs: None,
            finish_reason,
        }]
    };
    assert_sent(
        &TextCompletion::new(
            head(),
            choice(Some(FinishReason::ToolCalls)),
            Usage::new(1, 0, 1),
        ),
        &[
            HEAD,
            r#""choices":[{"text":"upon","index":0,"logprobs":null,"finish_reason":"tool_calls"}],"#,
            r#""usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"#,
            r#""prompt_tokens_details":{"cached_tokens":0}},"system_fingerprint":null}"#,
        ],
    );
    for (usage, sent) in [(None, ""), (Some(None), r#""usage":null,"#)] {
        assert_sent(
            &TextCompletion::chunk(head(), choice(None), usage),
            &[
                HEAD,
                r#""choices":[{"text":"upon","index":0,"logprobs":null,"finish_reason":null}],"#,
                sent,
                r#""system_fingerprint":null}"#,
            ],
        );
    }
}

#[test]
fn a_chat_tells_each_token_its_bytes_and_its_alternatives() {
    let mut logprobs = ChatLogprobs::default();
    logprobs.push(
        token("\u{e9}", -0.1),
        vec![token("\u{e9}", -0.1), token("e", -2.5)],
    );
    logprobs.push(
        TokenLogprob::new(vec![0xf0, 0x9f], f32::NEG_INFINITY),
        vec![],
    );
    assert_sent(
        &logprobs,
        &[
            "{\"content\":[{\"token\":\"\u{e9}\",\"logprob\":-0.1,\"bytes\":[195,169],",
            "\"top_logprobs\":[{\"token\":\"\u{e9}\",\"logprob\":-0.1,\"bytes\":[195,169]},",
            r#"{"token":"e","logprob":-2.5,"bytes":[101]}]},"#,
            r#"{"token":"\\xf0\\x9f","logprob":-9999.0,"bytes":[240,159],"top_logprobs":[]}],"#,
            r#""refusal":null}"#,
        ],
    );
}

#[test]
fn a_completion_tells_tokens_in_columns_and_the_first_of_a_prompt_has_no_probability() {
    let mut logprobs = CompletionLogprobs::default();
    logprobs.push_first(b"Once");
    let part = TokenLogprob::new(vec![0x9f], -3.0);
    logprobs.push(
        token(" upon", -0.5),
        vec![token(" upon", -0.5), part.clone()],
        4,
    );
    logprobs.push(part, vec![], 9);
    assert_sent(
        &logprobs,
        &[
            r#"{"tokens":["Once"," upon","bytes:\\x9f"],"token_logprobs":[null,-0.5,-3.0],"#,
            r#""top_logprobs":[null,{" upon":-0.5,"bytes:\\x9f":-3.0},{}],"text_offset":[0,4,9]}"#,
        ],
    );
}

#[test]
fn models_and_tokens_are_listed() {
    assert_sent(
        &ModelList::new(vec![Model::new("m", 7, 8192, vec![2])]),
        &[
            r#"{"object":"list","data":["#,
            r#"{"id":"m","object":"model","created":7,"owned_by":"kakeya","max_model_len":8192,"eos_token_ids":[2]}]}"#,
        ],
    );
    assert_sent(
        &Tokenized::new(vec![5, 6], None, 8192),
        &[r#"{"count":2,"max_model_len":8192,"tokens":[5,6],"token_strs":null}"#],
    );
    assert_sent(
        &Tokenized::new(vec![5], Some(vec!["a".into()]), 8192),
        &[r#"{"count":1,"max_model_len":8192,"tokens":[5],"token_strs":["a"]}"#],
    );
    assert_sent(&Detokenized { prompt: "a".into() }, &[r#"{"prompt":"a"}"#]);
}
