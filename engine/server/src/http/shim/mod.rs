//! The OpenAI-compatible door joined with the engine: each answer is a single generation, in a session of its own that
//! ends with it.

mod answer;
mod chat;
mod chat_reply;
mod collect;
mod completions;
mod models;
mod probabilities;
mod serve;
mod served;
mod slots;
mod templates;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use kakeya_core::{Constraint, EngineHandle, GenerateParams, Sampling};
use tokio_util::sync::CancellationToken;

use super::body::{method_not_allowed, unknown_route};
use super::error::ApiError;
use super::requests::SamplingSettings;
use super::responses::Head;
use answer::{Answer, Wanted};
pub use serve::serve;
pub use served::ServedModel;
pub use slots::Slots;

/// What the routes share.
#[derive(Debug)]
pub struct Shim {
    /// The engine.
    pub engine: EngineHandle,
    /// The model behind it.
    pub model: Arc<ServedModel>,
    /// Places for answers under way.
    pub slots: Slots,
    /// Cancelled when the server is told to stop.
    pub stopping: CancellationToken,
}

type Shared = axum::extract::State<Arc<Shim>>;

/// The routes.
pub fn router(shim: Arc<Shim>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/tokenize", post(models::tokenize))
        .route("/detokenize", post(models::detokenize))
        .route("/healthz", get(models::live))
        .route("/readyz", get(models::ready))
        .route("/openapi.json", get(models::described))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(shim)
}

/// What a request asks for, whichever route it came by.
struct Asked {
    /// Each has `n` answers.
    prompts: Vec<Vec<u32>>,
    n: u32,
    max_tokens: u32,
    stop: Vec<String>,
    sampling: SamplingSettings,
    logprobs: Option<u32>,
    /// What the answers are held to.
    constraint: Option<Constraint>,
}

impl Shim {
    /// Begins all answers of a request: those of the first prompt, then those of the next.
    async fn begin(&self, asked: Asked) -> Result<Vec<Answer>, ApiError> {
        let all = self.slots.all();
        let count = asked.prompts.len() * asked.n as usize;
        if count > all {
            let message = format!(
                "{} prompts with `n` {} are {count} answers, and this server makes at most {all} at once",
                asked.prompts.len(),
                asked.n
            );
            return Err(ApiError::invalid("n", message));
        }
        let slot = Arc::new(self.slots.take(count as u32).await?);
        let mut answers = Vec::with_capacity(count);
        for prompt in &asked.prompts {
            for number in 0..asked.n {
                let wanted = Wanted {
                    prompt: prompt.clone(),
                    params: asked.params(number),
                    stop: asked.stop.clone(),
                };
                let model = Arc::clone(&self.model);
                answers.push(Answer::start(&self.engine, model, wanted, Arc::clone(&slot)).await?);
            }
        }
        Ok(answers)
    }

    /// What every piece of an answer begins with.
    fn head(&self, prefix: &str) -> Head {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
        Head {
            id: format!("{prefix}-{}", uuid::Uuid::new_v4().simple()),
            created: since.map_or(0, |since| since.as_secs()),
            model: self.model.name.clone(),
            system_fingerprint: Some(self.model.fingerprint.clone()),
        }
    }
}

impl Asked {
    /// The engine's settings of answer `number` to a prompt. With a seed, each of several answers has one of its own.
    fn params(&self, number: u32) -> GenerateParams {
        let settings = &self.sampling;
        GenerateParams {
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: settings.temperature,
                top_p: settings.top_p,
                top_k: settings.top_k,
                min_p: settings.min_p,
                presence_penalty: settings.presence_penalty,
                frequency_penalty: settings.frequency_penalty,
                repetition_penalty: settings.repetition_penalty,
                seed: settings
                    .seed
                    .map(|seed| seed.wrapping_add(u64::from(number))),
            },
            logit_bias: settings
                .logit_bias
                .iter()
                .map(|(token, bias)| (*token, *bias))
                .collect(),
            stop: Vec::new(),
            top_logprobs: self.logprobs,
            constraint: self.constraint.clone(),
        }
    }

    /// Tokens of all prompts, counted once for each.
    fn prompt_tokens(&self) -> u64 {
        self.prompts.iter().map(|prompt| prompt.len() as u64).sum()
    }
}
