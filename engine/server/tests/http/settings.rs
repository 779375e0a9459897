//! The fields that chats and completions share: each has its default and its range in both.

use std::fmt::Debug;

use kakeya_server::http::ApiError;
use kakeya_server::http::ranges::{
    FREQUENCY_PENALTY, MIN_P, Numbers, PRESENCE_PENALTY, REPETITION_PENALTY, TEMPERATURE, TOP_P,
};
use kakeya_server::http::requests::{Delivery, SamplingSettings};
use serde_json::{Value, json};

use crate::support::{chat, completion, refusal};

/// A field's value, out of settings.
type Get = fn(&SamplingSettings) -> f32;

const NUMBERS: [(Numbers, Get); 6] = [
    (TEMPERATURE, |settings| settings.temperature),
    (TOP_P, |settings| settings.top_p),
    (MIN_P, |settings| settings.min_p),
    (PRESENCE_PENALTY, |settings| settings.presence_penalty),
    (FREQUENCY_PENALTY, |settings| settings.frequency_penalty),
    (REPETITION_PENALTY, |settings| settings.repetition_penalty),
];

/// What both kinds of request make of the same fields, which must be the same.
fn same<T: PartialEq + Debug>(
    of_chat: Result<T, ApiError>,
    of_completion: Result<T, ApiError>,
) -> Result<T, ApiError> {
    match (&of_chat, &of_completion) {
        (Err(chat), Err(completion)) => assert_eq!(chat.param, completion.param),
        _ => assert_eq!(of_chat, of_completion),
    }
    of_chat
}

fn settings(fields: Value) -> Result<SamplingSettings, ApiError> {
    same(
        chat(fields.clone()).map(|request| request.sampling),
        completion(fields).map(|request| request.sampling),
    )
}

fn stops(fields: Value) -> Result<Vec<String>, ApiError> {
    same(
        chat(fields.clone()).map(|request| request.stop),
        completion(fields).map(|request| request.stop),
    )
}

fn delivery(fields: Value) -> Result<Delivery, ApiError> {
    same(
        chat(fields.clone()).map(|request| request.delivery),
        completion(fields).map(|request| request.delivery),
    )
}

#[test]
fn what_is_not_said_is_as_openai_has_it_and_null_says_nothing() {
    let default = SamplingSettings::default();
    assert_eq!((default.temperature, default.top_p), (1.0, 1.0));
    assert_eq!(settings(json!({})), Ok(default.clone()));
    let nulls = json!({
        "temperature": null, "top_p": null, "top_k": null, "min_p": null, "seed": null,
        "presence_penalty": null, "frequency_penalty": null, "repetition_penalty": null,
        "logit_bias": null, "stop": null, "stream": null, "stream_options": null, "n": null,
        "max_tokens": null, "user": "me", "metadata": {"a": 1}, "store": true,
    });
    assert_eq!(settings(nulls.clone()), Ok(default));
    assert_eq!(stops(nulls.clone()), Ok(vec![]));
    assert_eq!(delivery(nulls), Ok(Delivery::Whole));
}

#[test]
fn a_number_is_taken_at_both_ends_of_its_range_and_refused_beyond() {
    for (range, get) in NUMBERS {
        let Numbers {
            name,
            least,
            above,
            most,
        } = range;
        let least_taken = if above { f32::from_bits(1) } else { least };
        for value in [least_taken, (least + most) / 2.0, most] {
            let taken = settings(json!({ name: value })).expect("in range");
            assert_eq!(get(&taken), value, "{name}");
        }
        let under = if above { least } else { least - 0.001 };
        for value in [under, -1e30, most + 0.001, f32::MAX] {
            let (param, message) = refusal(settings(json!({ name: value })));
            assert_eq!(param, name);
            let end = format!("{most}");
            assert!(message.starts_with(&format!("`{name}` is ")), "{message}");
            assert!(message.ends_with(&end), "{message}");
        }
    }
}

#[test]
fn a_refused_number_is_repeated_with_what_would_be_taken() {
    for (fields, expected) in [
        (
            json!({"temperature": 2.5}),
            "`temperature` is 2.5, and must be a number from 0 to 2",
        ),
        (
            json!({"top_p": 0}),
            "`top_p` is 0, and must be a number above 0 and at most 1",
        ),
        (
            json!({"top_k": 1.5}),
            "`top_k` is 1.5, and must be an integer from -1 to 4294967295",
        ),
    ] {
        assert_eq!(refusal(settings(fields)).1, expected);
    }
}

#[test]
fn a_number_above_0_is_above_0_in_the_engines_precision() {
    for given in [1e-40, 1e-60, f64::from_bits(1)] {
        let small = settings(json!({ "top_p": given })).expect("in range").top_p;
        assert!(small > 0.0, "{given:e} became {small:e}");
    }
    for given in [0.0, -0.0, -1e-60] {
        let (refused, _) = refusal(settings(json!({ "top_p": given })));
        assert_eq!(refused, "top_p", "{given:e}");
    }
}

