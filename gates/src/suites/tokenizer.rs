//! Cases that hold the tokenizer to llama.cpp's ids for the same file.

use std::fs;

use kakeya_model::GgufFile;
use kakeya_model::tokenizer::{
    StreamDecoder, TokenKind, Tokenizer, TokenizerError, TokenizerParts,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

const GOLDEN: &str = "tokenizer-smollm2-135m.json";

/// The tokenizer's cases, all of the fast tier.
pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("tokenizer_ids_equal_llama_cpp", ids_equal_llama_cpp),
        Case::fast(
            "tokenizer_plain_ids_equal_llama_cpp",
            plain_ids_equal_llama_cpp,
        ),
        Case::fast(
            "tokenizer_other_pre_rules_equal_llama_cpp",
            other_pre_rules_equal_llama_cpp,
        ),
        Case::fast(
            "tokenizer_decoding_gives_the_text_back",
            decoding_gives_the_text_back,
        ),
        Case::fast(
            "tokenizer_streaming_equals_decoding_at_once",
            streaming_equals_decoding_at_once,
        ),
        Case::fast(
            "tokenizer_refuses_bytes_it_would_lose",
            refuses_bytes_it_would_lose,
        ),
        Case::fast(
            "tokenizer_knows_every_special_token",
            knows_every_special_token,
        ),
        Case::fast("tokenizer_follows_the_description", follows_the_description),
        Case::fast(
            "tokenizer_names_an_unknown_pre_rule",
            names_an_unknown_pre_rule,
        ),
        Case::fast(
            "tokenizer_refuses_ids_outside_the_vocabulary",
            refuses_ids_outside_the_vocabulary,
        ),
    ]
}

/// What `gates/reference/make_tokenizer_goldens.py` wrote.
#[derive(Deserialize)]
pub(super) struct Golden {
    pub(super) model_sha256: String,
    pub(super) vocabulary: usize,
    pub(super) bos_token_id: u32,
    pub(super) eos_token_id: u32,
    pub(super) adds_bos: bool,
    pub(super) cases: Vec<GoldenCase>,
    pub(super) dropped: Vec<DroppedByte>,
    pub(super) other_pre: std::collections::BTreeMap<String, Vec<GoldenIds>>,
}

#[derive(Deserialize)]
pub(super) struct GoldenCase {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
    pub(super) ids_plain: Vec<u32>,
}

#[derive(Deserialize)]
pub(super) struct GoldenIds {
    pub(super) name: String,
    pub(super) ids: Vec<u32>,
}

#[derive(Deserialize)]
pub(super) struct DroppedByte {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) byte: u8,
    pub(super) offset: usize,
    pub(super) llama_cpp_ids: Vec<u32>,
}

pub(super) fn golden<T: DeserializeOwned>(
    context: &SuiteContext,
    name: &str,
) -> Result<T, CaseFailure> {
    Ok(serde_json::from_str(&fs::read_to_string(
        context.goldens().join(name),
    )?)?)
}

/// The committed ids, the file's own description and the tokenizer built from it.
pub(super) fn load(
    context: &SuiteContext,
) -> Result<(Golden, TokenizerParts, Tokenizer), CaseFailure> {
    let golden: Golden = golden(context, GOLDEN)?;
    ensure_eq!(
        context.model_sha256(),
        golden.model_sha256,
        "the model that the golden ids belong to"
    );
    ensure!(!golden.cases.is_empty(), "the golden file has no case");
    let file = GgufFile::open(context.model_path())?;
    let parts = TokenizerParts::from_gguf(&file)?;
    Ok((golden, parts, Tokenizer::from_gguf(&file)?))
}

fn ids_equal_llama_cpp(context: &SuiteContext) -> CaseResult {
    let (golden, _, tokenizer) = load(context)?;
    for case in &golden.cases {
        ensure_eq!(
            tokenizer.encode(&case.text, true)?,
            case.ids,
            "ids of {}",
            case.name
        );
    }
    Ok(())
}

fn plain_ids_equal_llama_cpp(context: &SuiteContext) -> CaseResult {
    let (golden, _, tokenizer) = load(context)?;
    for case in &golden.cases {
        ensure_eq!(
            tokenizer.encode(&case.text, false)?,
            case.ids_plain,
            "plain ids of {}",
            case.name
        );
    }
    Ok(())
}

