//! A model's chat templates, and what is said in words where they leave it out.

use kakeya_model::chat::{ChatInput, ChatTemplate, ChatTemplateError, TemplateText, TemplateValue};
use kakeya_model::tokenizer::Tokenizer;

use crate::http::error::{ApiError, ErrorKind};
use crate::http::requests::{
    Function, Message, RawObject, Role, Tool, ToolCall, messages_json, tools_json,
};
use crate::http::tool_text::{has_calls, in_words};

/// The chat templates of a model.
#[derive(Debug)]
pub(super) struct Templates {
    default: Template,
    /// The one for chats with tools, where it is another.
    tool_use: Option<Template>,
    /// The texts of the tokens by which a sequence begins and ends.
    bos: Option<String>,
    eos: Option<String>,
}

#[derive(Debug)]
struct Template {
    compiled: ChatTemplate,
    /// Whether it tells of tools, calls and answers, in the form that answers have here.
    knows_tools: bool,
}

/// What a template is asked to render.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chat<'c> {
    pub messages: &'c [Message],
    pub tools: &'c [Tool],
    pub variables: Option<&'c RawObject>,
    pub add_generation_prompt: bool,
}

impl Templates {
    /// Those of the model's files; or why it cannot chat.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let default = tokenizer
            .chat_template()
            .ok_or("its files have no chat template")?;
        let compile = |template: &TemplateText| {
            ChatTemplate::compile(template).map_err(|error| error.to_string())
        };
        let text_of = |token: Option<u32>| {
            token
                .and_then(|token| tokenizer.token_text(token))
                .map(str::to_owned)
        };
        let mut named = tokenizer.chat_templates().iter();
        let tool_use = named.find(|template| template.name == "tool_use");
        let template = |compiled| Template {
            compiled,
            knows_tools: false,
        };
        let mut templates = Self {
            default: template(compile(default)?),
            tool_use: tool_use.map(compile).transpose()?.map(template),
            bos: text_of(tokenizer.bos_token_id()),
            eos: text_of(tokenizer.eos_token_id()),
        };
        templates.default.knows_tools = templates.tells_of_tools(&templates.default);
        if let Some(tool_use) = &templates.tool_use {
            let knows_tools = templates.tells_of_tools(tool_use);
            templates.tool_use = templates.tool_use.map(|template| Template {
                knows_tools,
                ..template
            });
        }
        Ok(templates)
    }

    /// The text that a chat becomes.
    pub(super) fn render(&self, chat: Chat<'_>) -> Result<String, ApiError> {
        let template = match &self.tool_use {
            Some(tool_use) if !chat.tools.is_empty() => tool_use,
            _ => &self.default,
        };
        if template.knows_tools || (chat.tools.is_empty() && !has_calls(chat.messages)) {
            return self
                .written(template, chat)?
                .map_err(|error| refused(&error));
        }
        let messages = in_words(chat.messages, chat.tools)?;
        let told = Chat {
            messages: &messages,
            tools: &[],
            ..chat
        };
        self.written(template, told)?
            .map_err(|error| refused(&error))
    }

    /// Looks at what a template makes of a chat with a tool, a call and an answer.
    fn tells_of_tools(&self, template: &Template) -> bool {
        let asked = Message {
            role: Role::User,
            content: "kakeya_question".to_owned(),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        };
        let called = Message {
            role: Role::Assistant,
            content: String::new(),
            tool_calls: vec![ToolCall {
                id: "kakeya_id".to_owned(),
                name: "kakeya_called".to_owned(),
                arguments: r#"{"kakeya": 1}"#.to_owned(),
            }],
            ..asked.clone()
        };
        let answered = Message {
            role: Role::Tool,
            content: "kakeya_answer".to_owned(),
            tool_call_id: Some("kakeya_id".to_owned()),
            ..asked.clone()
        };
        let offered = Tool::Function(Function {
            name: "kakeya_offered".to_owned(),
            description: None,
            parameters: None,
            strict: false,
        });
        let chat = Chat {
            messages: &[asked, called, answered],
            tools: &[offered],
            variables: None,
            add_generation_prompt: true,
        };
        let call = "<tool_call>\n{\"name\": \"kakeya_called\", \"arguments\": {\"kakeya\": 1}}\n</tool_call>";
        match self.written(template, chat) {
            Ok(Ok(text)) => ["kakeya_offered", call, "kakeya_answer"]
                .iter()
                .all(|part| text.contains(part)),
            _ => false,
        }
    }

    fn written(
        &self,
        template: &Template,
        chat: Chat<'_>,
    ) -> Result<Result<String, ChatTemplateError>, ApiError> {
        let unreadable =
            |error: serde_json::Error| ApiError::new(ErrorKind::Server, error.to_string());
        let value = |json: String| serde_json::from_str::<TemplateValue>(&json).map_err(unreadable);
        let input = ChatInput {
            messages: value(messages_json(chat.messages).map_err(unreadable)?)?,
            tools: tools_json(chat.tools)
                .map_err(unreadable)?
                .map(value)
                .transpose()?,
            add_generation_prompt: chat.add_generation_prompt,
            bos_token: self.bos.clone(),
            eos_token: self.eos.clone(),
            variables: chat.variables.map(variables_of).unwrap_or_default(),
        };
        Ok(template.compiled.render(&input))
    }
}

fn variables_of(given: &RawObject) -> Vec<(String, TemplateValue)> {
    given
        .fields()
        .iter()
        .map(|(name, value)| (name.clone(), TemplateValue::from_serialize(value)))
        .collect()
}

/// What a template refuses is wrong with the messages; the text is the template's own.
fn refused(error: &ChatTemplateError) -> ApiError {
    ApiError::invalid("messages", error.to_string())
}
