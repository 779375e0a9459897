//! One forward pass: rows of one or more sessions through the model.
//!
//! Prefill, decode, a batch of decoding sessions and a block to be verified are the same call with other
//! numbers of rows. The processor's kernels and those of a GPU stand behind the same calls, and make the same bits.

mod attention;
mod kept;
mod plan;
mod processor;
mod profile;
mod scratch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kakeya_core::{AheadStats, KvStorage, SlabError, SlabShape};

pub use kept::KeptLogits;
pub use profile::Phase;

#[cfg(feature = "cuda")]
use crate::cuda::CudaCompute;
use crate::device::CudaError;
use crate::draw::Draw;
use crate::error::ModelError;
use crate::isa::Isa;
use crate::kv::{KvLayout, LayerLengths};
use crate::model::Model;
use processor::Processor;

/// Forward passes of this process, by what ran them.
static FORWARD_PASSES: [AtomicU64; Isa::COUNTED.len()] =
    [const { AtomicU64::new(0) }; Isa::COUNTED.len()];

/// Forward passes that this process has run, for the evidence: how much work stands behind a claim.
#[must_use]
pub fn forward_passes() -> u64 {
    Isa::COUNTED.into_iter().map(forward_passes_on).sum()
}

/// Those of them whose kernels used `isa`.
#[must_use]
pub fn forward_passes_on(isa: Isa) -> u64 {
    FORWARD_PASSES[isa as usize].load(Ordering::Relaxed)
}

/// Counts a pass that has run on `isa`.
pub(crate) fn count_pass(isa: Isa) {
    FORWARD_PASSES[isa as usize].fetch_add(1, Ordering::Relaxed);
}

/// Whether the time of a GPU is taken, and what it has come to, in nanoseconds.
static DEVICE_IS_TIMED: AtomicBool = AtomicBool::new(false);
static DEVICE_TIME: AtomicU64 = AtomicU64::new(0);

/// Starts to take the time that a GPU is at work on the passes of this process, or stops. It is off at first.
pub fn time_device(on: bool) {
    DEVICE_IS_TIMED.store(on, Ordering::Relaxed);
}

/// The time that was taken so far, from the first kernel of a pass to the end of its last. What else a pass takes is the host's,
/// the copies between host and device included.
#[must_use]
pub fn device_time() -> Duration {
    Duration::from_nanos(DEVICE_TIME.load(Ordering::Relaxed))
}

#[cfg(feature = "cuda")]
pub(crate) fn device_is_timed() -> bool {
    DEVICE_IS_TIMED.load(Ordering::Relaxed)
}

#[cfg(feature = "cuda")]
pub(crate) fn count_device_time(time: Duration) {
    DEVICE_TIME.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
}

/// How to run the kernels. Neither changes a bit of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeOptions {
    /// Threads that share the work, at least 1.
    pub threads: usize,
    /// What runs them.
    pub isa: Isa,
}

/// How large a pass is, to make room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassSize {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of all of them.
    pub rows: usize,
    /// Tokens after which logits are made.
    pub logits: usize,
}

/// The rows of a sequence for which logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// None: the tokens are only put in the cache.
    None,
    /// The last one.
    Last,
    /// Every one.
    All,
    /// None yet: every row goes through all layers, and [`Compute::logits_of`] makes those of the rows it is told.
    Later,
}

impl LogitRows {
    pub(crate) fn first(self, rows: usize) -> usize {
        match self {
            Self::None => rows,
            Self::Last => rows.saturating_sub(1),
            Self::All | Self::Later => 0,
        }
    }
}

/// How a session goes on, most likely, after a pass of one token: with the token that is found in the logits after it, drawn as
/// [`SequenceInput::draw`] says, or else the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ahead {
    /// How the token after that one may be drawn.
    pub draw: Option<Draw>,
}

