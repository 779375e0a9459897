//! The pass that comes next, begun before the host has seen what the last one found.
//!
//! Where every session of a pass has one token and says that it goes on with what is found after it, the next pass needs
//! nothing of the host but its plan: its tokens are where the last pass has put them. So it is queued at once, and while it
//! runs the host tells clients what the last one found, and asks for the next. Where that is the one that runs, it has only
//! to be waited for; else what it made is dropped, as drafts are that were not accepted.

use bytemuck::Zeroable;
use kakeya_core::{AheadStats, KvStorage};

use super::plan::{Plan, Which};
use super::run::{CudaCompute, Launched};
use super::slab::SlabOnDevice;
use crate::compute::{LogitRows, SequenceInput};
use crate::device::CudaError;
use crate::draw::Draw;
use crate::model::Model;

/// Passes that are not begun ahead after one was dropped, at most.
const MOST_HELD_BACK: u32 = 64;

/// What is begun ahead.
#[derive(Debug, Default)]
pub(super) struct Begun {
    launched: Option<Launched>,
    /// That pass's plan, or the allocation of one; and how often each slab had been filled from elsewhere.
    plan: Plan,
    filled: Vec<u64>,
    record: Record,
}

/// What became of passes that were begun ahead. A pass that is dropped is paid for all the same, and where sessions come and
/// go at every step each would be: after one, some are held back, and twice as many each time until one is taken.
#[derive(Debug, Default)]
struct Record {
    passes: AheadStats,
    /// Passes that are held back still, and as many as were the last time.
    left: u32,
    held_back: u32,
}

impl Record {
    fn taken(&mut self) {
        self.passes.taken += 1;
        self.held_back = 0;
    }

    fn dropped(&mut self) {
        self.passes.dropped += 1;
        self.held_back = (2 * self.held_back).clamp(1, MOST_HELD_BACK);
        self.left = self.held_back;
    }

    /// None could be begun: there was no room for what it makes.
    fn failed(&mut self) {
        self.held_back = MOST_HELD_BACK;
        self.left = MOST_HELD_BACK;
    }

    /// Whether another may be begun; asked once for each pass.
    fn may_begin(&mut self) -> bool {
        let may = self.left == 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

impl CudaCompute {
    /// Takes the pass that was begun ahead for the one of this batch, if that is what it is.
    pub(super) fn take_ahead(&mut self, batch: &mut [SequenceInput<'_>]) -> Option<Launched> {
        let launched = self.ahead.launched.take()?;
        if !self.is_ahead(batch) {
            self.ahead.record.dropped();
            return None;
        }
        self.ahead.record.taken();
        std::mem::swap(&mut self.plan, &mut self.ahead.plan);
        self.turn = 1 - self.turn;
        for kept in batch
            .iter_mut()
            .filter_map(|sequence| sequence.kept.as_mut())
        {
            kept.turn();
        }
        Some(launched)
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
                    && slab_of(sequence).is_some_and(|slab| {
                        let there = slab.pointers() == (place.elements, place.scales);
                        there && slab.filled() == self.ahead.filled[index]
                    })
                    && *layout == *sequence.layout
                    && plan.parts[index].start == sequence.start
                    && plan.draws[index] == sequence.draw.unwrap_or_else(Draw::zeroed)
                    && self.found_at(index) == sequence.tokens[0]
            })
    }

    /// Begins with the pass that comes after that of `batch`, if it is known already. `element` is the type of its slabs' elements.
    pub(super) fn go_ahead(
        &mut self,
        model: &Model,
        batch: &mut [SequenceInput<'_>],
        element: u32,
    ) {
        let known = |sequence: &SequenceInput<'_>| {
            is_step(sequence) && sequence.ahead.is_some() && slab_of(sequence).is_some()
        };
        if batch.is_empty() || !batch.iter().all(known) {
            return;
        }
        if !self.ahead.record.may_begin() {
            return;
        }
        match self.begin_ahead(model, batch, element) {
            Ok(launched) => {
                if launched.is_none() {
                    self.ahead.record.failed();
                }
                self.ahead.launched = launched;
            }
            // Where it is the device that has failed, the next pass will say so.
            Err(error) => {
                self.ahead.record.failed();
                tracing::warn!(%error, "no pass is begun ahead for some time");
            }
        }
    }

    fn begin_ahead(
        &mut self,
        model: &Model,
        batch: &mut [SequenceInput<'_>],
        element: u32,
    ) -> Result<Option<Launched>, CudaError> {
        let mut plan = std::mem::take(&mut self.ahead.plan);
        plan.make(model, self.model().places, batch, Which::Next);
        self.ahead.filled.clear();
        for (index, sequence) in batch.iter_mut().enumerate() {
            if let Some(slab) = slab_of(sequence) {
                let (elements, scales) = slab.pointers();
                plan.sequences[index].elements = elements;
                plan.sequences[index].scales = scales;
                self.ahead.filled.push(slab.filled());
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

    pub(crate) fn passes_ahead(&self) -> AheadStats {
        self.ahead.record.passes
    }

    /// Forgets the pass that was begun ahead.
    pub(super) fn drop_ahead(&mut self) {
        if self.ahead.launched.take().is_some() {
            self.ahead.record.dropped();
        }
    }

    /// What the last pass has left in the scratch memory is there only as long as nothing was begun after it.
    pub(super) fn assert_not_ahead(&self) {
        assert!(
            self.ahead.launched.is_none(),
            "whoever ran the last pass has said that only what is kept of it is looked at"
        );
    }
}

/// A session's slab, if a device has it.
fn slab_of<'a>(sequence: &'a SequenceInput<'_>) -> Option<&'a SlabOnDevice> {
    let KvStorage::Device(device) = &*sequence.storage else {
        return None;
    };
    device.as_any().downcast_ref()
}

/// Whether it is one token, the logits after which are wanted.
fn is_step(sequence: &SequenceInput<'_>) -> bool {
    sequence.tokens.len() == 1 && sequence.logits == LogitRows::Last && !sequence.both_ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_that_are_dropped_again_and_again_are_begun_less_and_less_often() {
        let mut record = Record::default();
        let mut begun = Vec::new();
        for pass in 0..300 {
            if record.may_begin() {
                begun.push(pass);
                record.dropped();
            }
        }
        assert_eq!(begun, [0, 2, 5, 10, 19, 36, 69, 134, 199, 264]);
        record.left = 0;
        record.taken();
        assert!(record.may_begin());
        record.dropped();
        assert!(!record.may_begin());
        assert!(record.may_begin(), "one that was taken makes up for them");
        let expected = AheadStats {
            taken: 1,
            dropped: 11,
        };
        assert_eq!(record.passes, expected);
    }
}
