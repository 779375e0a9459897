//! Who guesses tokens ahead, for the commands that generate.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use kakeya_model::head::{DraftHead, HeadFile};
use kakeya_model::tokenizer::Tokenizer;
use kakeya_model::{ComputeOptions, LoadOptions, Model};
use kakeya_runtime::speculation::{
    DiffusionModel, DraftModel, HeadProposers, MAX_DRAFTS, PromptLookup, Proposers,
};
use kakeya_runtime::{Engine, EngineConfig, Speculation};

use super::memory::MemoryNeed;
use super::options::{EngineOptions, ModelSource};
use super::{Failure, engine, model};

/// Steps in which a diffusion model fills in a block, unless it is said.
const DIFFUSION_STEPS: usize = 4;

/// Flags about speculation.
#[derive(Debug, Clone, Args)]
pub struct ProposerArgs {
    /// Who guesses tokens ahead, to be verified together. It changes no token: `none`, `ngram` (what came after the
    /// last tokens when they came before), `draft=MODEL` (a smaller model with the same vocabulary, by its name in the
    /// catalogue or its path), `diffusion=MODEL` (a masked diffusion model with the same vocabulary, which fills in a block
    /// at once), or `head=FILE` (a head that was trained for this model by `kakeya align`)
    #[arg(long, value_name = "PROPOSER", default_value = "none")]
    proposer: ProposerChoice,
    /// The most tokens that are guessed at once, up to 16. How many it is at a time is decided by what pays
    #[arg(long, value_name = "N", default_value = "16", requires = "proposer", value_parser = draft_tokens)]
    draft_tokens: NonZeroUsize,
    /// With `diffusion=MODEL`, the steps in which a block is filled in [default: 4]
    #[arg(long, value_name = "N", requires = "proposer", value_parser = super::options::positive)]
    diffusion_steps: Option<NonZeroUsize>,
}

/// What `--proposer` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposerChoice {
    /// Nobody.
    None,
    /// Prompt lookup.
    Ngram,
    /// A draft model, by name or path.
    Draft(String),
    /// A diffusion model, by name or path.
    Diffusion(String),
    /// A trained head, by its file.
    Head(PathBuf),
}

impl FromStr for ProposerChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "none" => Ok(Self::None),
            None if text == "ngram" => Ok(Self::Ngram),
            Some(("draft", "")) | None if text.starts_with("draft") => Err(
                "name the draft model: `draft=NAME` of the catalogue, or `draft=PATH`".to_owned(),
            ),
            Some(("draft", model)) => Ok(Self::Draft(model.to_owned())),
            Some(("diffusion", "")) | None if text.starts_with("diffusion") => Err(
                "name the diffusion model: `diffusion=NAME` of the catalogue, or `diffusion=PATH`"
                    .to_owned(),
            ),
            Some(("diffusion", model)) => Ok(Self::Diffusion(model.to_owned())),
            Some(("head", "")) | None if text.starts_with("head") => {
                Err("name the file of the head: `head=FILE`".to_owned())
            }
            Some(("head", file)) => Ok(Self::Head(PathBuf::from(file))),
            _ => Err(
                "expected `none`, `ngram`, `draft=MODEL`, `diffusion=MODEL` or `head=FILE`"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for ProposerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Ngram => f.write_str("ngram"),
            Self::Draft(model) => write!(f, "draft={model}"),
            Self::Diffusion(model) => write!(f, "diffusion={model}"),
            Self::Head(file) => write!(f, "head={}", file.display()),
        }
    }
}

fn draft_tokens(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .ok()
        .filter(|count: &NonZeroUsize| count.get() <= MAX_DRAFTS)
        .ok_or_else(|| format!("expected a number from 1 to {MAX_DRAFTS}"))
}

impl ProposerArgs {
    /// What was chosen.
    #[must_use]
    pub fn choice(&self) -> &ProposerChoice {
        &self.proposer
    }

    /// Whether the tokenizer of the model is asked for, to compare it.
    #[must_use]
    pub fn needs_tokenizer(&self) -> bool {
        matches!(
            self.proposer,
            ProposerChoice::Draft(_) | ProposerChoice::Diffusion(_)
        )
    }

    /// The most drafts of a session in a pass, for [`EngineConfig::drafts`].
    #[must_use]
    pub fn drafts(&self) -> usize {
        match self.proposer {
            ProposerChoice::None => 0,
            _ => self.draft_tokens.get(),
        }
    }

