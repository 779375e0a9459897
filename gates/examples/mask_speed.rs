//! What it costs to hold an answer to a form: microseconds to compile one, to begin a text, and for the mask of each token.
//!
//! ```text
//! cargo run -p kakeya-gates --example mask_speed -- MODEL.gguf [TEXTS]
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::{Form, TokenSet};
use kakeya_model::Source;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_server::constrain::Compiler;
use kakeya_server::http::body::parse;
use kakeya_server::http::forms::AnswerForm;
use kakeya_server::http::requests::ChatBody;
use serde_json::{Value, json};

/// The most tokens of a text.
const LONGEST: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which GGUF file?")?;
    let texts: u64 = arguments.next().map_or(Ok(50), |n| n.parse())?;
    let tokenizer = Arc::new(Tokenizer::of(&Source::open(Path::new(&path))?)?);
    let compiler = Arc::new(Compiler::new(Arc::clone(&tokenizer)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let compiled = |name: &str, fields: Value| -> Result<(), Box<dyn Error>> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let all = body.as_object_mut().ok_or("no object")?;
        all.extend(fields.as_object().ok_or("no object")?.clone());
        let request = parse::<ChatBody>(body.to_string().as_bytes())?.validate()?;
        let form = AnswerForm::of(&request)?.ok_or("any text has no form")?;
        // The first form pays for what all share.
        runtime.block_on(compiler.compile(form.clone()))?;
        let begun = Instant::now();
        let constraint = runtime.block_on(compiler.compile(form))?;
        let compile = begun.elapsed();
        let (mut masks, mut begins, mut notes) = (Vec::new(), Vec::new(), Duration::ZERO);
        for seed in 1..=texts {
            let begun = Instant::now();
            let mut text = constraint.begin();
            begins.push(begun.elapsed());
            let mut allowed = TokenSet::new(tokenizer.vocab_size());
            let mut random = seed;
            for _ in 0..LONGEST {
                let begun = Instant::now();
                text.allow(&mut allowed)?;
                masks.push(begun.elapsed());
                let candidates: Vec<u32> = allowed.iter().collect();
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(99);
                let token = candidates[(random >> 33) as usize % candidates.len()];
                let begun = Instant::now();
                let form = text.note(token)?;
                notes += begun.elapsed();
                if form == Form::Complete || tokenizer.is_end_of_generation(token) {
                    break;
                }
            }
        }
        masks.sort();
        begins.sort();
        let count = masks.len();
        let mean = masks.iter().sum::<Duration>() / count as u32;
        println!(
            "{name}: compile {compile:?}, begin {:?}, {count} masks: mean {mean:?}, p50 {:?}, p99 {:?}, max {:?}; note {:?}",
            begins[begins.len() / 2],
            masks[count / 2],
            masks[count * 99 / 100],
            masks[count - 1],
            notes / count as u32,
        );
        Ok(())
    };
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "kind": {"enum": ["teacher", "doctor"]},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,8}$"}, "maxItems": 3}},
        "required": ["name", "age", "kind", "tags"], "additionalProperties": false});
    let tools = json!([
        {"type": "function", "function": {"name": "save", "parameters": person}},
        {"type": "function", "function": {"name": "stop"}},
    ]);
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "person", "schema": person}});
    compiled(
        "json_object",
        json!({"response_format": {"type": "json_object"}}),
    )?;
    compiled("json_schema", json!({ "response_format": schema }))?;
    compiled(
        "tools required",
        json!({"tools": tools, "tool_choice": "required"}),
    )?;
    compiled("tools auto", json!({ "tools": tools }))
}