fn other_pre_rules_equal_llama_cpp(context: &SuiteContext) -> CaseResult {
    let (golden, parts, _) = load(context)?;
    ensure!(
        !golden.other_pre.is_empty(),
        "the golden file has no other pre rule"
    );
    for (pre, expected) in &golden.other_pre {
        let tokenizer = Tokenizer::from_parts(TokenizerParts {
            pre: pre.clone(),
            ..parts.clone()
        })?;
        ensure_eq!(expected.len(), golden.cases.len(), "texts under {pre}");
        for (case, expected) in golden.cases.iter().zip(expected) {
            ensure_eq!(case.name, expected.name, "order of the texts under {pre}");
            ensure_eq!(
                tokenizer.encode(&case.text, true)?,
                expected.ids,
                "ids of {} under {pre}",
                case.name
            );
        }
    }
    Ok(())
}

fn decoding_gives_the_text_back(context: &SuiteContext) -> CaseResult {
    let (golden, _, tokenizer) = load(context)?;
    for case in &golden.cases {
        for parse_special in [true, false] {
            let ids = tokenizer.encode(&case.text, parse_special)?;
            ensure_eq!(
                tokenizer.decode(&ids, false)?,
                case.text,
                "text of {}",
                case.name
            );
        }
        let plain = tokenizer.encode(&case.text, false)?;
        ensure_eq!(
            tokenizer.decode(&plain, true)?,
            case.text,
            "plain text of {}",
            case.name
        );
    }
    Ok(())
}

fn streaming_equals_decoding_at_once(context: &SuiteContext) -> CaseResult {
    let (golden, _, tokenizer) = load(context)?;
    golden
        .cases
        .iter()
        .try_for_each(|case| streams_as_decoded(&tokenizer, case))
}

/// Cuts a text after every token: what has been streamed is always a prefix in whole characters.
pub(super) fn streams_as_decoded(tokenizer: &Tokenizer, case: &GoldenCase) -> CaseResult {
    for skip_special in [false, true] {
        let mut stream = StreamDecoder::new(skip_special);
        let mut text = String::new();
        for &id in &case.ids {
            text.push_str(&stream.push(tokenizer, id)?);
            ensure!(
                !text.contains(char::REPLACEMENT_CHARACTER)
                    || case.text.contains(char::REPLACEMENT_CHARACTER),
                "{}: a character was split after {text:?}",
                case.name
            );
        }
        text.push_str(&stream.finish());
        ensure_eq!(
            text,
            tokenizer.decode(&case.ids, skip_special)?,
            "streamed text of {}",
            case.name
        );
    }
    Ok(())
}

/// llama.cpp drops such a byte without a word; the golden ids show that it did.
fn refuses_bytes_it_would_lose(context: &SuiteContext) -> CaseResult {
    let (golden, _, tokenizer) = load(context)?;
    ensure!(
        !golden.dropped.is_empty(),
        "the golden file has no dropped byte"
    );
    for case in &golden.dropped {
        let lossy = tokenizer.decode(&case.llama_cpp_ids, false)?;
        ensure!(
            lossy != case.text,
            "{}: llama.cpp kept the text after all",
            case.name
        );
        match tokenizer.encode(&case.text, true) {
            Err(TokenizerError::UnrepresentableByte { byte, offset }) => {
                ensure_eq!(
                    (byte, offset),
                    (case.byte, case.offset),
                    "byte refused in {}",
                    case.name
                );
            }
            other => return Err(CaseFailure::violated(format!("{}: {other:?}", case.name))),
        }
    }
    Ok(())
}

fn knows_every_special_token(context: &SuiteContext) -> CaseResult {
    let (golden, parts, tokenizer) = load(context)?;
    ensure_eq!(tokenizer.vocab_size(), golden.vocabulary, "vocabulary size");
    ensure_eq!(
        tokenizer.bos_token_id(),
        Some(golden.bos_token_id),
        "beginning of sequence"
    );
    ensure_eq!(
        tokenizer.eos_token_id(),
        Some(golden.eos_token_id),
        "end of sequence"
    );
    let mut special = 0;
    for (id, text) in (0_u32..).zip(&parts.tokens) {
        ensure_eq!(
            tokenizer.token_text(id),
            Some(text.as_str()),
            "text of token {id}"
        );
        if tokenizer.token_kind(id) == Some(TokenKind::Control) {
            special += 1;
            ensure_eq!(tokenizer.encode(text, true)?, [id], "ids of {text}");
            ensure_eq!(tokenizer.decode(&[id], false)?, *text, "text of {text}");
            ensure_eq!(
                tokenizer.decode(&[id], true)?,
                "",
                "text of {text} when it is skipped"
            );
            ensure!(
                !tokenizer.encode(text, false)?.contains(&id),
                "{text} was read as a control token in plain text"
            );
        }
    }
    ensure!(special > 0, "the vocabulary has no control token");
    Ok(())
}

