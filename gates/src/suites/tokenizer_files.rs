//! Cases of the other places and families that a tokenizer comes from: a `tokenizer.json`, and SentencePiece.

use std::fs;
use std::path::Path;

use kakeya_model::GgufFile;
use kakeya_model::catalogue::{CacheSettings, Catalogue, Resolver, TerminalProgress};
use kakeya_model::tokenizer::{TokenKind, Tokenizer, TokenizerError, TokenizerParts};
use serde_json::{Value, json};

use super::tokenizer::{Golden, golden, load, streams_as_decoded};
use crate::context::SuiteContext;
use crate::suite::Case;
use crate::{ensure, ensure_eq};
use kakeya_suite::{CaseFailure, CaseResult};

/// The catalogue's SentencePiece model.
const SENTENCE_PIECE: &str = "gemma3-270m";
const SENTENCE_PIECE_GOLDEN: &str = "tokenizer-gemma3-270m.json";

/// Fast ones from the default model; the full one needs a model of another family, and fetches it.
pub fn cases() -> Vec<Case> {
    vec![
        Case::fast("tokenizer_json_ids_equal_llama_cpp", json_equals_llama_cpp),
        Case::fast(
            "tokenizer_json_follows_what_stands_beside_it",
            json_follows_its_neighbours,
        ),
        Case::fast(
            "tokenizer_vocabulary_is_checked_against_the_embedding",
            vocabulary_is_checked,
        ),
        Case::full(
            "tokenizer_sentence_piece_ids_equal_llama_cpp",
            sentence_piece_equals_llama_cpp,
        ),
    ]
}

/// How the models' own `tokenizer.json` files cut words, under the names that GGUF has for it.
fn pre_tokenizer(pre: &str) -> Result<Value, CaseFailure> {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let split = |pattern: &str| {
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    };
    match pre {
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            Ok(json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]}))
        }
        "gpt-2" => Ok(byte_level(true)),
        "qwen2" => Ok(split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        )),
        "llama-bpe" => Ok(split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        )),
        _ => Err(CaseFailure::violated(format!("no pre-tokenizer for {pre}"))),
    }
}

/// Writes a GGUF file's vocabulary beside a checkpoint that has none.
pub fn lend(folder: &Path, file: &GgufFile) -> CaseResult {
    let parts = TokenizerParts::from_gguf(file)?;
    let pre = parts.pre.clone();
    write_json(folder, &parts, &pre)
}

/// Writes the real vocabulary down as the other format has it.
fn write_json(folder: &Path, parts: &TokenizerParts, pre: &str) -> CaseResult {
    let numbered = || (0_u32..).zip(&parts.tokens);
    let vocabulary: serde_json::Map<String, Value> = numbered()
        .map(|(id, text)| (text.clone(), json!(id)))
        .collect();
    let added: Vec<Value> = numbered()
        .zip(&parts.token_types)
        .filter(|(_, kind)| **kind == 3)
        .map(|((id, text), _)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let description = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(pre)?,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": parts.merges, "ignore_merges": pre == "llama-bpe"},
    });
    fs::create_dir_all(folder)?;
    fs::write(folder.join("tokenizer.json"), description.to_string())?;
    Ok(())
}

