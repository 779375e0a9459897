//! Any description of a tokenizer, and any text for what it describes: encoding says why not, and decoding what was
//! encoded never fails.

#![no_main]

use kakeya_model::tokenizer::{Tokenizer, TokenizerParts};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

mod folder;

/// The fields of a GGUF file's tokenizer, or the files beside a snapshot's weights.
#[derive(Arbitrary, Debug)]
enum Description<'a> {
    Parts {
        sentence_piece: bool,
        tokens: Vec<String>,
        scores: Vec<f32>,
        token_types: Vec<u64>,
        merges: Vec<String>,
        ids: [Option<u32>; 4],
        flags: [Option<bool>; 2],
    },
    Files {
        tokenizer: &'a [u8],
        config: Option<&'a [u8]>,
    },
}

fuzz_target!(|case: (Description<'_>, &str)| {
    let (description, text) = case;
    let Some(tokenizer) = tokenizer(description) else {
        return;
    };
    let _ = tokenizer.check_vocabulary(tokenizer.vocab_size());
    let _ = tokenizer.check_vocabulary(0);
    for parse_special in [false, true] {
        if let Ok(ids) = tokenizer.encode_prompt(text, parse_special) {
            tokenizer
                .decode(&ids, false)
                .expect("its own ids are in the vocabulary");
        }
    }
});

fn tokenizer(description: Description<'_>) -> Option<Tokenizer> {
    match description {
        Description::Parts {
            sentence_piece,
            tokens,
            scores,
            token_types,
            merges,
            ids: [bos, eos, eot, eom],
            flags: [add_bos, add_space_prefix],
        } => Tokenizer::from_parts(TokenizerParts {
            model: if sentence_piece { "llama" } else { "gpt2" }.to_owned(),
            pre: "smollm".to_owned(),
            tokens,
            scores,
            token_types,
            merges,
            bos_token_id: bos,
            eos_token_id: eos,
            eot_token_id: eot,
            eom_token_id: eom,
            add_bos_token: add_bos,
            add_space_prefix,
        })
        .ok(),
        Description::Files { tokenizer, config } => {
            let path = folder::write("tokenizer.json", tokenizer);
            match config {
                Some(config) => drop(folder::write("tokenizer_config.json", config)),
                None => drop(std::fs::remove_file(folder::path("tokenizer_config.json"))),
            }
            Tokenizer::from_snapshot(path.parent()?).ok()
        }
    }
}