/// The real vocabulary, with one thing in its description changed at a time.
fn follows_the_description(context: &SuiteContext) -> CaseResult {
    let (golden, parts, tokenizer) = load(context)?;
    let (bos, eos) = (golden.bos_token_id, golden.eos_token_id);
    let changed = |change: &dyn Fn(&mut TokenizerParts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        Tokenizer::from_parts(parts)
    };

    let text = &parts.tokens[eos as usize];
    let user_defined = changed(&|parts| parts.token_types[eos as usize] = 4)?;
    ensure_eq!(
        user_defined.encode(text, false)?,
        [eos],
        "a user-defined token in plain text"
    );

    ensure!(
        tokenizer.is_end_of_generation(eos),
        "the end of sequence does not end generation"
    );
    let word = tokenizer.encode(" word", false)?;
    ensure_eq!(word.len(), 1, "tokens of one common word");
    ensure!(
        !tokenizer.is_end_of_generation(word[0]),
        "a common word ends generation"
    );
    let renamed = changed(&|parts| parts.eot_token_id = Some(word[0]))?;
    ensure!(
        renamed.is_end_of_generation(word[0]),
        "the end of turn that the file names does not end generation"
    );

    let unmerged = changed(&|parts| parts.merges.clear())?;
    ensure_eq!(
        unmerged.encode(" word", false)?.len(),
        5,
        "tokens of a word without merges"
    );
    let whole = changed(&|parts| {
        parts.merges.clear();
        parts.pre = "llama-bpe".to_owned();
    })?;
    ensure_eq!(
        whole.encode(" word", false)?,
        word,
        "a word that is a token, under a rule that ignores merges"
    );

    // The rule decides only where the file says nothing.
    for (pre, asked, expected) in [
        ("smollm", None, false),
        ("smollm", Some(true), true),
        ("llama-bpe", None, true),
        ("llama-bpe", Some(false), false),
    ] {
        let asked = changed(&|parts| {
            parts.pre = pre.to_owned();
            parts.add_bos_token = asked;
        })?;
        let prompt = if expected {
            vec![bos, word[0]]
        } else {
            word.clone()
        };
        ensure_eq!(asked.adds_bos(), expected, "{pre}: adds a token first");
        ensure_eq!(
            asked.encode_prompt(" word", false)?,
            prompt,
            "{pre}: a prompt's ids"
        );
    }
    let headless = changed(&|parts| {
        parts.add_bos_token = Some(true);
        parts.bos_token_id = None;
    });
    ensure!(
        matches!(headless, Err(TokenizerError::MissingBos { .. })),
        "a first token that the file does not name was accepted"
    );
    ensure_eq!(
        tokenizer.adds_bos(),
        golden.adds_bos,
        "whether a prompt begins with a token of its own"
    );
    Ok(())
}

fn names_an_unknown_pre_rule(context: &SuiteContext) -> CaseResult {
    let (_, parts, _) = load(context)?;
    match Tokenizer::from_parts(TokenizerParts {
        pre: "no-such-rule".to_owned(),
        ..parts
    }) {
        Err(TokenizerError::Unsupported {
            key,
            found,
            supported,
        }) => {
            ensure_eq!(key, "tokenizer.ggml.pre", "key");
            ensure_eq!(found, "no-such-rule", "value found");
            ensure!(
                supported.split(", ").any(|name| name == "smollm"),
                "supported: {supported}"
            );
            Ok(())
        }
        other => Err(CaseFailure::violated(format!(
            "{:?}",
            other.map(|_| "a tokenizer")
        ))),
    }
}

fn refuses_ids_outside_the_vocabulary(context: &SuiteContext) -> CaseResult {
    let (_, _, tokenizer) = load(context)?;
    let outside = u32::try_from(tokenizer.vocab_size())?;
    for token in [outside, u32::MAX] {
        match tokenizer.decode(&[0, token], false) {
            Err(TokenizerError::OutsideVocabulary {
                index: 1,
                token: found,
                ..
            }) if found == token => {}
            other => return Err(CaseFailure::violated(format!("token {token}: {other:?}"))),
        }
        ensure!(
            !tokenizer.is_end_of_generation(token),
            "token {token} ends generation"
        );
    }
    Ok(())
}
