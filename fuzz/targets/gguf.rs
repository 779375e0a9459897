//! Any bytes as a GGUF file: its header, its configuration, its tensors' places and its tokenizer.

#![no_main]

use kakeya_model::tokenizer::Tokenizer;
use kakeya_model::{ModelConfig, Source};
use libfuzzer_sys::fuzz_target;

mod folder;

/// With every byte that a byte-level vocabulary spells, and marks.
const TEXT: &str = "a b  \u{e9}<|im_end|>\n42";

fuzz_target!(|bytes: &[u8]| {
    let path = folder::write("model.gguf", bytes);
    let Ok(source) = Source::open(&path) else {
        return;
    };
    let _ = ModelConfig::of(&source);
    if let Some(file) = source.gguf() {
        let _ = file.metadata();
    }
    if let Ok(tokenizer) = Tokenizer::of(&source)
        && let Ok(ids) = tokenizer.encode_prompt(TEXT, true)
    {
        tokenizer
            .decode(&ids, false)
            .expect("its own ids are in the vocabulary");
    }
    for entry in source.tensors() {
        let (rows, columns) = match entry.shape {
            [columns] => (1, *columns),
            [rows, columns] => (*rows, *columns),
            _ => (1, 32),
        };
        if let Ok(tensor) = source.tensor(entry.name, rows, columns) {
            assert_eq!(
                Some(tensor.bytes.len() as u64),
                entry.bytes,
                "as long as it says"
            );
            let _ = tensor.floats();
        }
        let _ = source.tensor(entry.name, usize::MAX, usize::MAX);
    }
});
