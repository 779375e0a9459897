//! Proposers that say what a case wants, and engines that listen to them.

use std::sync::Arc;
use std::time::Duration;

use kakeya_core::{EngineHandle, GenerateParams, SessionId, SpeculationStats};
use kakeya_runtime::speculation::{
    Blocks, MAX_DRAFTS, Proposal, Proposer, ProposerError, Proposers,
};
use kakeya_runtime::{Engine, EngineConfig, Speculation, StepLoop};

use super::super::support::{Generated, PATIENCE, block_on, engine_with};
use crate::context::SuiteContext;
use crate::ensure_eq;
use kakeya_suite::{CaseFailure, CaseResult};

/// What a proposer says of a history, when it is asked for so many tokens.
type Say = dyn Fn(&[u32], usize) -> Result<Proposal, ProposerError> + Send + Sync;

/// Proposers that say what a function of the history says.
pub(super) struct Saying(Box<Say>);

impl Saying {
    /// Those tokens, of which the proposer is as sure as of any.
    pub(super) fn tokens(
        say: impl Fn(&[u32], usize) -> Vec<u32> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::answer(move |history, most| {
            Ok(Proposal {
                tokens: say(history, most),
                kind: 0,
            })
        })
    }

    /// What it says of a history.
    pub(super) fn say(&self, history: &[u32], most: usize) -> Result<Proposal, ProposerError> {
        (self.0)(history, most)
    }

    /// Any answer.
    pub(super) fn answer(
        say: impl Fn(&[u32], usize) -> Result<Proposal, ProposerError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self(Box::new(say)))
    }

    /// What comes next in `whole`, but for those positions that `wrong` picks: there another token.
    pub(super) fn what_comes(
        whole: Vec<u32>,
        vocabulary: u32,
        wrong: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::tokens(move |history, most| {
            let coming = whole.get(history.len()..).unwrap_or_default();
            let numbered = coming.iter().zip(history.len()..);
            let say = |(token, at): (&u32, usize)| match wrong(at) {
                true => (token + 1) % vocabulary,
                false => *token,
            };
            numbered.map(say).take(most).collect()
        })
    }
}

impl Proposers for Saying {
    fn name(&self) -> &'static str {
        "told"
    }

    fn start(self: Arc<Self>) -> Result<Box<dyn Proposer>, ProposerError> {
        Ok(Box::new(Told {
            of: self,
            history: Vec::new(),
        }))
    }
}

struct Told {
    of: Arc<Saying>,
    history: Vec<u32>,
}

impl Proposer for Told {
    fn extend(&mut self, tokens: &[u32], _: Option<&[f32]>) {
        self.history.extend_from_slice(tokens);
    }

    fn propose(&mut self, most: usize) -> Result<Proposal, ProposerError> {
        self.of.say(&self.history, most)
    }
}

/// Blocks of up to so many drafts, whether they pay or not.
pub(super) fn fixed(proposers: Arc<dyn Proposers>, most: usize) -> Speculation {
    Speculation {
        blocks: Blocks::Fixed(most),
        ..Speculation::new(proposers)
    }
}

/// Runs a case against a step loop whose sessions have a proposer. Gives its engine, with the sessions that are left, and
/// what was counted.
pub(super) fn speculating(
    context: &SuiteContext,
    config: &EngineConfig,
    speculation: Speculation,
    case: impl AsyncFnOnce(&EngineHandle) -> CaseResult,
) -> Result<(Engine, SpeculationStats), CaseFailure> {
    let config = EngineConfig {
        drafts: MAX_DRAFTS,
        ..config.clone()
    };
    let mut engine = engine_with(context, config)?;
    engine.speculate(speculation);
    let (handle, thread) = StepLoop::start(engine)?;
    let mut counts = SpeculationStats::default();
    block_on(PATIENCE, async {
        case(&handle).await?;
        counts = handle.stats().await?.speculation;
        handle.shutdown(Duration::ZERO).await?;
        Ok(())
    })?;
    drop(handle);
    Ok((thread.join(), counts))
}

/// A session with `prompt`.
pub(super) async fn session(
    engine: &EngineHandle,
    prompt: &[u32],
    eos: &[u32],
) -> Result<SessionId, CaseFailure> {
    let id = engine.create_session(String::new(), eos.to_vec()).await?;
    engine.append(id.clone(), prompt.to_vec()).await?;
    Ok(id)
}

/// Runs a generation to its end.
pub(super) async fn finish(
    engine: &EngineHandle,
    id: &SessionId,
    params: GenerateParams,
) -> Result<Generated, CaseFailure> {
    let mut events = engine.generate(id.clone(), params).await?;
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        all.push(event?);
    }
    Generated::read(&all)
}

/// Requires that nothing was found wrong with a proposer.
pub(super) fn ensure_no_fault(counts: &SpeculationStats) -> CaseResult {
    let SpeculationStats {
        too_many,
        out_of_vocabulary,
        failed,
        panicked,
        stalled,
        ..
    } = *counts;
    ensure_eq!(
        (too_many, out_of_vocabulary, failed, panicked, stalled),
        (0, 0, 0, 0, 0),
        "what was found wrong with the proposer"
    );
    Ok(())
}
