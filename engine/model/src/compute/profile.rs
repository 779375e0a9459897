//! Where the time of a forward pass goes.

use std::time::{Duration, Instant};

/// The parts of a forward pass, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Token embeddings and rotary angles.
    Embed,
    /// Root-mean-square normalisation before attention and before the feed-forward layer.
    Norm,
    /// The products that make queries, keys and values.
    QueryKeyValue,
    /// Rotation, and the writes to the cache.
    Rotate,
    /// Scores, weights and weighted sums over the cache.
    Attention,
    /// The product after attention, added to the residual stream.
    AttentionOut,
    /// The gated products of the feed-forward layer and its activation.
    GateUp,
    /// The product after them, added to the residual stream.
    Down,
    /// The last normalisation and the product that makes logits.
    Logits,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 9] = [
        Self::Embed,
        Self::Norm,
        Self::QueryKeyValue,
        Self::Rotate,
        Self::Attention,
        Self::AttentionOut,
        Self::GateUp,
        Self::Down,
        Self::Logits,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Norm => "norm",
            Self::QueryKeyValue => "query_key_value",
            Self::Rotate => "rotate",
            Self::Attention => "attention",
            Self::AttentionOut => "attention_out",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::Logits => "logits",
        }
    }
}

/// Sums the time of each phase, when it is switched on.
#[derive(Debug, Default)]
pub(super) struct Clock {
    times: Option<[Duration; Phase::ALL.len()]>,
    last: Option<Instant>,
    paused: bool,
}

impl Clock {
    /// Switches it on, at zero, or off.
    pub(super) fn set(&mut self, on: bool) {
        self.times = on.then(Default::default);
    }

    /// The sums so far, when it is on.
    pub(super) fn times(&self) -> Option<[(Phase, Duration); Phase::ALL.len()]> {
        let times = self.times?;
        Some(Phase::ALL.map(|phase| (phase, times[phase as usize])))
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn start(&mut self) {
        let runs = self.times.is_some() && !self.paused;
        self.last = runs.then(Instant::now);
    }

    /// The time since the last call belongs to `phase`.
    pub(super) fn lap(&mut self, phase: Phase) {
        if let (Some(times), Some(last)) = (&mut self.times, &mut self.last) {
            let now = Instant::now();
            times[phase as usize] += now - *last;
            *last = now;
        }
    }
}