/// One session's part of a forward pass.
pub struct SequenceInput<'a> {
    /// New tokens, each below the vocabulary's size; at most the layout's `max_chunk`, or, of one sequence of a pass,
    /// [`Isa::chunks`] times that.
    pub tokens: &'a [u32],
    /// The position of the first one.
    pub start: u64,
    /// Where positions lie in `storage`.
    pub layout: &'a KvLayout,
    /// The slab. Only the slots of the new positions are written.
    pub storage: &'a mut KvStorage,
    /// Raised, layer by layer, as keys and values are written.
    pub lengths: &'a mut LayerLengths,
    /// Rows whose logits are wanted.
    pub logits: LogitRows,
    /// Whether the new tokens see each other, those behind them included: for models that fill in a block. A model that
    /// reads from left to right has `false`.
    pub both_ways: bool,
    /// How a token may be drawn after the last of them: a GPU does so beside the pass, and keeps it with the logits.
    pub draw: Option<Draw>,
    /// How the session goes on, where whoever calls looks at nothing of this pass but what is kept, and the greatest. A GPU
    /// then begins with the pass of that token before the host has seen it, if all of the batch say so, and may write its
    /// place in the slab: what a query may see after this pass must be there still, as with a draft that is dropped.
    pub ahead: Option<Ahead>,
    /// Where the logits after the last of them are kept, beside [`Compute::logits`], if they are wanted. Nothing is allocated
    /// where it has held logits of this model before.
    pub kept: Option<&'a mut KeptLogits>,
}

/// Kernels, and the threads and scratch memory for their passes.
pub struct Compute {
    backend: Backend,
    options: ComputeOptions,
}

enum Backend {
    Processor(Box<Processor>),
    #[cfg(feature = "cuda")]
    Cuda(Box<CudaCompute>),
}

/// Runs `$body` with `$of` standing for whatever computes.
macro_rules! on_backend {
    ($backend:expr, $of:ident => $body:expr) => {
        match $backend {
            Backend::Processor($of) => $body,
            #[cfg(feature = "cuda")]
            Backend::Cuda($of) => $body,
        }
    };
}

