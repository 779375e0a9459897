//! Any template with any messages: it is refused, or renders to a text of bounded size.
//!
//! The case is a template, a zero byte, and the messages as JSON, or else the text of the only one.

#![no_main]

use kakeya_model::chat::{ChatInput, ChatTemplate, TemplateText, TemplateValue};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (text, messages) = text.split_once('\0').unwrap_or((&text, ""));
    let template = TemplateText {
        name: TemplateText::DEFAULT.to_owned(),
        text: text.to_owned(),
        source: "fuzz".to_owned(),
    };
    let Ok(template) = ChatTemplate::compile(&template) else {
        return;
    };
    let messages = match serde_json::from_str(messages) {
        Ok(Value::Array(messages)) => Value::Array(messages),
        _ => json!([{ "role": "user", "content": messages }]),
    };
    let tools = json!([{ "type": "function", "function": {
        "name": "add",
        "parameters": { "type": "object", "properties": { "a": { "type": "number" } } },
    } }]);
    for tools in [None, Some(TemplateValue::from_serialize(tools))] {
        let _ = template.render(&ChatInput {
            messages: TemplateValue::from_serialize(&messages),
            add_generation_prompt: tools.is_none(),
            tools,
            bos_token: Some("<s>".to_owned()),
            eos_token: Some("</s>".to_owned()),
            variables: vec![("enable_thinking".to_owned(), TemplateValue::from(false))],
        });
    }
});
