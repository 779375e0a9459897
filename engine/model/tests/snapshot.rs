//! Snapshot folders whose tokenizer must be refused, each with its reason, and some that are refused only with a text.
//! What becomes of a text is compared in the gates, on a real vocabulary.

use std::fs::{self, File};
use std::path::Path;

use kakeya_model::tokenizer::{Tokenizer, TokenizerError};
use serde_json::{Value, json};

/// The least that the library reads as a byte-level tokenizer.
fn smallest() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 2, "content": "<|im_end|>", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
    })
}

fn refused(fill: impl FnOnce(&Path)) -> (TokenizerError, String) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let error = Tokenizer::from_snapshot(folder.path()).unwrap_err();
    let text = error.to_string();
    let prefix = format!("{}/", folder.path().display());
    let message = text.strip_prefix(&prefix).unwrap_or(&text).to_owned();
    let TokenizerError::InFile { source, .. } = error else {
        panic!("{text}");
    };
    (*source, message)
}

fn refused_bytes(bytes: &[u8]) -> (TokenizerError, String) {
    refused(|folder| fs::write(folder.join("tokenizer.json"), bytes).unwrap())
}

fn refused_change(change: impl FnOnce(&mut Value)) -> String {
    let mut description = smallest();
    change(&mut description);
    refused_bytes(description.to_string().as_bytes()).1
}

/// Beside a `tokenizer.json` that would do.
fn refused_beside(name: &str, content: &str) -> String {
    refused(|folder| {
        fs::write(folder.join("tokenizer.json"), smallest().to_string()).unwrap();
        fs::write(folder.join(name), content).unwrap();
    })
    .1
}

#[test]
fn a_missing_file_and_a_folder_in_its_place_are_named() {
    let (error, message) = refused(|_| {});
    assert!(matches!(error, TokenizerError::Read(_)), "{message}");
    assert!(
        message.starts_with("tokenizer.json: it cannot be read: "),
        "{message}"
    );
    let (error, message) = refused(|folder| fs::create_dir(folder.join("tokenizer.json")).unwrap());
    assert!(matches!(error, TokenizerError::Read(_)), "{message}");
}

#[test]
fn a_file_that_is_no_json_or_breaks_off_says_where() {
    let whole = smallest().to_string();
    let (_, message) = refused_bytes(&whole.as_bytes()[..whole.len() / 2]);
    assert!(
        message.starts_with("tokenizer.json: it breaks off: EOF"),
        "{message}"
    );
    for bytes in [&b"GGUF\x03\0\0\0"[..], b"{\"a\": \xff\xfe}"] {
        let (error, message) = refused_bytes(bytes);
        assert!(matches!(error, TokenizerError::Json { .. }), "{message}");
        assert!(
            message.contains("it is not JSON") && message.contains("line 1"),
            "{message}"
        );
    }
}

#[test]
fn a_file_that_breaks_off_anywhere_is_refused() {
    let whole = smallest().to_string();
    for end in (0..whole.len()).step_by(7) {
        let (error, message) = refused_bytes(&whole.as_bytes()[..end]);
        assert!(
            matches!(error, TokenizerError::Json { .. }),
            "{end}: {message}"
        );
    }
}

