//! Any bytes as a GGUF file: its header, its configuration, its tensors' places and its tokenizer.

#![no_main]

use kakeya_model::tokenizer::Tokenizer;
use kakeya_model::{ModelConfig, Source};
use libfuzzer_sys::fuzz_target;

mod folder;

fuzz_target!(|bytes: &[u8]| {
    let path = folder::write("model.gguf", bytes);
    let Ok(source) = Source::open(&path) else {
        return;
    };
    let _ = ModelConfig::of(&source);
    let _ = Tokenizer::of(&source);
    for name in source.tensor_names() {
        for (rows, columns) in [(1, 32), (32, 32), (usize::MAX, usize::MAX)] {
            let _ = source.tensor(name, rows, columns);
        }
    }
});
