//! What a pass has found: logits, which of them is the greatest, what was drawn from them, and where sessions keep them.

use std::sync::Arc;

use cudarc::driver::result;

use super::run::CudaCompute;
use super::stream::LogitsOnDevice;
use crate::compute::{KeptLogits, SequenceInput, last_of};
use crate::device::CudaError;
use crate::draw::Draw;

/// What the device says of a row that the host is to draw: as in draw.cu.
const NOT_DRAWN: u32 = u32::MAX;

impl CudaCompute {
    pub(crate) fn logits(&self, index: usize) -> &[f32] {
        self.assert_not_ahead();
        let (vocabulary, part) = (self.config().vocabulary, self.plan.parts[index]);
        let all = self.logits.get_or_init(|| {
            let mut host = vec![0.0; self.plan.map.len() * vocabulary];
            let _ = self.scratch().logits.read(0, &mut host);
            host
        });
        &all[part.first_logits * vocabulary..][..part.logits * vocabulary]
    }

    pub(crate) fn greatest(&self, index: usize, row: usize) -> u32 {
        self.greatest_at(self.plan.parts[index].first_logits + row)
    }

    fn greatest_at(&self, at: usize) -> u32 {
        let rank = self.scratch().hosts[self.turn].ranks[at];
        u32::MAX - rank as u32
    }

    /// The token that was drawn from a row of logits, and how.
    fn drawn(&self, at: usize) -> Option<(Draw, u32)> {
        let asked = self.plan.draws.get(at);
        let draw = asked.filter(|draw| draw.temperature != 0.0)?;
        let token = self.scratch().hosts[self.turn].drawn[at];
        (token != NOT_DRAWN).then_some((*draw, token))
    }

    /// The token that a pass which was begun ahead goes on with after a row of logits: as `embed` in rows.cu finds it.
    pub(super) fn found_at(&self, at: usize) -> u32 {
        let drawn = self.drawn(at).map(|(_, token)| token);
        drawn.unwrap_or_else(|| self.greatest_at(at))
    }

    pub(crate) fn keep_logits(&self, index: usize, row: usize, to: &mut KeptLogits) {
        self.assert_not_ahead();
        let vocabulary = self.config().vocabulary;
        let at = self.plan.parts[index].first_logits + row;
        let from = at * vocabulary;
        let logits = &self.scratch().logits;
        let begun = to.begin_on_device(|there| {
            let there = self.room_for_logits(there)?;
            there
                .logits
                .copy(0, logits, from, vocabulary, self.stream.stream)?;
            Ok(there)
        });
        let begun = begun.map(drop);
        if begun.is_ok() {
            to.found(self.greatest(index, row), self.drawn(at));
        }
        if let Err(error) = begun {
            tracing::warn!(%error, "a session's logits are kept on the host");
            to.set(&self.logits(index)[row * vocabulary..][..vocabulary]);
        }
    }

    /// Where a session's logits are kept: where they were, if that is ours.
    fn room_for_logits(&self, there: Option<LogitsOnDevice>) -> Result<LogitsOnDevice, CudaError> {
        let vocabulary = self.config().vocabulary;
        let there = there.filter(|there| {
            there.logits.len() == vocabulary && Arc::ptr_eq(&there.stream, &self.stream)
        });
        there.map_or_else(|| LogitsOnDevice::new(&self.stream, vocabulary), Ok)
    }

    /// Says where the logits are kept that sessions want kept. Where there is no room they are fetched after the pass.
    pub(super) fn place_logits(&mut self, batch: &mut [SequenceInput<'_>]) {
        for (index, sequence) in batch.iter_mut().enumerate() {
            let part = self.plan.parts[index];
            let Some(kept) = sequence.kept.as_mut().filter(|_| part.logits > 0) else {
                continue;
            };
            match kept.begin_on_device(|there| self.room_for_logits(there)) {
                Ok(there) => {
                    self.plan.kept[part.first_logits + part.logits - 1] = there.logits.pointer();
                }
                Err(error) => tracing::warn!(%error, "a session's logits are kept on the host"),
            }
        }
    }

    /// Tells sessions what was found in the logits that they keep.
    pub(super) fn tell_found(&self, batch: &mut [SequenceInput<'_>]) {
        for (index, sequence) in batch.iter_mut().enumerate() {
            let part = self.plan.parts[index];
            let Some(kept) = sequence.kept.as_mut().filter(|_| part.logits > 0) else {
                continue;
            };
            let at = part.first_logits + part.logits - 1;
            match self.plan.kept[at] {
                0 => kept.set(last_of(self.logits(index), self.config().vocabulary)),
                _ => kept.found(self.greatest(index, part.logits - 1), self.drawn(at)),
            }
        }
    }

    pub(crate) fn states(&self, index: usize) -> &[f32] {
        self.assert_not_ahead();
        let (hidden, part) = (self.config().hidden, self.plan.parts[index]);
        let all = self.states.get_or_init(|| {
            let mut host = vec![0.0; self.plan.map.len() * hidden];
            for (row, to) in self.plan.map.iter().zip(host.chunks_exact_mut(hidden)) {
                let _ = self.scratch().residual.read(*row as usize * hidden, to);
            }
            host
        });
        &all[part.first_logits * hidden..][..part.logits * hidden]
    }

    /// Fetches what the pass whose turn it is finds, to where [`CudaCompute::greatest`] and the like look for it.
    pub(super) fn fetch_ranks(&mut self, turn: usize, count: usize) -> Result<(), CudaError> {
        if count == 0 {
            return Ok(());
        }
        let scratch = self.scratch.as_mut().expect("room was made");
        // SAFETY: both have so many, and the host's are not read before the pass was waited for.
        let fetched = unsafe {
            result::memcpy_dtoh_async(
                &mut scratch.hosts[turn].ranks[..count],
                scratch.ranks.pointer(),
                self.stream.stream,
            )
        };
        self.device.check("fetching what a pass has found", fetched)
    }

    pub(super) fn fetch_drawn(&mut self, turn: usize, count: usize) -> Result<(), CudaError> {
        let scratch = self.scratch.as_mut().expect("room was made");
        // SAFETY: as above.
        let fetched = unsafe {
            result::memcpy_dtoh_async(
                &mut scratch.hosts[turn].drawn[..count],
                scratch.drawn.pointer(),
                self.stream.stream,
            )
        };
        self.device.check("fetching what a pass has drawn", fetched)
    }
}