/// The same vocabulary, merges and words give the same ids, whichever file they come from.
fn json_equals_llama_cpp(context: &SuiteContext) -> CaseResult {
    let (golden, parts, gguf) = load(context)?;
    let folder = context.scratch()?;
    for pre in ["smollm", "gpt-2", "qwen2", "llama-bpe"] {
        let folder = folder.join(pre);
        write_json(&folder, &parts, pre)?;
        let tokenizer = Tokenizer::from_snapshot(&folder)?;
        ensure_eq!(
            tokenizer.vocab_size(),
            gguf.vocab_size(),
            "tokens under {pre}"
        );
        for (number, case) in golden.cases.iter().enumerate() {
            let ids = tokenizer.encode(&case.text, true)?;
            let expected = match golden.other_pre.get(pre) {
                Some(other) => &other[number].ids,
                None => &case.ids,
            };
            ensure_eq!(&ids, expected, "ids of {} under {pre}", case.name);
            ensure_eq!(
                tokenizer.decode(&ids, false)?,
                case.text,
                "text of {} under {pre}",
                case.name
            );
        }
        let blanks = format!("a{}b", " ".repeat(1_000_000));
        let ids = tokenizer.encode(&blanks, true)?;
        ensure_eq!(
            ids,
            {
                let parts = TokenizerParts {
                    pre: pre.to_owned(),
                    ..parts.clone()
                };
                Tokenizer::from_parts(parts)?.encode(&blanks, true)?
            },
            "ids of a million blanks under {pre}"
        );
    }
    let tokenizer = Tokenizer::from_snapshot(&folder.join("smollm"))?;
    for case in &golden.cases {
        ensure_eq!(
            tokenizer.encode(&case.text, false)?,
            case.ids_plain,
            "plain ids of {}",
            case.name
        );
        streams_as_decoded(&tokenizer, case)?;
    }
    for case in &golden.dropped {
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

/// The small files beside it say which tokens begin and end a text, and how messages become one.
fn json_follows_its_neighbours(context: &SuiteContext) -> CaseResult {
    let (golden, parts, gguf) = load(context)?;
    let folder = context.scratch()?.join("model");
    write_json(&folder, &parts, "smollm")?;
    let alone = Tokenizer::from_snapshot(&folder)?;
    ensure!(
        !alone.adds_bos(),
        "a token is added first, and no file says so"
    );
    ensure_eq!(
        alone.bos_token_id(),
        None,
        "beginning of sequence without a file that names it"
    );
    ensure!(alone.chat_template().is_none(), "a template out of nothing");
    ensure!(
        alone.end_of_generation().eq(gguf.end_of_generation()),
        "ends of a text without a file that names them"
    );

    let text = |id: u32| &parts.tokens[id as usize];
    let template = "{{ messages[0].content }}";
    let config = json!({"bos_token": {"content": text(golden.bos_token_id)}, "eos_token": text(golden.eos_token_id),
                        "add_bos_token": true, "chat_template": template});
    fs::write(folder.join("tokenizer_config.json"), config.to_string())?;
    let word = alone.encode(" word", false)?;
    let generation = json!({"eos_token_id": [golden.eos_token_id, word[0]]});
    fs::write(
        folder.join("generation_config.json"),
        generation.to_string(),
    )?;
    let told = Tokenizer::from_snapshot(&folder)?;
    ensure_eq!(
        told.bos_token_id(),
        Some(golden.bos_token_id),
        "beginning of sequence"
    );
    ensure_eq!(
        told.eos_token_id(),
        Some(golden.eos_token_id),
        "end of sequence"
    );
    ensure_eq!(
        told.encode_prompt(" word", false)?,
        [golden.bos_token_id, word[0]],
        "ids of a prompt"
    );
    ensure!(
        told.is_end_of_generation(word[0]),
        "generation_config.json was not followed"
    );
    let found = told.chat_template().map(|template| template.text.as_str());
    ensure_eq!(
        found,
        Some(template),
        "the template of tokenizer_config.json"
    );

    let named = json!({"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]});
    fs::write(folder.join("tokenizer_config.json"), named.to_string())?;
    fs::write(folder.join("chat_template.jinja"), "c")?;
    let both = Tokenizer::from_snapshot(&folder)?;
    let found: Vec<_> = both
        .chat_templates()
        .iter()
        .map(|template| (template.name.as_str(), template.text.as_str()))
        .collect();
    ensure_eq!(
        found,
        [("default", "c"), ("tool_use", "b")],
        "templates of both files"
    );

    let of_file = gguf.chat_template();
    ensure!(
        of_file.is_some_and(|template| template.text.contains("<|im_start|>")
            && template.source.ends_with("tokenizer.chat_template")),
        "the template of the GGUF file: {of_file:?}"
    );
    Ok(())
}

fn vocabulary_is_checked(context: &SuiteContext) -> CaseResult {
    let (_, parts, tokenizer) = load(context)?;
    let tokens = tokenizer.vocab_size();
    for rows in [tokens, tokens + 1, tokens + 1024] {
        tokenizer.check_vocabulary(rows)?;
    }
    ensure!(
        matches!(
            tokenizer.check_vocabulary(tokens - 1),
            Err(TokenizerError::TokensBeyondRows { token, .. }) if token == tokens - 1
        ),
        "an embedding without a row for the last token was accepted"
    );
    ensure!(
        matches!(
            tokenizer.check_vocabulary(tokens + 1025),
            Err(TokenizerError::RowsBeyondTokens { .. })
        ),
        "an embedding of a larger vocabulary was accepted"
    );
    // A mark that only a larger sibling of the model can read.
    let mut marked = parts;
    marked.tokens.push("<image>".to_owned());
    marked.token_types.push(3);
    Tokenizer::from_parts(marked)?.check_vocabulary(tokens)?;
    Ok(())
}

fn sentence_piece_equals_llama_cpp(context: &SuiteContext) -> CaseResult {
    let golden: Golden = golden(context, SENTENCE_PIECE_GOLDEN)?;
    let resolver = Resolver::new(Catalogue::embedded(), CacheSettings::from_env()?);
    let model = resolver.ensure(SENTENCE_PIECE, &mut TerminalProgress::stderr())?;
    ensure_eq!(
        model.sha256,
        golden.model_sha256,
        "the model that the golden ids belong to"
    );
    let file = GgufFile::open(&model.path)?;
    let parts = TokenizerParts::from_gguf(&file)?;
    let tokenizer = Tokenizer::from_gguf(&file)?;
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
    ensure_eq!(
        tokenizer.adds_bos(),
        golden.adds_bos,
        "whether a prompt begins with a token of its own"
    );
    ensure!(
        golden.cases.len() > 100,
        "the golden file has too few cases"
    );
    for case in &golden.cases {
        let ids = tokenizer.encode(&case.text, true)?;
        ensure_eq!(ids, case.ids, "ids of {}", case.name);
        let plain = tokenizer.encode(&case.text, false)?;
        ensure_eq!(plain, case.ids_plain, "plain ids of {}", case.name);
        // The vocabulary's own sign for a blank cannot be told from one.
        let text = case.text.replace('\u{2581}', " ");
        ensure_eq!(
            tokenizer.decode(&ids, false)?,
            text,
            "text of {}",
            case.name
        );
        streams_as_decoded(&tokenizer, case)?;
    }

    // Under a blank that encoding adds, decoding takes it away again.
    let prefixed = Tokenizer::from_parts(TokenizerParts {
        add_space_prefix: Some(true),
        ..parts.clone()
    })?;
    for text in ["one", " one", "<bos>one<end_of_turn> two\nthree", ""] {
        let ids = prefixed.encode(text, true)?;
        ensure_eq!(
            prefixed.decode(&ids, false)?,
            text,
            "text with a blank of its own"
        );
    }
    ensure_eq!(
        prefixed.encode("one", true)?,
        tokenizer.encode(" one", true)?,
        "ids with a blank of its own"
    );

    // A mark's text is a mark only where marks are read.
    for (id, text) in (0_u32..).zip(&parts.tokens) {
        if tokenizer.token_kind(id) == Some(TokenKind::Control) {
            ensure_eq!(tokenizer.encode(text, true)?, [id], "ids of {text}");
            ensure!(
                !tokenizer.encode(text, false)?.contains(&id),
                "{text} was read as a control token in plain text"
            );
        }
    }
    Ok(())
}
