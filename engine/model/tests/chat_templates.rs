//! Chat templates against renderings by the Python library that defines them, and templates that must be refused.

use kakeya_model::chat::{ChatInput, ChatTemplate, ChatTemplateError, TemplateText, TemplateValue};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What `gates/reference/make_chat_goldens.py` wrote.
#[derive(Deserialize)]
struct Golden {
    templates: BTreeMap<String, Template>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Template {
    text: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    name: String,
    messages: TemplateValue,
    tools: Option<TemplateValue>,
    add_generation_prompt: bool,
    variables: BTreeMap<String, TemplateValue>,
    text: Option<String>,
    refused: Option<String>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../gates/goldens/chat-templates.json")).unwrap()
}

fn compiled(text: &str) -> Result<ChatTemplate, ChatTemplateError> {
    ChatTemplate::compile(&TemplateText {
        name: "default".to_owned(),
        text: text.to_owned(),
        source: "tokenizer_config.json".to_owned(),
    })
}

fn input(messages: &str) -> ChatInput {
    ChatInput {
        messages: serde_json::from_str(messages).unwrap(),
        ..ChatInput::default()
    }
}

#[test]
fn every_rendering_equals_that_of_transformers() {
    let golden = golden();
    assert!(golden.cases.len() > 80, "{}", golden.cases.len());
    for case in golden.cases {
        let template = &golden.templates[&case.template];
        let what = format!(
            "{} of {}, {:?}, tools {}, prompt {}",
            case.name,
            case.template,
            case.variables,
            case.tools.is_some(),
            case.add_generation_prompt
        );
        let rendered = compiled(&template.text).unwrap().render(&ChatInput {
            messages: case.messages,
            tools: case.tools,
            add_generation_prompt: case.add_generation_prompt,
            bos_token: template.bos_token.clone(),
            eos_token: template.eos_token.clone(),
            variables: case.variables.into_iter().collect(),
        });
        match (rendered, case.text, case.refused) {
            (Ok(found), Some(expected), None) => assert_eq!(found, expected, "{what}"),
            (Err(ChatTemplateError::Refused { message, .. }), None, Some(expected)) => {
                assert_eq!(message, expected, "{what}");
            }
            (other, ..) => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_template_that_does_not_compile_is_named_with_its_line() {
    let error = compiled("one\ntwo {% if %}\n").unwrap_err().to_string();
    let expected = "the chat template in tokenizer_config.json is not valid at line 2: ";
    assert!(error.starts_with(expected), "{error}");
    let error = compiled("{% generation %}x{% endgeneration %}").unwrap_err();
    assert!(
        matches!(error, ChatTemplateError::Invalid { line: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_template_that_fails_is_named_with_its_line() {
    let template = compiled("x\n\n{{ messages.first.second.third }}").unwrap();
    let error = template.render(&input("{}")).unwrap_err().to_string();
    let expected = "the chat template in tokenizer_config.json fails at line 3: ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_template_that_refuses_says_why_even_inside_a_macro() {
    let text = "{% macro check() %}\n{{ raise_exception('no') }}{% endmacro %}{{ check() }}";
    let error = compiled(text).unwrap().render(&input("[]")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the chat template in tokenizer_config.json refuses the messages at line 2: no"
    );
}

#[test]
fn a_template_that_loops_for_ever_is_stopped() {
    let nested = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    let recursive =
        "{% macro f() %}{% for a in range(9) %}{{ f() }}{% endfor %}{% endmacro %}{{ f() }}";
    let error = compiled(nested).unwrap().render(&input("[]")).unwrap_err();
    assert!(
        matches!(error, ChatTemplateError::Endless { .. }),
        "{error}"
    );
    assert!(compiled(recursive).unwrap().render(&input("[]")).is_err());
}

#[test]
fn a_text_without_bounds_is_stopped() {
    let long = "{% for a in range(1000) %}{{ 'x' * 100000 }}{% endfor %}";
    let error = compiled(long).unwrap().render(&input("[]")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the chat template in tokenizer_config.json makes a text of more than 67108864 bytes"
    );
}

#[test]
fn a_template_of_a_size_that_no_template_has_is_refused() {
    let error = compiled(&" ".repeat(2 << 20)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the chat template in tokenizer_config.json has 2097152 bytes, expected at most 1048576"
    );
}

#[test]
fn values_are_written_as_python_writes_them() {
    let template =
        compiled("{{ true }} {{ none }} {{ messages | tojson }} {{ messages | tojson(indent=2) }}")
            .unwrap();
    let text = template
        .render(&input(r#"{"b":[1,2.5,"<é>"],"a":{}}"#))
        .unwrap();
    assert_eq!(
        text,
        "True None {\"b\": [1, 2.5, \"<é>\"], \"a\": {}} \
         {\n  \"b\": [\n    1,\n    2.5,\n    \"<é>\"\n  ],\n  \"a\": {}\n}"
    );
}

#[test]
fn a_length_that_no_memory_has_is_refused() {
    for text in [
        "{{ [1]|batch(9223372036854775807)|list }}",
        "{{ [1]|batch(1000000000000)|list }}",
        "{{ [1]|slice(1000000000000)|list }}",
        "{{ ([1] * 9223372036854775807)|list }}",
        "{{ ([1] * 100000000000)|batch(2)|list }}",
        "{{ '%.70000f'|format(1.5) }}",
        "{{ '%1000000000000d'|format(1) }}",
        "{{ 'a'|indent(1000000000000, true) }}",
        "{{ 'a'|indent(width=1000000000000, first=true) }}",
    ] {
        let error = compiled(text).unwrap().render(&input("[]")).unwrap_err();
        assert!(
            matches!(error, ChatTemplateError::Failed { .. }),
            "{text}: {error:?}"
        );
    }
}

#[test]
fn a_panic_of_the_library_is_an_error() {
    let template = compiled("{{ ([1] * 9223372036854775807)|sort }}").unwrap();
    let error = template.render(&input("[]")).unwrap_err();
    assert!(
        matches!(error, ChatTemplateError::Panicked { .. }),
        "{error:?}"
    );
}

#[test]
fn bounded_filters_do_what_jinja_does() {
    // By Jinja2 3.1 in Python.
    for (text, expected) in [
        ("{{ [1, 2, 3]|batch(2)|list }}", "[[1, 2], [3]]"),
        ("{{ [1, 2, 3]|slice(2)|list }}", "[[1, 2], [3]]"),
        ("{{ 'abc'|list|join('-') }}", "a-b-c"),
        ("{{ '%s is %05.2f'|format('x', 1.5) }}", "x is 01.50"),
        ("{{ 'a\\n\\nb'|indent }}|", "a\n\n    b|"),
        ("{{ 'a\\n\\nb\\n'|indent(2, true) }}|", "  a\n\n  b\n|"),
        ("{{ 'a\\n\\nb'|indent(width=1, blank=true) }}|", "a\n \n b|"),
    ] {
        let rendered = compiled(text).unwrap().render(&input("[]")).unwrap();
        assert_eq!(rendered, expected, "{text}");
    }
}