/// The library panics on the first of these.
#[test]
fn a_part_that_contradicts_itself_is_refused() {
    for (part, value) in [
        ("decoder", json!({"type": "Sequence"})),
        ("decoder", json!({"type": "Strip", "content": " "})),
        ("normalizer", json!({"type": "Replace", "pattern": 1})),
        (
            "normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ),
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
        ),
        ("added_tokens", json!([{"id": 2}])),
        (
            "model",
            json!({"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}),
        ),
        (
            "model",
            json!({"type": "Unigram", "vocab": [], "unk_id": 7}),
        ),
    ] {
        let (error, message) = {
            let mut description = smallest();
            description[part] = value.clone();
            refused_bytes(description.to_string().as_bytes())
        };
        assert!(
            matches!(error, TokenizerError::Description(_)),
            "{part} {value}: {message}"
        );
    }
}

#[test]
fn a_file_nested_too_deeply_is_refused_and_the_stack_holds() {
    let (open, close) = ("[".repeat(4 << 20), "]".repeat(4 << 20));
    let (error, _) = refused_bytes(open.as_bytes());
    assert!(matches!(error, TokenizerError::Json { .. }), "{error}");
    let (error, message) = refused_bytes([open, close].concat().as_bytes());
    assert!(matches!(error, TokenizerError::Json { .. }), "{message}");
    assert!(message.contains("recursion limit"), "{message}");
}

#[test]
fn a_file_larger_than_any_tokenizer_is_not_read() {
    let (error, message) = refused(|folder| {
        let file = File::create(folder.join("tokenizer.json")).unwrap();
        file.set_len(1 << 40).unwrap();
    });
    assert!(
        matches!(error, TokenizerError::TooLarge { .. }),
        "{message}"
    );
    assert!(message.contains("more than 67108864 bytes"), "{message}");
}

#[test]
fn a_description_that_the_library_does_not_know_is_refused() {
    for json in ["{}", "[]", "null", "{\"model\": {\"type\": \"Magic\"}}"] {
        let (error, message) = refused_bytes(json.as_bytes());
        assert!(
            matches!(error, TokenizerError::Description(_)),
            "{json}: {message}"
        );
    }
}

#[test]
fn a_model_or_a_decoder_that_is_not_supported_is_named_with_what_is() {
    let message = refused_change(|description| {
        description["model"] = json!({"type": "WordPiece", "vocab": {"a": 0, "b": 1}, "unk_token": "a",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
    });
    assert_eq!(
        message,
        "tokenizer.json: model.type is \"WordPiece\", which is not supported; supported: BPE, Unigram"
    );
    let message = refused_change(|description| description["decoder"] = Value::Null);
    assert!(
        message.contains("decoder is \"missing\", which is not supported"),
        "{message}"
    );
}

#[test]
fn ids_far_apart_or_shared_are_refused() {
    let message =
        refused_change(|description| description["model"]["vocab"]["b"] = json!(4_000_000_000_u32));
    assert!(
        message.contains("3 tokens and ids up to 4000000001"),
        "{message}"
    );
    let message = refused_change(|description| description["model"]["vocab"]["b"] = json!(0));
    assert!(
        message.contains("id 0 belongs to \"a\" and to \"b\""),
        "{message}"
    );
}

#[test]
fn what_stands_beside_it_is_checked_too() {
    for (name, content, expected) in [
        (
            "tokenizer_config.json",
            "{\"eos_token\": 3}",
            "eos_token is 3, expected a text",
        ),
        (
            "tokenizer_config.json",
            "{\"add_bos_token\": \"no\"}",
            "expected true or false",
        ),
        (
            "tokenizer_config.json",
            "{\"chat_template\": [{\"name\": 1}]}",
            "a list of names and templates",
        ),
        ("tokenizer_config.json", "{", "it breaks off"),
        (
            "generation_config.json",
            "{\"eos_token_id\": -1}",
            "eos_token_id is -1, expected a token id",
        ),
        (
            "generation_config.json",
            "{\"eos_token_id\": [0, 3]}",
            "is 3, but the vocabulary has 3 tokens",
        ),
        (
            "tokenizer_config.json",
            "{\"add_bos_token\": true}",
            "bos_token of tokenizer_config.json is missing",
        ),
    ] {
        let message = refused_beside(name, content);
        assert!(message.contains(expected), "{content}: {message}");
    }
}

/// What begins and ends a text, as a file may have it.
fn template(mark: &str) -> Value {
    json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": mark, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_end|>": {"id": "<|im_end|>", "ids": [2], "tokens": ["<|im_end|>"]}},
    })
}

/// The library looks the mark up without asking whether it is there.
#[test]
fn a_template_of_marks_that_it_does_not_list_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut description = smallest();
    description["post_processor"] = template("<|no_mark|>");
    fs::write(
        folder.path().join("tokenizer.json"),
        description.to_string(),
    )
    .unwrap();
    let config = json!({"bos_token": "<|im_end|>"}).to_string();
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    let error = Tokenizer::from_snapshot(folder.path()).unwrap_err();
    let TokenizerError::InFile { source, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(*source, TokenizerError::Library(_)), "{source}");
}

/// What a file says of filling texts up and cutting them off is for training, and could ask for any memory.
#[test]
fn padding_and_truncation_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut description = smallest();
    description["post_processor"] = template("<|im_end|>");
    description["padding"] = json!({
        "strategy": {"Fixed": 1_u64 << 62}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "a",
    });
    description["truncation"] = json!({
        "direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0,
    });
    fs::write(
        folder.path().join("tokenizer.json"),
        description.to_string(),
    )
    .unwrap();
    let config = json!({"bos_token": "<|im_end|>"}).to_string();
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Tokenizer::from_snapshot(folder.path()).unwrap();
    assert_eq!(tokenizer.encode_prompt("ab", true).unwrap(), [2, 0, 1]);
}

/// The library believes what it has read: it takes the words of no characters that the first asks for, and looks
/// beyond the end of the table that the second has.
#[test]
fn a_part_that_fails_only_with_a_text_is_an_error_then() {
    for (part, value) in [
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        (
            "normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut description = smallest();
        description[part] = value;
        fs::write(
            folder.path().join("tokenizer.json"),
            description.to_string(),
        )
        .unwrap();
        let tokenizer = Tokenizer::from_snapshot(folder.path()).unwrap();
        let error = tokenizer.encode("ab", true).unwrap_err();
        assert!(
            matches!(error, TokenizerError::Library(_)),
            "{part}: {error}"
        );
    }
}
