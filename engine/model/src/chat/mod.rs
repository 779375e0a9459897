//! Chat templates: from messages to the text that a model was trained on.
//!
//! A model brings its template along, written in Jinja for the Python library `transformers`. It is rendered
//! here as that library does, by [`minijinja`] with Python's string methods and Python's way of writing JSON;
//! `gates/goldens` holds renderings to compare. A template is a program from outside: it has no access to
//! anything, a bound on its steps and on its text, and on what its filters take ([`bounds`]).

mod bounds;
mod error;
mod python;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value, context};

pub use error::ChatTemplateError;
/// A value that templates read. It is read from JSON by [`serde`], and keeps the order of the fields, which
/// models were trained on.
pub use minijinja::Value as TemplateValue;

/// Steps that one rendering may take: some hundred thousand messages, or a second of an endless loop.
const FUEL: u64 = 20_000_000;

/// The largest template that is compiled, in bytes. The largest known have some 30 kB.
const LARGEST: usize = 1 << 20;

/// The longest text that a template may make, in bytes: more than any context holds.
const LONGEST: usize = 64 << 20;

/// The name of the one template in its environment.
const NAME: &str = "chat";

/// A template as a model's files have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateText {
    /// `default`, or what else the files call it, such as `tool_use`.
    pub name: String,
    /// The text.
    pub text: String,
    /// Where it stands, for error messages: a file, and a key in it.
    pub source: String,
}

impl TemplateText {
    /// The name of the template that is used where none is named.
    pub const DEFAULT: &'static str = "default";
}

/// What a template is rendered with.
#[derive(Clone, Debug, Default)]
pub struct ChatInput {
    /// The messages, oldest first, each with at least a `role`.
    pub messages: TemplateValue,
    /// The tools that the model may call, as JSON schemas; `None` leaves the name undefined.
    pub tools: Option<TemplateValue>,
    /// Whether the text ends where the model is to answer.
    pub add_generation_prompt: bool,
    /// The texts of the tokens by which a sequence begins and ends; templates write the first themselves.
    pub bos_token: Option<String>,
    /// See `bos_token`.
    pub eos_token: Option<String>,
    /// Whatever else the template asks for, such as `enable_thinking`.
    pub variables: Vec<(String, TemplateValue)>,
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`ChatTemplateError`], with the template's source and the line.
    pub fn compile(template: &TemplateText) -> Result<Self, ChatTemplateError> {
        let source = template.source.clone();
        if template.text.len() > LARGEST {
            return Err(ChatTemplateError::TooLarge {
                template: source,
                size: template.text.len(),
                limit: LARGEST,
            });
        }
        let mut environment = Environment::new();
        // As `transformers` sets its own environment up.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_formatter(python::display);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python::to_json);
        environment.add_function("raise_exception", raise_exception);
        bounds::set(&mut environment);
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, template.text.clone())
            .map_err(|error| ChatTemplateError::from_jinja(&source, error))?;
        Ok(Self {
            environment,
            source,
        })
    }

    /// Renders the messages.
    ///
    /// # Errors
    /// [`ChatTemplateError`]: what the template itself refuses, what it cannot do with these messages, or that
    /// it does not come to an end.
    pub fn render(&self, input: &ChatInput) -> Result<String, ChatTemplateError> {
        let own = context! {
            messages => input.messages,
            add_generation_prompt => input.add_generation_prompt,
        };
        let optional = [
            ("tools", input.tools.clone()),
            ("bos_token", input.bos_token.clone().map(Value::from)),
            ("eos_token", input.eos_token.clone().map(Value::from)),
        ];
        let given = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .chain(input.variables.iter().cloned());
        let values = context! { ..Value::from_iter(given), ..own };
        let mut output = Output::default();
        let render = || {
            let template = self.environment.get_template(NAME)?;
            template.render_captured_to(values, &mut output).map(drop)
        };
        // The library counts on lengths that a template can make up.
        let Ok(rendered) = catch_unwind(AssertUnwindSafe(render)) else {
            return Err(ChatTemplateError::Panicked {
                template: self.source.clone(),
            });
        };
        match rendered {
            Ok(()) => {}
            Err(_) if output.full => {
                return Err(ChatTemplateError::TooLong {
                    template: self.source.clone(),
                    limit: LONGEST,
                });
            }
            Err(error) => return Err(ChatTemplateError::from_jinja(&self.source, error)),
        }
        Ok(output.text)
    }
}

/// Text of bounded length.
#[derive(Default)]
struct Output {
    text: String,
    /// Whether something did not fit.
    full: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > LONGEST - self.text.len() {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // A template writes whole strings.
        let text = std::str::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        self.text.push_str(text);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a template says that messages are not as it wants them.
fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    let refused = minijinja::Error::new(ErrorKind::InvalidOperation, "the template raised it");
    Err(refused.with_source(error::Raised(message)))
}
