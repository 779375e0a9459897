//! Answers to GET /v1/models and GET /v1/models/{id}.

use serde::Serialize;

use super::Kind;

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Model {
    id: String,
    object: Kind,
    created: u64,
    owned_by: String,
    max_model_len: u64,
    eos_token_ids: Vec<u32>,
}

impl Model {
    /// A model that is served since `created`, in seconds since 1970, with such a context, and the tokens that end
    /// what it says: what a client of gRPC opens its sessions with.
    pub fn new(
        id: impl Into<String>,
        created: u64,
        max_model_len: u64,
        eos_token_ids: Vec<u32>,
    ) -> Self {
        Self {
            id: id.into(),
            object: Kind::Model,
            created,
            owned_by: "kakeya".into(),
            max_model_len,
            eos_token_ids,
        }
    }
}

/// The models that are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelList {
    object: Kind,
    data: Vec<Model>,
}

impl ModelList {
    /// The list of these.
    pub fn new(data: Vec<Model>) -> Self {
        Self {
            object: Kind::List,
            data,
        }
    }
}
