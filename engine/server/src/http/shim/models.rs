//! The small routes: models and tokens.

use axum::Json;
use axum::extract::Path;

use super::{ServedModel, Shared};
use crate::http::body::ApiJson;
use crate::http::error::ApiError;
use crate::http::openapi::document;
use crate::http::requests::{DetokenizeBody, TokenizeBody, TokenizeInput, TokenizeRequest};
use crate::http::responses::{Detokenized, Model, ModelList, Tokenized};

pub(super) async fn list(axum::extract::State(shim): Shared) -> Json<ModelList> {
    Json(ModelList::new(vec![described_model(&shim.model)]))
}

fn described_model(model: &ServedModel) -> Model {
    Model::new(
        &model.name,
        model.created,
        model.context as u64,
        model.tokenizer.end_of_generation().collect(),
    )
}

pub(super) async fn retrieve(
    axum::extract::State(shim): Shared,
    Path(id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    shim.model.require(&id)?;
    Ok(Json(described_model(&shim.model)))
}

pub(super) async fn tokenize(
    axum::extract::State(shim): Shared,
    ApiJson(body): ApiJson<TokenizeBody>,
) -> Result<Json<Tokenized>, ApiError> {
    let request = body.validate()?;
    request
        .model
        .as_deref()
        .map_or(Ok(()), |name| shim.model.require(name))?;
    let read = move |model: &ServedModel| tokenized(model, request);
    shim.model.apart(read).await.map(Json)
}

fn tokenized(model: &ServedModel, request: TokenizeRequest) -> Result<Tokenized, ApiError> {
    let tokens = match request.input {
        TokenizeInput::Text {
            prompt,
            add_special_tokens,
        } => model.tokens("prompt", &prompt, add_special_tokens)?,
        TokenizeInput::Chat {
            messages,
            tools,
            add_generation_prompt,
            template_variables,
        } => {
            let variables = template_variables.as_ref();
            let text = model.render(&messages, &tools, variables, add_generation_prompt)?;
            model.tokens("messages", &text, false)?
        }
    };
    let texts = request.with_texts.then(|| {
        let text = |token: &u32| model.text("tokens", &[*token]);
        tokens.iter().map(text).collect::<Result<_, _>>()
    });
    let texts = texts.transpose()?;
    Ok(Tokenized::new(tokens, texts, model.context as u64))
}

pub(super) async fn detokenize(
    axum::extract::State(shim): Shared,
    ApiJson(body): ApiJson<DetokenizeBody>,
) -> Result<Json<Detokenized>, ApiError> {
    let request = body.validate()?;
    request
        .model
        .as_deref()
        .map_or(Ok(()), |name| shim.model.require(name))?;
    let read = move |model: &ServedModel| model.text("tokens", &request.tokens);
    let prompt = shim.model.apart(read).await?;
    Ok(Json(Detokenized { prompt }))
}

/// What all routes take and answer.
pub(super) async fn described(axum::extract::State(shim): Shared) -> Json<serde_json::Value> {
    Json(document(&shim.model.name))
}