impl Compute {
    /// Starts the threads, or opens the GPU.
    ///
    /// # Errors
    /// When the processor lacks the instruction set, a thread cannot be started, or the GPU cannot be used.
    pub fn new(options: ComputeOptions) -> Result<Self, ModelError> {
        options.isa.check()?;
        let backend = match options.isa {
            #[cfg(feature = "cuda")]
            isa if isa.is_gpu() => Backend::Cuda(Box::new(CudaCompute::new(isa)?)),
            _ => Backend::Processor(Box::new(Processor::new(options)?)),
        };
        Ok(Self { backend, options })
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> ComputeOptions {
        self.options
    }

    /// Makes room for passes up to this size, so that they allocate nothing. Larger passes make their own.
    ///
    /// # Errors
    /// When a GPU has not the memory for the weights and the passes.
    pub fn reserve(
        &mut self,
        model: &Model,
        layout: &KvLayout,
        size: PassSize,
    ) -> Result<(), ModelError> {
        match &mut self.backend {
            Backend::Processor(processor) => processor.reserve(model, layout, size),
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => cuda.reserve(model, size)?,
        }
        Ok(())
    }

    /// Checks that what computes has room for the weights, for `capacity` slabs and for passes of this size, before any of
    /// it is taken. Memory of the host is for the caller to check.
    ///
    /// # Errors
    /// When a GPU has not the memory: the error has the arithmetic.
    pub fn check_room(
        &self,
        model: &Model,
        slab: SlabShape,
        capacity: usize,
        size: PassSize,
    ) -> Result<(), ModelError> {
        match &self.backend {
            Backend::Processor(_) => {
                let _ = (model, slab, capacity, size);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => Ok(cuda.check_room(model, slab, capacity, size)?),
        }
    }

    /// A slab where this computes: in memory of the host, or of the GPU.
    ///
    /// # Errors
    /// When the memory is refused.
    pub fn storage(&self, shape: SlabShape) -> Result<KvStorage, SlabError> {
        match &self.backend {
            Backend::Processor(_) => KvStorage::new(shape),
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => cuda.storage(shape),
        }
    }

    /// Bytes of the host's scratch memory that [`Compute::reserve`] takes. Nothing is allocated.
    #[must_use]
    pub fn scratch_bytes(
        options: ComputeOptions,
        model: &Model,
        layout: &KvLayout,
        size: PassSize,
    ) -> u64 {
        match options.isa {
            // What the GPU needs is checked with the GPU's memory; here it takes no more than a copy of the logits.
            isa if isa.is_gpu() => {
                (size.logits * model.config().vocabulary * size_of::<f32>()) as u64
            }
            _ => Processor::scratch_bytes(options, model, layout, size),
        }
    }

    /// Lets passes run in another way that must make the same bits, chosen by the seed: tasks of the processor begin after
    /// pseudo-random moments, a GPU's work is cut otherwise. 0 switches it off. For the gates.
    pub fn inject_delays(&mut self, seed: u64) {
        on_backend!(&mut self.backend, backend => backend.inject_delays(seed));
    }

    /// Fills the scratch memory with NaN. For the gates: nothing may be read that this pass did not write.
    pub fn poison_scratch(&mut self) {
        on_backend!(&mut self.backend, backend => backend.poison_scratch());
    }

    /// Starts to sum the time of each phase of the passes to come, or stops. It is off at first, and a GPU has none: its
    /// phases overlap.
    pub fn profile(&mut self, on: bool) {
        match &mut self.backend {
            Backend::Processor(processor) => processor.profile(on),
            #[cfg(feature = "cuda")]
            Backend::Cuda(_) => {}
        }
    }

    /// Leaves passes out of the sums, or goes on with them.
    pub fn pause_profile(&mut self, paused: bool) {
        match &mut self.backend {
            Backend::Processor(processor) => processor.pause_profile(paused),
            #[cfg(feature = "cuda")]
            Backend::Cuda(_) => {}
        }
    }

    /// The time spent in each phase since [`Compute::profile`] was switched on.
    #[must_use]
    pub fn phase_times(&self) -> Option<[(Phase, Duration); Phase::ALL.len()]> {
        match &self.backend {
            Backend::Processor(processor) => processor.phase_times(),
            #[cfg(feature = "cuda")]
            Backend::Cuda(_) => None,
        }
    }

    /// The logits that the last pass made for sequence `index`: row-major, `vocabulary` a row. From a GPU they are fetched
    /// when they are asked for.
    ///
    /// # Panics
    /// When all of the batch had [`SequenceInput::ahead`]: a GPU may be at work on the next pass.
    #[must_use]
    pub fn logits(&self, index: usize) -> &[f32] {
        on_backend!(&self.backend, backend => backend.logits(index))
    }

    /// The token with the greatest of these logits in row `row` of sequence `index`, the lowest among equals, where that was
    /// found beside the pass.
    #[must_use]
    pub fn greatest(&self, index: usize, row: usize) -> Option<u32> {
        match &self.backend {
            Backend::Processor(_) => {
                let _ = (index, row);
                None
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => Some(cuda.greatest(index, row)),
        }
    }

    /// Keeps row `row` of the logits that the last pass made for sequence `index`. Nothing is allocated where `to` has held
    /// logits of this model before.
    pub fn keep_logits(&self, index: usize, row: usize, to: &mut KeptLogits) {
        match &self.backend {
            Backend::Processor(processor) => {
                let vocabulary = processor.vocabulary();
                to.set(&processor.logits(index)[row * vocabulary..][..vocabulary]);
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => cuda.keep_logits(index, row, to),
        }
    }

    /// The states behind the logits that the last pass made for sequence `index`: what the last layer left, before the output
    /// norm. Row-major, the hidden size a row.
    ///
    /// # Panics
    /// As [`Compute::logits`].
    #[must_use]
    pub fn states(&self, index: usize) -> &[f32] {
        on_backend!(&self.backend, backend => backend.states(index))
    }

    /// Runs the new tokens of every sequence through the model: writes their keys and values, and makes the
    /// logits that are asked for.
    ///
    /// A GPU can fail while it computes. [`Compute::fault`] then says so, and what the pass was to make is worth nothing.
    ///
    /// # Panics
    /// When a token is outside the vocabulary, a sequence has more tokens than its layout allows, or its
    /// slab has another shape: callers check these first, and going on would corrupt a session.
    pub fn forward(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) {
        check(model, batch, self.options.isa.chunks());
        match &mut self.backend {
            Backend::Processor(processor) => {
                processor.forward(model, batch);
                for (index, sequence) in batch.iter_mut().enumerate() {
                    if let Some(kept) = &mut sequence.kept
                        && sequence.logits != LogitRows::None
                    {
                        kept.set(last_of(processor.logits(index), model.config.vocabulary));
                    }
                }
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => cuda.forward(model, batch),
        }
    }

    /// What became of the passes so far that a GPU has begun before the host saw what came before them: see
    /// [`SequenceInput::ahead`].
    #[must_use]
    pub fn passes_ahead(&self) -> AheadStats {
        match &self.backend {
            Backend::Processor(_) => AheadStats::default(),
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => cuda.passes_ahead(),
        }
    }

    /// Why the last pass failed, if it did.
    #[must_use]
    pub fn fault(&self) -> Option<&CudaError> {
        match &self.backend {
            Backend::Processor(_) => None,
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => cuda.fault(),
        }
    }

    /// Why nothing can be computed any more, if a GPU has failed: it stays so for as long as the process lives, and what was
    /// read from it since is worth nothing.
    #[must_use]
    pub fn lost(&self) -> Option<&CudaError> {
        match &self.backend {
            Backend::Processor(_) => None,
            #[cfg(feature = "cuda")]
            Backend::Cuda(cuda) => cuda.lost(),
        }
    }

    /// Makes the logits of `rows`, ascending, of the only sequence of the last pass, which left them for
    /// [`LogitRows::Later`]. Row-major. What is left of the pass is gone after that.
    ///
    /// # Panics
    /// When the last pass had other sequences, or no such rows.
    pub fn logits_of(&mut self, model: &Model, rows: &[usize]) -> &[f32] {
        assert!(rows.is_sorted_by(|one, other| one < other), "rows ascend");
        on_backend!(&mut self.backend, backend => backend.logits_of(model, rows))
    }
}

/// The last row of logits.
pub(crate) fn last_of(logits: &[f32], vocabulary: usize) -> &[f32] {
    &logits[logits.len().saturating_sub(vocabulary)..]
}

fn check(model: &Model, batch: &[SequenceInput<'_>], chunks: usize) {
    let longer =
        |sequence: &&SequenceInput<'_>| sequence.tokens.len() > sequence.layout.max_chunk();
    assert!(
        batch.iter().filter(longer).count() <= 1,
        "more than one sequence of a pass is longer than a chunk"
    );
    for sequence in batch {
        let vocabulary = model.config.vocabulary;
        assert!(
            sequence
                .tokens
                .iter()
                .all(|token| (*token as usize) < vocabulary),
            "a token is outside the vocabulary"
        );
        assert!(
            sequence.tokens.len() <= chunks * sequence.layout.max_chunk(),
            "a chunk is longer than the layout allows"
        );
        let elements = match &*sequence.storage {
            KvStorage::F16(all) => all.len(),
            KvStorage::F32(all) => all.len(),
            KvStorage::Int8(all) => all.quants.len(),
            KvStorage::Device(device) => device.shape().elements().unwrap_or(0),
        };
        assert_eq!(sequence.layout.layers().len(), model.config.layers);
        assert_eq!(elements, sequence.layout.elements());
    }
}
