//! What a completion request asks for, and what it may not.

use kakeya_server::http::ranges::MAX_PROMPTS;
use kakeya_server::http::requests::{CompletionRequest, Delivery, Prompt, SamplingSettings};
use serde_json::{Value, json};

use crate::support::{assert_refused, completion};

fn text(text: &str) -> Prompt {
    Prompt::Text(text.into())
}

#[test]
fn the_least_request_has_openais_defaults() {
    let expected = CompletionRequest {
        model: "m".into(),
        prompts: vec![text("once")],
        max_tokens: 16,
        stop: vec![],
        sampling: SamplingSettings::default(),
        logprobs: None,
        n: 1,
        echo: false,
        delivery: Delivery::Whole,
    };
    assert_eq!(completion(json!({})), Ok(expected.clone()));
    let unused = json!({"suffix": "", "best_of": null, "echo": null, "user": "me"});
    assert_eq!(completion(unused), Ok(expected));
}

#[test]
fn a_prompt_is_a_text_or_tokens_or_a_list_of_either() {
    let prompts = |given: Value| completion(json!({ "prompt": given })).map(|read| read.prompts);
    let most: Vec<_> = (0..MAX_PROMPTS).map(|index| index.to_string()).collect();
    let all: Vec<_> = most.iter().map(|prompt| text(prompt)).collect();
    for (given, expected) in [
        (json!(""), vec![text("")]),
        (json!(["a", "", "b"]), vec![text("a"), text(""), text("b")]),
        (
            json!([1, 2.0, u32::MAX]),
            vec![Prompt::Tokens(vec![1, 2, u32::MAX])],
        ),
        (
            json!([[1], [2, 3]]),
            vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])],
        ),
        (json!(["a", [1]]), vec![text("a"), Prompt::Tokens(vec![1])]),
        (
            json!(vec![7; 100_000]),
            vec![Prompt::Tokens(vec![7; 100_000])],
        ),
        (json!(most), all),
    ] {
        assert_eq!(prompts(given), Ok(expected));
    }
}

#[test]
fn a_prompt_that_is_none_is_refused_by_its_element() {
    let prompts = |given: Value| completion(json!({ "prompt": given }));
    let id = "must be an integer from 0 to 4294967295";
    assert_refused(
        prompts,
        &[
            (json!(null), "prompt", "`prompt` is required"),
            (json!([]), "prompt", "must have an element or more"),
            (json!(5), "prompt", "expected a string or an array"),
            (json!({}), "prompt", "invalid type: map"),
            (
                json!([null]),
                "prompt[0]",
                "expected a string, a token id or an array",
            ),
            (json!([1, -2]), "prompt[1]", id),
            (json!([1, 2.5]), "prompt[1]", id),
            (json!([1_u64 << 32]), "prompt[0]", id),
            (json!([[1], [2, -3]]), "prompt[1][1]", id),
            (json!([[1], []]), "prompt[1]", "must have a token or more"),
            (json!([[1, "a"]]), "prompt[0][1]", "expected a JSON number"),
            (json!([1, "a"]), "prompt[1]", "mixes token ids with prompts"),
            (json!([1, [2]]), "prompt[1]", "mixes token ids with prompts"),
            (json!(["a", 1]), "prompt[1]", "mixes token ids with prompts"),
            (
                json!(vec!["a"; MAX_PROMPTS + 1]),
                "prompt",
                "has 129 prompts, and may have 128",
            ),
        ],
    );
    assert_refused(
        completion,
        &[(json!({"model": null}), "model", "`model` is required")],
    );
}

#[test]
fn no_tokens_are_asked_for_only_to_echo_the_prompt() {
    let most = |fields: Value| completion(fields).map(|read| (read.echo, read.max_tokens));
    assert_eq!(most(json!({"max_tokens": 1})), Ok((false, 1)));
    assert_eq!(most(json!({"max_tokens": 0, "echo": true})), Ok((true, 0)));
    assert_eq!(most(json!({"echo": true})), Ok((true, 16)));
    assert_refused(
        completion,
        &[
            (json!({"max_tokens": 0}), "max_tokens", "from 1 to"),
            (
                json!({"max_tokens": -1, "echo": true}),
                "max_tokens",
                "from 0 to",
            ),
        ],
    );
}

#[test]
fn alternatives_are_a_number_of_up_to_twenty() {
    for logprobs in [0, 5, 20] {
        let read = completion(json!({ "logprobs": logprobs })).map(|read| read.logprobs);
        assert_eq!(read, Ok(Some(logprobs)));
    }
    assert_refused(
        completion,
        &[
            (json!({"logprobs": 21}), "logprobs", "from 0 to 20"),
            (
                json!({"logprobs": true}),
                "logprobs",
                "expected a JSON number",
            ),
        ],
    );
}

#[test]
fn every_answer_that_is_generated_is_sent() {
    for fields in [json!({"n": 3, "best_of": 3}), json!({"n": 3})] {
        assert_eq!(completion(fields).map(|read| read.n), Ok(3));
    }
    assert_refused(
        completion,
        &[
            (json!({"n": 2, "best_of": 3}), "best_of", "is not supported"),
            (json!({"n": 3, "best_of": 2}), "best_of", "is not supported"),
            (json!({"best_of": 17}), "best_of", "from 1 to 16"),
            (json!({"n": 17}), "n", "from 1 to 16"),
            (json!({"suffix": " end"}), "suffix", "is not supported"),
        ],
    );
}
