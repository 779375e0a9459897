//! What `kakeya inspect` says, for people.

use std::fmt::Write as _;

use super::super::output::bytes;
use super::report::{Config, Memory, Report, Tensor, TensorType};

/// Problems that are told; the rest is counted, and `--json` has all.
const MOST_PROBLEMS: usize = 20;

/// The report in lines.
pub fn of(report: &Report) -> String {
    let mut page = Page::default();
    page.line("file", &report.path);
    page.line(
        "format",
        format!("{}, {}", report.format, bytes(report.file_bytes)),
    );
    let architecture = report.architecture.as_deref().unwrap_or("not named");
    page.line("architecture", architecture);
    if let Some(config) = &report.config {
        config_lines(&mut page, config);
    }
    match &report.tokenizer {
        None => page.line("tokenizer", "none that can be used"),
        Some(tokenizer) => {
            let fits = match tokenizer.fits {
                None => "",
                Some(true) => ", fits the embedding",
                Some(false) => ", DOES NOT FIT the embedding",
            };
            page.line(
                "tokenizer",
                format!("{}, {} tokens{fits}", tokenizer.family, tokenizer.tokens),
            );
            if let Some(begin) = &tokenizer.begins_with {
                page.line("", format!("begins with {begin}"));
            }
            page.line("", format!("ends with {}", tokenizer.ends_with.join(" ")));
        }
    }
    if report.chat_templates.is_empty() {
        page.line("chat template", "none");
    }
    for template in &report.chat_templates {
        let state = match &template.error {
            None => "compiles".to_owned(),
            Some(error) => format!("CANNOT BE USED: {error}"),
        };
        let name = &template.name;
        page.line(
            "chat template",
            format!("{name}, {} bytes, {state}", template.bytes),
        );
    }
    page.line("tensors", report.tensor_count);
    for kind in &report.tensor_types {
        page.line("", kind_line(kind));
    }
    for tensor in report.tensors.iter().flatten() {
        page.line("", tensor_line(tensor));
    }
    // What the file says itself, where nothing could be made of it.
    if report.config.is_none() {
        for (key, value) in &report.metadata {
            page.line("metadata", format!("{key} = {value}"));
        }
    }
    if let Some(memory) = &report.memory {
        memory_lines(&mut page, memory);
    }
    page.line("runs here", if report.runnable { "yes" } else { "NO" });
    for problem in report.problems.iter().take(MOST_PROBLEMS) {
        page.line("", problem);
    }
    match report.problems.len().saturating_sub(MOST_PROBLEMS) {
        0 => {}
        more => page.line("", format!("and {more} more; --json has them all")),
    }
    page.text
}

fn config_lines(page: &mut Page, config: &Config) {
    page.line(
        "layers",
        format!(
            "{}, hidden {}, feed-forward {} ({})",
            config.layers, config.hidden, config.feed_forward, config.activation
        ),
    );
    page.line(
        "attention",
        format!(
            "{} heads, {} for keys and values, of {} dimensions",
            config.heads, config.kv_heads, config.head_dim
        ),
    );
    for window in &config.windows {
        let sees = match window.window {
            None => "see what the cache keeps".to_owned(),
            Some(window) => format!("have a window of {window}"),
        };
        let rope = &config.ropes[window.rope];
        page.line(
            "",
            format!(
                "{} layers {sees}; rope base {}, scaling {}",
                window.layers, rope.base, rope.scaling
            ),
        );
    }
    page.line("context", config.context);
    let tied = match config.tied_embedding {
        Some(true) => ", embedding tied to the output",
        Some(false) => ", embedding and output apart",
        None => "",
    };
    page.line("vocabulary", format!("{}{tied}", config.vocabulary));
}

fn kind_line(kind: &TensorType) -> String {
    let size = kind.bytes.map_or("of unknown size".to_owned(), bytes);
    format!("{} x {}, {size}", kind.tensors, kind.kind)
}

fn tensor_line(tensor: &Tensor) -> String {
    let size = tensor.bytes.map_or("of unknown size".to_owned(), bytes);
    format!("{} {} {:?} {size}", tensor.name, tensor.kind, tensor.shape)
}

fn memory_lines(page: &mut Page, memory: &Memory) {
    let unknown = || "unknown".to_owned();
    page.line("weights", memory.weight_bytes.map_or_else(unknown, bytes));
    page.line(
        "session",
        format!(
            "{} of KV cache (sink {}, window {}, {})",
            bytes(memory.slab_bytes),
            memory.sink,
            memory.window,
            memory.kv
        ),
    );
    page.line(
        "pool",
        format!(
            "{} for {} sessions",
            bytes(memory.pool_bytes),
            memory.capacity
        ),
    );
    let machine = bytes(memory.machine_bytes);
    page.line(
        "in all",
        match memory.total_bytes {
            None => unknown(),
            Some(total) if total <= memory.machine_bytes => {
                format!("{}, and this machine has {machine}", bytes(total))
            }
            Some(total) => format!("{}: MORE than the {machine} of this machine", bytes(total)),
        },
    );
}

/// Lines of a name and a value.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{name:<15}{value}");
    }
}
