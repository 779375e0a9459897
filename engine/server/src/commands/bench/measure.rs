//! The runs that are timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kakeya_core::SlabPool;
use kakeya_model::{
    Ahead, Compute, CudaError, KvLayout, LogitRows, Model, SequenceInput, device_time,
};
use kakeya_runtime::sampler::greedy;
use kakeya_runtime::{MAX_CHUNK, SinkWindowVerifier};

use super::super::memory::{self, MemoryNeed};
use super::super::options::EngineOptions;
use super::super::session::LocalSession;
use super::{PhaseTime, Phases};

/// How long something took, and how long of that a GPU was at work on passes.
#[derive(Debug, Default)]
pub(super) struct HostTime {
    all: Duration,
    device: Duration,
}

impl HostTime {
    /// Takes the time of `work`.
    pub(super) fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (begun, device) = (Instant::now(), device_time());
        let done = work();
        self.all += begun.elapsed();
        self.device += device_time() - device;
        done
    }

    /// The part of the time in which no GPU was at work; `None` where none ever was, or nobody took its time.
    pub(super) fn share(&self) -> Option<f64> {
        let share = || 1.0 - self.device.as_secs_f64() / self.all.as_secs_f64();
        (!self.device.is_zero()).then(share)
    }
}

/// One session.
pub(super) struct Single {
    session: LocalSession,
    tokens: Vec<u32>,
    host: HostTime,
}

impl Single {
    pub(super) fn new(
        model: &Arc<Model>,
        options: &EngineOptions,
        tokens: Vec<u32>,
    ) -> anyhow::Result<Self> {
        let session = LocalSession::like_a_server(model, options)?;
        Ok(Self {
            session,
            tokens,
            host: HostTime::default(),
        })
    }

    /// Switches the sums of phases on, from zero, or off.
    pub(super) fn profile(&mut self, on: bool) {
        self.session.compute().profile(on);
        self.host = HostTime::default();
    }

    /// The host's part of the time that decoding took since then.
    pub(super) fn host_share(&self) -> Option<f64> {
        self.host.share()
    }

    /// The sums since then for each of `tokens`, when they are on.
    pub(super) fn phases(&mut self, tokens: usize) -> Option<Phases> {
        phases(self.session.compute(), tokens)
    }

    pub(super) fn kv_live_bytes(&self) -> u64 {
        self.session.verifier().kv_live_bytes()
    }

    fn go_to(&mut self, depth: usize) -> anyhow::Result<()> {
        self.session.reset();
        if depth > 0 {
            self.session.append(&self.tokens[..depth])?;
        }
        Ok(())
    }

    /// Tokens a second while `prompt` tokens are appended after `depth`.
    pub(super) fn prefill(&mut self, depth: usize, prompt: usize) -> anyhow::Result<f64> {
        self.without_profile(|single| single.go_to(depth))?;
        let start = Instant::now();
        self.session.append(&self.tokens[depth..depth + prompt])?;
        Ok(prompt as f64 / start.elapsed().as_secs_f64())
    }

    /// Tokens a second while `generated` tokens are, greedily, after `depth`.
    pub(super) fn decode(&mut self, depth: usize, generated: usize) -> anyhow::Result<f64> {
        self.without_profile(|single| single.go_to(depth))?;
        let mut token = self.tokens[depth];
        let session = &mut self.session;
        let start = Instant::now();
        self.host.during(|| {
            for left in (0..generated).rev() {
                token = session.append_one(token, left > 0)?;
            }
            anyhow::Ok(())
        })?;
        Ok(generated as f64 / start.elapsed().as_secs_f64())
    }

    fn without_profile<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.session.compute().pause_profile(true);
        let done = work(self);
        self.session.compute().pause_profile(false);
        done
    }
}

/// Several sessions that decode in the same passes.
pub(super) struct Batched {
    model: Arc<Model>,
    compute: Compute,
    sessions: Vec<SinkWindowVerifier>,
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    host: HostTime,
}

