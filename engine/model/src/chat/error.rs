//! What can be wrong with a template, or with messages for it.

use minijinja::ErrorKind;
use thiserror::Error;

/// Why a chat template could not be compiled or rendered. `template` is where the template stands.
#[derive(Debug, Error)]
pub enum ChatTemplateError {
    /// It is not a template, or one with parts that are not known here.
    #[error("the chat template in {template} is not valid at line {line}: {detail}")]
    Invalid {
        /// The template's source.
        template: String,
        /// The line in it, from 1; 0 where none is known.
        line: usize,
        /// What is wrong there.
        detail: String,
    },
    /// It was compiled and could not be rendered with these messages.
    #[error("the chat template in {template} fails at line {line}: {detail}")]
    Failed {
        /// The template's source.
        template: String,
        /// The line in it, from 1; 0 where none is known.
        line: usize,
        /// What went wrong there.
        detail: String,
    },
    /// The template itself refused the messages.
    #[error("the chat template in {template} refuses the messages at line {line}: {message}")]
    Refused {
        /// The template's source.
        template: String,
        /// The line in it, from 1; 0 where none is known.
        line: usize,
        /// What it says.
        message: String,
    },
    /// It takes more steps than any sensible template.
    #[error("the chat template in {template} does not come to an end: stopped at line {line}")]
    Endless {
        /// The template's source.
        template: String,
        /// The line in it, from 1; 0 where none is known.
        line: usize,
    },
    /// It makes more text than any sensible template.
    #[error("the chat template in {template} makes a text of more than {limit} bytes")]
    TooLong {
        /// The template's source.
        template: String,
        /// The most that is kept.
        limit: usize,
    },
    /// It asks for what the template library cannot do.
    #[error("the chat template in {template} asks for a length that no memory has")]
    Panicked {
        /// The template's source.
        template: String,
    },
    /// It is larger than any template known.
    #[error("the chat template in {template} has {size} bytes, expected at most {limit}")]
    TooLarge {
        /// The template's source.
        template: String,
        /// Its length in bytes.
        size: usize,
        /// The most that is compiled.
        limit: usize,
    },
}

/// The message that a template raised.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

impl ChatTemplateError {
    pub(super) fn from_jinja(template: &str, error: minijinja::Error) -> Self {
        let template = template.to_owned();
        let line = error.line().unwrap_or(0);
        // An error inside a macro or an include comes wrapped, with the cause underneath.
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(at) = cause {
            if let Some(Raised(message)) = at.downcast_ref::<Raised>() {
                let message = message.clone();
                return Self::Refused {
                    template,
                    line,
                    message,
                };
            }
            let kind = at
                .downcast_ref::<minijinja::Error>()
                .map(minijinja::Error::kind);
            if kind == Some(ErrorKind::OutOfFuel) {
                return Self::Endless { template, line };
            }
            cause = at.source();
        }
        let kind = error.kind();
        let detail = match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        };
        match kind {
            ErrorKind::SyntaxError => Self::Invalid {
                template,
                line,
                detail,
            },
            _ => Self::Failed {
                template,
                line,
                detail,
            },
        }
    }
}
