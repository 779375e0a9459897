//! From what is said to the tokens of a turn, in the model's own template.

use anyhow::{Context, anyhow};
use kakeya_model::chat::{ChatInput, ChatTemplate, TemplateValue};
use kakeya_model::tokenizer::Tokenizer;
use serde_json::{Value, json};

/// Stands for an answer in a template, to find where the text after it begins.
const ANSWER: &str = "kakeya-answer-goes-here";

/// Stands for a question, to find where it is put.
const SAID: &str = "kakeya-question-goes-here";

/// The model's chat template.
#[derive(Debug)]
pub struct Turns {
    template: ChatTemplate,
    system: Option<String>,
}

impl Turns {
    /// The template of a model's files.
    ///
    /// # Errors
    /// When there is none, or one that cannot be used.
    pub fn of(tokenizer: &Tokenizer, system: Option<String>) -> anyhow::Result<Self> {
        let template = tokenizer.chat_template().ok_or_else(|| {
            anyhow!(
                "this model's files have no chat template, so it cannot chat: is it a base model? `kakeya generate` \
                 continues texts"
            )
        })?;
        let template = ChatTemplate::compile(template)?;
        Ok(Self { template, system })
    }

    /// The tokens of a conversation's first turn.
    ///
    /// # Errors
    /// What the template refuses, or a text that the vocabulary cannot spell.
    pub fn first(&self, tokenizer: &Tokenizer, said: &str) -> anyhow::Result<Vec<u32>> {
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(json!({ "role": "system", "content": system }));
        }
        messages.push(json!({ "role": "user", "content": said }));
        let text = self.render(tokenizer, messages)?;
        Ok(tokenizer.encode(&text, true)?)
    }

    /// The tokens that take a conversation from the end of an answer, whose last token is `last`, to where the model is to
    /// answer again. The end token of an answer belongs to the template: the answer has it unless it was cut short.
    ///
    /// # Errors
    /// As [`Turns::first`].
    pub fn next(
        &self,
        tokenizer: &Tokenizer,
        said: &str,
        last: Option<u32>,
    ) -> anyhow::Result<Vec<u32>> {
        let messages = vec![
            json!({ "role": "user", "content": "-" }),
            json!({ "role": "assistant", "content": ANSWER }),
            json!({ "role": "user", "content": said }),
        ];
        let text = self.render(tokenizer, messages)?;
        let (_, after) = text.split_once(ANSWER).context(
            "the chat template leaves answers out, so a turn cannot be told from those before it",
        )?;
        let mut tokens = tokenizer.encode(after, true)?;
        if last.is_some() && tokens.first().copied() == last {
            tokens.remove(0);
        }
        Ok(tokens)
    }

    /// The tokens before what a user says first, and those between that and the answer.
    ///
    /// # Errors
    /// As [`Turns::first`]; when the template does not say what users say.
    pub fn around(&self, tokenizer: &Tokenizer) -> anyhow::Result<(Vec<u32>, Vec<u32>)> {
        let text = self.render(tokenizer, vec![json!({ "role": "user", "content": SAID })])?;
        let (before, between) = text
            .split_once(SAID)
            .context("the chat template leaves out what users say")?;
        Ok((
            tokenizer.encode(before, true)?,
            tokenizer.encode(between, true)?,
        ))
    }

    fn render(&self, tokenizer: &Tokenizer, messages: Vec<Value>) -> anyhow::Result<String> {
        let text_of = |token: Option<u32>| {
            token
                .and_then(|token| tokenizer.token_text(token))
                .map(str::to_owned)
        };
        let input = ChatInput {
            messages: TemplateValue::from_serialize(messages),
            add_generation_prompt: true,
            bos_token: text_of(tokenizer.bos_token_id()),
            eos_token: text_of(tokenizer.eos_token_id()),
            ..ChatInput::default()
        };
        Ok(self.template.render(&input)?)
    }
}
