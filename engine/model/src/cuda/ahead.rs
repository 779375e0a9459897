//! The pass that comes next, begun before the host has seen what the last one found.
//!
//! Where every session of a pass has one token and says that it goes on with what is found after it, the next pass needs
//! nothing of the host but its plan: its tokens are where the last pass has put them. So it is queued at once, and while it
//! runs the host tells clients what the last one found, and asks for the next. Where that is the one that runs, it has only
//! to be waited for; else what it made is dropped, as drafts are that were not accepted.

use bytemuck::Zeroable;
use kakeya_core::KvStorage;

use super::plan::{Plan, Which};
use super::run::{CudaCompute, Launched};
use super::slab::SlabOnDevice;
use crate::compute::{LogitRows, PassesAhead, SequenceInput};
use crate::device::CudaError;
use crate::draw::Draw;
use crate::model::Model;

/// Passes that are not begun ahead after one was dropped, at most: twice as many each time.
const MOST_HELD_BACK: u32 = 64;

/// What is begun ahead.
#[derive(Debug, Default)]
pub(super) struct Begun {
    launched: Option<Launched>,
    /// That pass's plan, or the allocation of one.
    plan: Plan,
    /// Passes that are held back still, and as many as the next time that one is dropped.
    left: u32,
    held_back: u32,
    passes: PassesAhead,
}

impl CudaCompute {
    /// Takes the pass that was begun ahead for the one of this batch, if that is what it is.
    pub(super) fn take_ahead(&mut self, batch: &mut [SequenceInput<'_>]) -> bool {
        let Some(launched) = self.ahead.launched.take() else {
            return false;
        };
        let taken = self.is_ahead(batch);
        if !taken {
            self.ahead.passes.dropped += 1;
            self.ahead.held_back = (2 * self.ahead.held_back).clamp(1, MOST_HELD_BACK);
            self.ahead.left = self.ahead.held_back;
            return false;
        }
        self.ahead.passes.taken += 1;
        self.ahead.held_back = 0;
        std::mem::swap(&mut self.plan, &mut self.ahead.plan);
        self.turn = 1 - self.turn;
        self.running = Some(launched);
        for kept in batch
            .iter_mut()
            .filter_map(|sequence| sequence.kept.as_mut())
        {
            kept.turn();
        }
        true
    }

    /// Whether the batch is what the pass that was begun ahead is about.
    fn is_ahead(&self, batch: &[SequenceInput<'_>]) -> bool {
        let plan = &self.ahead.plan;
        batch.len() == plan.parts.len()
            && batch.iter().enumerate().all(|(index, sequence)| {
                let kept = match &sequence.kept {
                    None => plan.kept[index] == 0,
                    Some(kept) => kept
                        .on_device()
                        .is_some_and(|there| there.has_spare_at(plan.kept[index])),
                };
                let place = &plan.sequences[index];
                let layout = &plan.layouts[place.layout as usize];
                is_step(sequence)
                    && kept
                    && self.slab_of(sequence) == Some((place.elements, place.scales))
                    && *layout == *sequence.layout
                    && plan.parts[index].start == sequence.start
                    && plan.draws[index] == sequence.draw.unwrap_or_else(Draw::zeroed)
                    && self.found_at(index) == sequence.tokens[0]
            })
    }

    /// Begins with the pass that comes after that of `batch`, if it is known already.
    pub(super) fn go_ahead(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) {
        let known = |sequence: &SequenceInput<'_>| {
            is_step(sequence) && sequence.ahead.is_some() && self.slab_of(sequence).is_some()
        };
        if batch.is_empty() || !batch.iter().all(known) {
            return;
        }
        if self.ahead.left > 0 {
            self.ahead.left -= 1;
            return;
        }
        match self.begin_ahead(model, batch) {
            Ok(launched) => self.ahead.launched = launched,
            // Where it is the device that has failed, the next pass will say so.
            Err(error) => tracing::warn!(%error, "no pass is begun ahead"),
        }
    }

    fn begin_ahead(
        &mut self,
        model: &Model,
        batch: &mut [SequenceInput<'_>],
    ) -> Result<Option<Launched>, CudaError> {
        let Some(element) = self.running.map(|running| running.shape.element) else {
            return Ok(None);
        };
        let mut plan = std::mem::take(&mut self.ahead.plan);
        plan.make(model, self.model().places, batch, Which::Next);
        for (index, sequence) in batch.iter_mut().enumerate() {
            if let Some((elements, scales)) = self.slab_of(sequence) {
                plan.sequences[index].elements = elements;
                plan.sequences[index].scales = scales;
            }
            if let Some(kept) = &mut sequence.kept {
                match kept.make_spare() {
                    Some(spare) => plan.kept[index] = spare?,
                    // It is kept on the host.
                    None => {
                        self.ahead.plan = plan;
                        return Ok(None);
                    }
                }
            }
        }
        // What was launched is of the plan that is in place meanwhile.
        std::mem::swap(&mut self.plan, &mut plan);
        let launched = self.launch_plan(1 - self.turn, element, false);
        std::mem::swap(&mut self.plan, &mut plan);
        self.ahead.plan = plan;
        launched.map(Some)
    }

    pub(crate) fn passes_ahead(&self) -> PassesAhead {
        self.ahead.passes
    }

    /// Forgets the pass that was begun ahead.
    pub(super) fn drop_ahead(&mut self) {
        if self.ahead.launched.take().is_some() {
            self.ahead.passes.dropped += 1;
        }
    }

    /// What the last pass has left in the scratch memory is there only as long as nothing was begun after it.
    pub(super) fn assert_not_ahead(&self) {
        assert!(
            self.ahead.launched.is_none(),
            "whoever ran the last pass has said that only what is kept of it is looked at"
        );
    }

    /// Where a slab lies that this device has.
    fn slab_of(&self, sequence: &SequenceInput<'_>) -> Option<(u64, u64)> {
        let KvStorage::Device(device) = &*sequence.storage else {
            return None;
        };
        let slab = device.as_any().downcast_ref::<SlabOnDevice>()?;
        Some(slab.pointers())
    }
}

/// Whether it is one token, the logits after which are wanted.
fn is_step(sequence: &SequenceInput<'_>) -> bool {
    sequence.tokens.len() == 1 && sequence.logits == LogitRows::Last && !sequence.both_ways
}