    /// Loads what the proposer takes, which is to guess for `model`.
    ///
    /// # Errors
    /// When a draft model cannot be loaded, or has not the model's vocabulary.
    pub fn load(
        &self,
        options: &EngineOptions,
        model: &Arc<Model>,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Proposing, Failure> {
        if self.diffusion_steps.is_some() && !matches!(self.proposer, ProposerChoice::Diffusion(_))
        {
            return Err(Failure::usage(
                "--diffusion-steps is for --proposer diffusion=MODEL",
            ));
        }
        Ok(match &self.proposer {
            ProposerChoice::None => Proposing::None,
            ProposerChoice::Ngram => Proposing::Ngram,
            ProposerChoice::Draft(name) => {
                let draft = load_draft(("draft", name), options, model, tokenizer)?;
                Proposing::Draft(draft, options.clone())
            }
            ProposerChoice::Diffusion(name) => {
                let diffusion = load_draft(("diffusion", name), options, model, tokenizer)?;
                let flag = || format!("--proposer diffusion={name}");
                let mask = DiffusionModel::check(&diffusion, model).with_context(flag)?;
                let steps = self
                    .diffusion_steps
                    .map_or(DIFFUSION_STEPS, NonZeroUsize::get);
                Proposing::Diffusion(diffusion, (mask, steps), options.clone())
            }
            ProposerChoice::Head(path) => {
                let flag = || format!("--proposer head={}", path.display());
                let file = HeadFile::read(path).with_context(flag)?;
                let sha256 = model.source().sha256();
                let head = DraftHead::new(&file, model, &sha256).with_context(flag)?;
                Proposing::Head(Arc::new(head), Arc::clone(model), options.compute)
            }
        })
    }
}

/// A proposer that is loaded and not yet at work.
#[derive(Debug)]
pub enum Proposing {
    /// Nobody guesses.
    None,
    /// Prompt lookup.
    Ngram,
    /// A draft model, and what it runs on.
    Draft(Arc<Model>, EngineOptions),
    /// A diffusion model, its mask token and the steps of a block, and what it runs on.
    Diffusion(Arc<Model>, (u32, usize), EngineOptions),
    /// A head, its model, and what it runs on.
    Head(Arc<DraftHead>, Arc<Model>, ComputeOptions),
}

impl Proposing {
    /// What an engine needs together with its proposer. Each session has a cache with the draft model as well.
    ///
    /// # Errors
    /// When a session's cache is larger than the address space.
    pub fn need(&self, need: MemoryNeed, config: &EngineConfig) -> anyhow::Result<MemoryNeed> {
        let draft = match self {
            Self::None | Self::Ngram => return Ok(need),
            Self::Head(head, ..) => {
                let model_bytes = need.model_bytes + head.weight_bytes() as u64;
                return Ok(MemoryNeed {
                    model_bytes,
                    ..need
                });
            }
            Self::Draft(draft, _) | Self::Diffusion(draft, ..) => draft,
        };
        let config = EngineConfig {
            active: 1,
            drafts: 0,
            prefix_cache_bytes: 0,
            ..config.clone()
        };
        let more = engine::need(draft, &config)?;
        Ok(MemoryNeed {
            slab_bytes: need.slab_bytes.saturating_add(more.slab_bytes),
            model_bytes: need.model_bytes.saturating_add(more.model_bytes),
            scratch_bytes: need.scratch_bytes.saturating_add(more.scratch_bytes),
            ..need
        })
    }

    /// Where the proposers of `capacity` sessions come from; `None` where nobody guesses.
    ///
    /// # Errors
    /// When a draft model's caches or threads cannot be had.
    pub fn proposers(&self, config: &EngineConfig) -> anyhow::Result<Option<Arc<dyn Proposers>>> {
        Ok(match self {
            Self::None => None,
            Self::Ngram => Some(Arc::new(PromptLookup)),
            Self::Head(head, model, compute) => {
                let (head, model) = (Arc::clone(head), Arc::clone(model));
                Some(Arc::new(HeadProposers::new(head, model, *compute)?))
            }
            Self::Diffusion(diffusion, (mask, steps), options) => Some(Arc::new(
                DiffusionModel::new(
                    (Arc::clone(diffusion), *mask),
                    *steps,
                    config.cache,
                    config.kv,
                    config.capacity,
                    options.compute,
                )
                .context("--proposer")?,
            )),
            Self::Draft(draft, options) => Some(Arc::new(
                DraftModel::new(
                    Arc::clone(draft),
                    config.cache,
                    config.kv,
                    config.capacity,
                    options.compute,
                )
                .context("--proposer")?,
            )),
        })
    }

