//! Any text as a config.json and as an index, and any bytes as a shard, each beside others that are right.

#![no_main]

use kakeya_model::{ModelConfig, Source};
use libfuzzer_sys::fuzz_target;

mod folder;

const INDEX: &str = "model.safetensors.index.json";
const SHARD: &str = "model.safetensors";

fuzz_target!(|files: (&[u8], &[u8], &[u8])| {
    let (config, index, shard) = files;
    let folder = folder::write("config.json", config);
    let folder = folder.parent().expect("a file has a folder");
    folder::write(SHARD, shard);
    if index.is_empty() {
        let _ = std::fs::remove_file(folder::path(INDEX));
    } else {
        folder::write(INDEX, index);
    }
    let Ok(source) = Source::open(folder) else {
        return;
    };
    let _ = ModelConfig::of(&source);
    for name in source.tensor_names() {
        let _ = source.tensor(name, 1, 32);
    }
});