impl Batched {
    /// `count` sessions that are to have the same prompt.
    pub(super) fn new(
        model: &Arc<Model>,
        options: &EngineOptions,
        count: usize,
        prompt: &[u32],
    ) -> anyhow::Result<Self> {
        let layout = Arc::new(KvLayout::new(model.config(), &options.cache, MAX_CHUNK));
        let shape = layout.slab_shape(options.kv);
        let need = MemoryNeed {
            capacity: count,
            slab_bytes: shape.bytes()? as u64,
            model_bytes: model.weight_bytes() as u64,
            scratch_bytes: 0,
            prefix_bytes: 0,
            on_device: options.compute.isa.is_gpu(),
        };
        need.check(memory::machine_bytes()?)?;
        let compute = Compute::new(options.compute)?;
        let mut pool = SlabPool::of(shape, count, || compute.storage(shape))?;
        let sessions = (0..count)
            .map(|_| {
                let slab = pool.acquire()?;
                let (model, layout) = (Arc::clone(model), Arc::clone(&layout));
                Ok(SinkWindowVerifier::new(model, options.cache, layout, slab)?)
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            model: Arc::clone(model),
            compute,
            sessions,
            prompt: prompt.to_vec(),
            tokens: Vec::new(),
            host: HostTime::default(),
        })
    }

    pub(super) fn profile(&mut self, on: bool) {
        self.compute.profile(on);
        self.host = HostTime::default();
    }

    /// The host's part of the time that decoding took since then.
    pub(super) fn host_share(&self) -> Option<f64> {
        self.host.share()
    }

    pub(super) fn phases(&self, tokens: usize) -> Option<Phases> {
        phases(&self.compute, tokens)
    }

    /// Brings every session to the end of its prompt: where its slab still has that, by forgetting what came after.
    fn go_back(&mut self) -> Result<(), CudaError> {
        let depth = self.prompt.len() as u64;
        for session in &mut self.sessions {
            if session.still_holds(depth) {
                session.rewind(depth);
            } else {
                session.reset();
                session.prefill(&mut self.compute, &self.prompt, LogitRows::None);
            }
        }
        self.tokens.clear();
        self.tokens.extend(0..self.sessions.len() as u32);
        self.compute.fault().cloned().map_or(Ok(()), Err)
    }

    /// Tokens a second of all sessions while each generates `generated` after its prompt, greedily.
    pub(super) fn decode(&mut self, generated: usize) -> anyhow::Result<f64> {
        self.compute.pause_profile(true);
        self.go_back()?;
        self.compute.pause_profile(false);
        let start = Instant::now();
        let mut host = std::mem::take(&mut self.host);
        host.during(|| self.steps(generated))?;
        self.host = host;
        Ok((generated * self.sessions.len()) as f64 / start.elapsed().as_secs_f64())
    }

    fn steps(&mut self, generated: usize) -> anyhow::Result<()> {
        for left in (0..generated).rev() {
            let ahead = (left > 0).then(Ahead::default);
            let mut batch: Vec<SequenceInput<'_>> = self
                .sessions
                .iter_mut()
                .zip(&self.tokens)
                .map(|(session, token)| {
                    session.begin_step(std::slice::from_ref(token), None, ahead)
                })
                .collect();
            self.compute.forward(&self.model, &mut batch);
            if let Some(fault) = self.compute.fault() {
                return Err(fault.clone().into());
            }
            for (index, session) in self.sessions.iter_mut().enumerate() {
                session.commit_or_truncate(1);
                let known = self.compute.greatest(index, 0);
                self.tokens[index] = known.unwrap_or_else(|| greedy(self.compute.logits(index)));
            }
        }
        Ok(())
    }
}

fn phases(compute: &Compute, tokens: usize) -> Option<Phases> {
    let times = compute.phase_times()?;
    Some(
        times
            .into_iter()
            .map(|(phase, time)| PhaseTime {
                phase: phase.name(),
                microseconds_per_token: time.as_secs_f64() * 1e6 / tokens as f64,
            })
            .collect(),
    )
}

/// Token ids below `vocabulary` that look random and never change: SplitMix64 (Steele, Lea and Flood 2014) from 0.
pub(super) fn pseudo_random_ids(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 0_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..count)
        .map(|_| (next() % vocabulary as u64) as u32)
        .collect()
}