#[test]
fn what_is_no_number_is_refused_by_name() {
    for name in [
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "presence_penalty",
        "n",
    ] {
        for wrong in [json!("1"), json!([1]), json!({}), json!(true)] {
            let (param, message) = refusal(settings(json!({ name: wrong })));
            assert_eq!(param, name);
            assert!(message.contains("expected a JSON number"), "{message}");
        }
    }
}

#[test]
fn top_k_is_off_at_0_and_at_minus_1() {
    for (given, taken) in [
        (json!(-1), 0),
        (json!(0), 0),
        (json!(1), 1),
        (json!(40.0), 40),
        (json!(u32::MAX), u32::MAX),
    ] {
        assert_eq!(
            settings(json!({ "top_k": given })).expect("in range").top_k,
            taken
        );
    }
    for wrong in [json!(-2), json!(0.5), json!(1_u64 << 32), json!(-1e300)] {
        assert_eq!(refusal(settings(json!({ "top_k": wrong }))).0, "top_k");
    }
}

#[test]
fn a_seed_is_the_bits_of_any_signed_integer() {
    for (given, bits) in [
        (json!(0), 0),
        (json!(7.0), 7),
        (json!(-1), u64::MAX),
        (json!(i64::MAX), i64::MAX as u64),
        (json!(i64::MIN), 1 << 63),
        (json!(-9_223_372_036_854_775_808.0), 1 << 63),
    ] {
        assert_eq!(
            settings(json!({ "seed": given })).expect("in range").seed,
            Some(bits)
        );
    }
    for wrong in [
        json!(1_u64 << 63),
        json!(9_223_372_036_854_775_808.0),
        json!(0.5),
    ] {
        assert_eq!(refusal(settings(json!({ "seed": wrong }))).0, "seed");
    }
}

#[test]
fn a_logit_bias_is_for_a_token_id_and_within_its_range() {
    let given = json!({ "logit_bias": { "50256": -100, "7": 0.5, "10": 100 } });
    let biases: Vec<_> = settings(given)
        .expect("in range")
        .logit_bias
        .into_iter()
        .collect();
    assert_eq!(biases, [(7, 0.5), (10, 100.0), (50_256, -100.0)]);
    for key in [
        "",
        "a",
        "-1",
        "+1",
        "01",
        "1.0",
        " 1",
        "4294967296",
        &"9".repeat(1000),
    ] {
        let (param, message) = refusal(settings(json!({ "logit_bias": { key: 1 } })));
        assert_eq!(param, "logit_bias");
        assert!(
            message.contains("must be a token id") && message.len() < 150,
            "{message}"
        );
    }
    let (param, message) = refusal(settings(json!({ "logit_bias": { "7": 100.5 } })));
    assert_eq!(param, "logit_bias.7");
    assert!(
        message.ends_with("is 100.5, and must be a number from -100 to 100"),
        "{message}"
    );
    assert_eq!(
        refusal(settings(json!({ "logit_bias": { "7": "1" } }))).0,
        "logit_bias.7"
    );
    assert_eq!(
        refusal(settings(json!({ "logit_bias": [1] }))).0,
        "logit_bias"
    );
}

#[test]
fn stops_are_one_text_or_a_list_of_sixteen_and_none_is_empty() {
    let many: Vec<_> = (0..16).map(|index| format!("stop {index}")).collect();
    assert_eq!(stops(json!({ "stop": "\n" })), Ok(vec!["\n".to_owned()]));
    assert_eq!(stops(json!({ "stop": [] })), Ok(vec![]));
    assert_eq!(stops(json!({ "stop": many })), Ok(many.clone()));
    let over: Vec<_> = many.into_iter().chain(["one more".into()]).collect();
    for (given, param, part) in [
        (
            json!(over),
            "stop",
            "`stop` has 17 strings, and may have 16",
        ),
        (json!(""), "stop", "`stop` is empty"),
        (json!(["a", ""]), "stop[1]", "`stop[1]` is empty"),
        (json!(["a", 5]), "stop[1]", "expected a string"),
        (json!(5), "stop", "expected a string or an array"),
        (json!({"a": 1}), "stop", "invalid type: map"),
    ] {
        let (named, message) = refusal(stops(json!({ "stop": given })));
        assert_eq!(named, param, "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn usage_comes_with_a_stream_only_when_asked_for() {
    let stream = |include_usage| Ok(Delivery::Stream { include_usage });
    for (fields, expected) in [
        (json!({"stream": false}), Ok(Delivery::Whole)),
        (json!({"stream": true}), stream(false)),
        (json!({"stream": true, "stream_options": {}}), stream(false)),
        (
            json!({"stream": true, "stream_options": {"include_usage": false}}),
            stream(false),
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": true}}),
            stream(true),
        ),
    ] {
        assert_eq!(delivery(fields), expected);
    }
    for (fields, param) in [
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            json!({"stream": false, "stream_options": {}}),
            "stream_options",
        ),
        (
            json!({"stream": true, "stream_options": [true]}),
            "stream_options",
        ),
        (json!({"stream": "yes"}), "stream"),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
        ),
    ] {
        assert_eq!(refusal(delivery(fields)).0, param);
    }
}
