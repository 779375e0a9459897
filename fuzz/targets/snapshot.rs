//! Any text as a config.json and as an index, and any bytes as one shard or as two: what is read of them is refused by
//! a reason, or is a model's description.
//!
//! The case is its files, a zero byte after each, so that a change in one leaves the others whole. The shard is the
//! last: its bytes are any.

#![no_main]

use kakeya_model::{ModelConfig, Source};
use libfuzzer_sys::fuzz_target;

mod folder;

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model.safetensors", "second.safetensors"];
/// What parts two shards.
const CUT: &[u8] = b"\0cut\0";

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (config, index, shards) = (part(), part(), part());
    let folder = folder::write("config.json", config);
    let folder = folder.parent().expect("a file has a folder");
    folder::write_or_remove(INDEX, Some(index).filter(|index| !index.is_empty()));
    let cut = shards.windows(CUT.len()).position(|bytes| bytes == CUT);
    let first = &shards[..cut.unwrap_or(shards.len())];
    folder::write(SHARDS[0], first);
    folder::write_or_remove(SHARDS[1], cut.map(|cut| &shards[cut + CUT.len()..]));
    let Ok(source) = Source::open(folder) else {
        return;
    };
    let _ = ModelConfig::of(&source);
    for entry in source.tensors() {
        let (rows, columns) = match entry.shape {
            [columns] => (1, *columns),
            [rows, columns] => (*rows, *columns),
            _ => (1, 32),
        };
        if let Ok(tensor) = source.tensor(entry.name, rows, columns) {
            let _ = tensor.floats();
        }
        let _ = source.tensor(entry.name, usize::MAX, usize::MAX);
    }
});
