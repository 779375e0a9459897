//! One run of a history through the engine, and what is compared of it.

use std::sync::Arc;

use kakeya_core::{CacheConfig, KvElement, KvStorage, PositionPolicy, SlabPool, Window};
use kakeya_model::{Compute, ComputeOptions, Isa, LogitRows, Model};
use kakeya_runtime::{SinkWindowVerifier, digest};

use crate::context::SuiteContext;
use crate::suites::support::golden_text;
use crate::{ensure, ensure_eq, ensure_same_bits};
use kakeya_suite::{CaseFailure, CaseResult};

/// The inputs that every rule is tried on.
pub const HISTORIES: [&str; 3] = ["random", "prose", "code"];

/// The first `length` tokens of a history.
pub fn history(ctx: &SuiteContext, name: &str, length: usize) -> Result<Vec<u32>, CaseFailure> {
    if name == "random" {
        let vocabulary = ctx.model()?.config().vocabulary as u32;
        return Ok(random_tokens(length, vocabulary, 0x6b61_6b65));
    }
    golden_text(ctx, &format!("history-{name}.txt"), length)
}

/// Token ids from a linear congruential generator (Knuth's MMIX constants).
pub fn random_tokens(length: usize, vocabulary: u32, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % vocabulary
    };
    (0..length).map(|_| next()).collect()
}

/// A cache of `sink` sinks and `window` positions.
pub fn cache(sink: u32, window: u32) -> CacheConfig {
    CacheConfig {
        sink,
        window: Window::Sliding(window),
        positions: PositionPolicy::Streaming,
    }
}

/// How a run is done. None of it may show in the result, but for the cache and its element.
#[derive(Clone, Debug)]
pub struct Setting {
    pub cache: CacheConfig,
    pub element: KvElement,
    pub isa: Isa,
    pub threads: usize,
    /// Seed of injected delays, or 0.
    pub delays: u64,
    /// Slots and scratch memory start as NaN.
    pub poisoned: bool,
}

impl Setting {
    pub fn new(ctx: &SuiteContext, cache: CacheConfig) -> Self {
        Self {
            cache,
            element: KvElement::F16,
            isa: ctx.isa(),
            threads: ctx.threads(),
            delays: 0,
            poisoned: false,
        }
    }

    pub fn compute(&self) -> Result<Compute, CaseFailure> {
        let mut compute = Compute::new(ComputeOptions {
            threads: self.threads,
            isa: self.isa,
        })?;
        compute.inject_delays(self.delays);
        Ok(compute)
    }

    /// A verifier with a slab of its own.
    pub fn verifier(&self, model: &Arc<Model>) -> Result<SinkWindowVerifier, CaseFailure> {
        let layout = SinkWindowVerifier::layout_for(model, &self.cache);
        let shape = layout.slab_shape(self.element);
        let mut pool = if self.isa.is_gpu() {
            // Where the sessions of a server have theirs.
            let compute = self.compute()?;
            SlabPool::of(shape, 1, || compute.storage(shape))?
        } else {
            SlabPool::new(shape, 1)?
        };
        let mut slab = pool.acquire()?;
        if self.poisoned {
            poison(slab.storage_mut())?;
        }
        Ok(SinkWindowVerifier::new(
            Arc::clone(model),
            self.cache,
            layout,
            slab,
        )?)
    }
}

/// Fills a slab with NaN.
fn poison(storage: &mut KvStorage) -> CaseResult {
    match storage {
        KvStorage::F16(all) => all.fill(0x7e01),
        KvStorage::F32(all) => all.fill(f32::NAN),
        KvStorage::Int8(all) => {
            all.quants.fill(i8::MIN);
            all.scales.fill(0x7fc1);
        }
        KvStorage::Device(device) => {
            let shape = device.shape();
            let mut host = KvStorage::new(shape)?;
            poison(&mut host)?;
            storage.copy_from(&host, std::iter::once(0..shape.elements()?));
        }
    }
    Ok(())
}

/// What a run computed: the logits at every position, and the digest of its cache.
pub struct Trace {
    pub logits: Vec<f32>,
    pub kv_sha256: String,
}

impl Trace {
    /// Runs `tokens` in chunks of the given sizes, repeated to the end.
    pub fn of(
        ctx: &SuiteContext,
        setting: &Setting,
        tokens: &[u32],
        chunks: &[usize],
    ) -> Result<Self, CaseFailure> {
        Self::from(ctx, setting, tokens, chunks, 0)
    }

    /// As [`Trace::of`], with logits only from position `first` on.
    pub fn from(
        ctx: &SuiteContext,
        setting: &Setting,
        tokens: &[u32],
        chunks: &[usize],
        first: usize,
    ) -> Result<Self, CaseFailure> {
        Self::run(ctx.model()?, setting, tokens, chunks, first)
    }

    /// As [`Trace::from`], of any model.
    pub fn run(
        model: &Arc<Model>,
        setting: &Setting,
        tokens: &[u32],
        chunks: &[usize],
        first: usize,
    ) -> Result<Self, CaseFailure> {
        let vocabulary = model.config().vocabulary;
        let mut compute = setting.compute()?;
        let mut verifier = setting.verifier(model)?;
        let mut logits = Vec::with_capacity((tokens.len() - first) * vocabulary);
        let mut sizes = chunks.iter().copied().cycle();
        let mut done = 0;
        while done < tokens.len() {
            let size = sizes.next().unwrap_or(1).min(tokens.len() - done);
            if setting.poisoned {
                compute.poison_scratch();
            }
            let rows = if done + size > first {
                LogitRows::All
            } else {
                LogitRows::None
            };
            let made = verifier.forward_block(&mut compute, &tokens[done..done + size], rows);
            logits.extend_from_slice(
                &made[first.saturating_sub(done).min(size) * made.len() / size..],
            );
            verifier.commit_or_truncate(size);
            done += size;
        }
        ensure_eq!(
            logits.len(),
            (tokens.len() - first) * vocabulary,
            "logits of every position were compared"
        );
        ensure!(
            logits.iter().all(|logit| logit.is_finite()),
            "every logit is finite"
        );
        Ok(Self {
            logits,
            kv_sha256: digest::kv_sha256(&verifier),
        })
    }

    /// Requires the same bits everywhere.
    pub fn ensure_equals(&self, expected: &Self, what: &str) -> CaseResult {
        ensure_same_bits(&format!("logits, {what}"), &self.logits, &expected.logits)?;
        ensure_eq!(self.kv_sha256, expected.kv_sha256, "KV digest, {what}");
        Ok(())
    }
}
