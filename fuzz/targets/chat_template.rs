//! Any template with any message: it is refused, or renders to a text of bounded size.

#![no_main]

use kakeya_model::chat::{ChatInput, ChatTemplate, TemplateText, TemplateValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|case: (&str, &str)| {
    let (text, content) = case;
    let template = TemplateText {
        name: TemplateText::DEFAULT.to_owned(),
        text: text.to_owned(),
        source: "fuzz".to_owned(),
    };
    let Ok(template) = ChatTemplate::compile(&template) else {
        return;
    };
    let messages = serde_json::json!([{ "role": "user", "content": content }]);
    let _ = template.render(&ChatInput {
        messages: TemplateValue::from_serialize(messages),
        add_generation_prompt: true,
        ..ChatInput::default()
    });
});
