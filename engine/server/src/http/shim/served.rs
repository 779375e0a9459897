//! The model behind the shim, as far as texts are concerned.

use std::sync::Arc;
use std::time::SystemTime;

use kakeya_core::{StateSettings, Window};
use kakeya_model::Model;
use kakeya_model::tokenizer::{Tokenizer, TokenizerError};
use tokio::sync::Semaphore;

use super::templates::{Chat, Templates};
use crate::constrain::Compiler;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::requests::{Message, RawObject, Tool};

/// The model that is served.
#[derive(Debug)]
pub struct ServedModel {
    /// What requests call it.
    pub name: String,
    /// From text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Makes the grammars that its answers are held to.
    pub compiler: Arc<Compiler>,
    /// Tells answers of another model, numerics version or setting apart.
    pub fingerprint: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Positions that the model was trained for.
    pub context: usize,
    /// Token ids from 0 up to, and without, this.
    pub vocabulary: usize,
    /// Whether a session's tokens are bounded by the context.
    pub full_window: bool,
    /// Or why it cannot chat.
    templates: Result<Templates, String>,
    /// Places for texts that are read or rendered.
    cores: Arc<Semaphore>,
}

impl ServedModel {
    /// The model under `name`, with its own tokenizer and chat templates.
    #[must_use]
    pub fn new(
        name: String,
        model: &Model,
        tokenizer: Tokenizer,
        settings: &StateSettings,
    ) -> Self {
        let created = SystemTime::UNIX_EPOCH.elapsed();
        let tokenizer = Arc::new(tokenizer);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            name,
            cores: Arc::new(Semaphore::new(cores)),
            templates: Templates::of(&tokenizer),
            compiler: Arc::new(Compiler::new(Arc::clone(&tokenizer))),
            tokenizer,
            fingerprint: fingerprint(settings),
            created: created.map_or(0, |since| since.as_secs()),
            context: model.config().context,
            vocabulary: model.config().vocabulary,
            full_window: settings.window == Window::Full.to_string(),
        }
    }

    /// Requires that a request means this model.
    ///
    /// # Errors
    /// An unknown model.
    pub fn require(&self, name: &str) -> Result<(), ApiError> {
        if name == self.name {
            Ok(())
        } else {
            Err(ApiError::unknown_model(name, &self.name))
        }
    }

    /// The tokens of a text. The text of a control token stands for that token.
    ///
    /// # Errors
    /// A text that the vocabulary cannot spell.
    pub fn tokens(&self, param: &str, text: &str, whole: bool) -> Result<Vec<u32>, ApiError> {
        let encoded = if whole {
            self.tokenizer.encode_prompt(text, true)
        } else {
            self.tokenizer.encode(text, true)
        };
        encoded.map_err(|error| unspeakable(param, &error))
    }

    /// The text of tokens, with that of control tokens.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn text(&self, param: &str, tokens: &[u32]) -> Result<String, ApiError> {
        let decoded = self.tokenizer.decode(tokens, false);
        decoded.map_err(|error| ApiError::invalid(param, format!("`{param}`: {error}")))
    }

    /// The text that a chat becomes, as the model's template writes it.
    ///
    /// # Errors
    /// A model without a template, or messages that the template refuses.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Tool],
        variables: Option<&RawObject>,
        add_generation_prompt: bool,
    ) -> Result<String, ApiError> {
        let templates = self.templates.as_ref().map_err(|why| {
            let name = &self.name;
            let message = format!("the model `{name}` cannot chat: {why}; use /v1/completions");
            ApiError::new(ErrorKind::Unprocessable, message)
        })?;
        templates.render(Chat {
            messages,
            tools,
            variables,
            add_generation_prompt,
        })
    }

    /// Runs what keeps a core busy for long away from the threads that serve connections, on as many threads as there
    /// are cores at most.
    ///
    /// # Errors
    /// Those of `run`.
    pub async fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        run: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let lost = || ApiError::new(ErrorKind::Server, "a request was dropped unread");
        let place = Arc::clone(&self.cores).acquire_owned().await;
        let place = place.map_err(|_| lost())?;
        let model = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let done = run(&model);
            drop(place);
            done
        });
        work.await.map_err(|_| lost())?
    }
}

/// `fp_` and 16 hex digits, other ones for another model, numerics version or setting.
fn fingerprint(settings: &StateSettings) -> String {
    let digest = settings.digest();
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("fp_{hex}")
}

fn unspeakable(param: &str, error: &TokenizerError) -> ApiError {
    ApiError::invalid(param, format!("`{param}` has no tokens: {error}"))
}
