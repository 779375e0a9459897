//! Any description of a tokenizer, and any text for what it describes: encoding says why not, and decoding what was
//! encoded never fails.
//!
//! The case is its parts, a zero byte after each, so that a change in one leaves the others whole. The last is the text;
//! before it come a snapshot's `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, or what stands
//! for the fields of a GGUF file: flags, tokens and merges, these line by line.

#![no_main]

use kakeya_model::tokenizer::{Tokenizer, TokenizerParts};
use libfuzzer_sys::fuzz_target;

mod folder;

/// The rules by which text is cut into words.
const PRE: [&str; 4] = ["smollm", "gpt-2", "qwen2", "llama-bpe"];

fuzz_target!(
    // The library's panics while it reads a file are caught and told as errors; libFuzzer's hook would end the process
    // before. A panic that nobody catches ends it all the same.
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| {
        let mut parts = bytes.splitn(4, |byte| *byte == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (first, second, third) = (part(), part(), part());
        let text = String::from_utf8_lossy(part());
        let built = match first.first() {
            Some(b'{') => of_files(first, second, third),
            _ => of_fields(first, second, third),
        };
        if let Some(tokenizer) = built {
            use_it(&tokenizer, &text);
        }
    }
);

fn use_it(tokenizer: &Tokenizer, text: &str) {
    let _ = tokenizer.check_vocabulary(tokenizer.vocab_size());
    let _ = tokenizer.check_vocabulary(0);
    for parse_special in [false, true] {
        if let Ok(ids) = tokenizer.encode_prompt(text, parse_special) {
            tokenizer
                .decode(&ids, false)
                .expect("its own ids are in the vocabulary");
        }
    }
}

fn of_files(tokenizer: &[u8], config: &[u8], generation: &[u8]) -> Option<Tokenizer> {
    let path = folder::write("tokenizer.json", tokenizer);
    for (name, file) in [
        ("tokenizer_config.json", config),
        ("generation_config.json", generation),
    ] {
        folder::write_or_remove(name, Some(file).filter(|file| !file.is_empty()));
    }
    Tokenizer::from_snapshot(path.parent()?).ok()
}

/// The first flag chooses the family and the rule, the next ones the ids and whatever else may be missing. A token's
/// line begins with its type and its score.
fn of_fields(flags: &[u8], tokens: &[u8], merges: &[u8]) -> Option<Tokenizer> {
    let flag = |at: usize| flags.get(at).copied();
    let id = |at| flag(at).filter(|id| *id != b'-').map(u32::from);
    let yes = |at| match flag(at)? {
        b'y' => Some(true),
        b'n' => Some(false),
        _ => None,
    };
    let lines = |part| {
        let part = String::from_utf8_lossy(part).into_owned();
        part.split('\n').map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut texts, mut scores, mut token_types) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines(tokens) {
        let mut characters = line.chars();
        token_types.push(u64::from(characters.next().unwrap_or('1')) % 16);
        scores.push(u32::from(characters.next().unwrap_or('0')) as f32 - 64.0);
        texts.push(characters.as_str().to_owned());
    }
    let choice = usize::from(flag(0)?);
    let sentence_piece = choice % 5 == 4;
    Tokenizer::from_parts(TokenizerParts {
        model: if sentence_piece { "llama" } else { "gpt2" }.to_owned(),
        pre: PRE[choice % 5 % 4].to_owned(),
        tokens: texts,
        scores,
        token_types,
        merges: match merges {
            b"" => Vec::new(),
            merges => lines(merges),
        },
        bos_token_id: id(1),
        eos_token_id: id(2),
        eot_token_id: id(3),
        eom_token_id: id(4),
        add_bos_token: yes(5),
        add_space_prefix: yes(6),
    })
    .ok()
}