    /// Lets it guess for the sessions of `engine`.
    ///
    /// # Errors
    /// As [`Proposing::proposers`].
    pub fn start(&self, engine: &mut Engine) -> anyhow::Result<()> {
        if let Some(proposers) = self.proposers(engine.config())? {
            tracing::info!(proposer = proposers.name(), "tokens are guessed ahead");
            engine.speculate(Speculation::new(proposers));
        }
        Ok(())
    }
}

fn load_draft(
    (kind, name): (&str, &str),
    options: &EngineOptions,
    model: &Model,
    tokenizer: Option<&Tokenizer>,
) -> Result<Arc<Model>, Failure> {
    let source = if is_path(name) {
        ModelSource::File(PathBuf::from(name))
    } else {
        ModelSource::Named(Some(name.to_owned()))
    };
    let options = EngineOptions {
        source,
        load: LoadOptions::default(),
        ..options.clone()
    };
    let flag = || format!("--proposer {kind}={name}");
    let (draft, its_tokenizer) = match model::load_with_tokenizer(&options) {
        Ok(loaded) => loaded,
        Err(Failure::Run(error)) => return Err(Failure::Run(error.context(flag()))),
        Err(other) => return Err(other),
    };
    DraftModel::check(&draft, model).with_context(flag)?;
    let tokenizer = tokenizer
        .context("the model has no tokenizer to compare the draft model's with")
        .with_context(flag)?;
    if let Some(id) = first_difference(tokenizer, &its_tokenizer) {
        let text = |tokenizer: &Tokenizer| tokenizer.token_text(id).unwrap_or_default().to_owned();
        return Err(anyhow::anyhow!(
            "token {id} is {:?} for the model and {:?} for the draft model: a draft needs the same vocabulary",
            text(tokenizer),
            text(&its_tokenizer)
        )
        .context(flag())
        .into());
    }
    Ok(draft)
}

/// What is there, or looks like nothing that the catalogue could have.
fn is_path(name: &str) -> bool {
    let path = Path::new(name);
    path.components().count() > 1
        || path.extension().is_some_and(|end| end == "gguf")
        || path.exists()
}

/// The first token that stands for another text.
fn first_difference(one: &Tokenizer, other: &Tokenizer) -> Option<u32> {
    let count = one.vocab_size().max(other.vocab_size()) as u32;
    (0..count).find(|id| one.token_text(*id) != other.token_text(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_shown() {
        for text in [
            "none",
            "ngram",
            "draft=smollm2-135m",
            "draft=a/b=c.gguf",
            "head=h.safetensors",
        ] {
            let choice: ProposerChoice = text.parse().expect("a choice");
            assert_eq!(choice.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_choice_says_what_is() {
        for (text, part) in [
            ("draft", "draft=PATH"),
            ("draft=", "draft=PATH"),
            (
                "n-gram",
                "`none`, `ngram`, `draft=MODEL`, `diffusion=MODEL` or `head=FILE`",
            ),
            (
                "heads=x",
                "`none`, `ngram`, `draft=MODEL`, `diffusion=MODEL` or `head=FILE`",
            ),
            ("diffusion=", "diffusion=PATH"),
            ("diffusion", "diffusion=PATH"),
            ("head=", "head=FILE"),
            ("head", "head=FILE"),
            ("", "`none`"),
        ] {
            let error = text.parse::<ProposerChoice>().expect_err("no choice");
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in ["0", "17", "-1", "many"] {
            assert!(draft_tokens(text).is_err_and(|error| error.contains("1 to 16")));
        }
    }

    #[test]
    fn names_are_told_from_paths() {
        for path in ["./draft", "a/b", "draft.gguf", "/x"] {
            assert!(is_path(path), "{path}");
        }
        for name in ["smollm2-135m", "qwen3-0.6b"] {
            assert!(!is_path(name), "{name}");
        }
    }
}
