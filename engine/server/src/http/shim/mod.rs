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
mod sessions;
mod slots;
mod spent;
mod templates;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use kakeya_core::{Constraint, EngineHandle, GenerateParams, Sampling};
use tokio_util::sync::CancellationToken;

use super::body::{method_not_allowed, unknown_route};
use super::error::ApiError;
use super::page;
use super::probes;
use super::requests::SamplingSettings;
use super::responses::Head;
use crate::metrics::{self, Metrics};
use answer::{Answer, Wanted};
pub use serve::serve;
pub use served::ServedModel;
pub use slots::Slots;
use spent::Spent;

/// What the routes share.
#[derive(Debug)]
pub struct Shim {
    /// The engine.
    pub engine: EngineHandle,
    /// The model behind it.
    pub model: Arc<ServedModel>,
    /// Places for answers under way.
    pub slots: Slots,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server is told to stop.
    pub stopping: CancellationToken,
}

type Shared = axum::extract::State<Arc<Shim>>;

/// The routes.
pub fn router(shim: Arc<Shim>) -> Router {
    let probes = probes::router(shim.engine.clone(), shim.stopping.clone());
    let metrics = metrics::router(Arc::clone(&shim.metrics));
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/tokenize", post(models::tokenize))
        .route("/detokenize", post(models::detokenize))
        .route("/v1/sessions", get(sessions::list).post(sessions::create))
        .route(
            "/v1/sessions/{id}",
            get(sessions::info).delete(sessions::close),
        )
        .route(
            "/v1/sessions/{id}/tokens",
            get(sessions::history).post(sessions::append),
        )
        .route("/v1/sessions/{id}/generate", post(sessions::generate))
        .route("/openapi.json", get(models::described))
        .with_state(shim)
        .merge(probes)
        .merge(metrics)
        .merge(page::router())
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
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
    async fn begin(&self, engine: &EngineHandle, asked: Asked) -> Result<Vec<Answer>, ApiError> {
        let limits = engine.tenant().limits();
        let theirs = limits
            .max_streams
            .into_iter()
            .chain(limits.max_sessions)
            .min();
        let all = self
            .slots
            .all()
            .min(theirs.map_or(usize::MAX, |theirs| theirs as usize));
        let count = asked.prompts.len() * asked.n as usize;
        if count > all {
            let message = format!(
                "{} prompts with `n` {} are {count} answers, and at most {all} are made at once",
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
                    owner: engine.tenant().prefix_owner(),
                };
                let model = Arc::clone(&self.model);
                answers.push(Answer::start(engine, model, wanted, Arc::clone(&slot)).await?);
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
            sampling: sampling(settings, number),
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

    /// What it takes, of which so far the prompts are known.
    fn spent(&self) -> Spent {
        let prompts = self.prompts.iter().map(|prompt| prompt.len() as u64);
        Spent::new(prompts.sum(), self.n)
    }
}

/// How the tokens of answer `number` are drawn.
fn sampling(settings: &SamplingSettings, number: u32) -> Sampling {
    Sampling {
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
    }
}
