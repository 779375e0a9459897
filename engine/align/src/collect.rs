//! Letting a model talk, and writing down what it thinks.
//!
//! The trajectories are the model's own, prompts included: after the beginning of a conversation an instruction-tuned model
//! goes on with a question that a user could ask (Magpie, Xu et al. 2024), and then answers it. So nothing has to be
//! fetched, and the head learns from what it will be used on. A trajectory is a function of the collection's origin and of
//! its own number, whoever else was in the batch, so a run that was killed goes on with those that are missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use half::f16;
use kakeya_core::{CacheConfig, GenerateParams, KvElement, Sampling, SlabPool};
use kakeya_model::{Compute, ComputeOptions, LogitRows, Model, SequenceInput};
use kakeya_runtime::{Sampler, SinkWindowVerifier};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::error::AlignError;
use crate::shard::{Origin, Shards, Trajectory};

/// How the questions are drawn: as the model would, without its least likely tokens.
fn asking() -> Sampling {
    Sampling {
        temperature: 1.0,
        top_p: 0.95,
        ..Sampling::default()
    }
}

/// Tokens that a question may have.
const QUESTION: usize = 96;
/// Tokens of a shard, about: some 20 MB at a width of 576.
const SHARD: u64 = 1 << 14;

/// What of a conversation is the template's.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Before what a user says.
    pub before: Vec<u32>,
    /// Between that and the answer.
    pub between: Vec<u32>,
    /// What ends a turn.
    pub ends: BTreeSet<u32>,
}

/// A collection to be made.
#[derive(Clone, Debug)]
pub struct Collection {
    /// SHA-256 of the model's weights.
    pub model_sha256: String,
    /// Tokens that the model is to say, at least.
    pub tokens: u64,
    /// The most of them in a trajectory.
    pub max_new: usize,
    /// The temperature of the answers.
    pub temperature: f32,
    /// The seed.
    pub seed: u64,
    /// Trajectories at once.
    pub batch: usize,
    /// Bytes that the shards may take.
    pub max_bytes: u64,
    /// What it runs on.
    pub compute: ComputeOptions,
}

impl Collection {
    /// Where its trajectories come from.
    #[must_use]
    pub fn origin(&self, model: &Model) -> Origin {
        Origin {
            model_sha256: self.model_sha256.clone(),
            numerics: self.compute.isa.numerics_version(),
            hidden: model.config().hidden,
            seed: self.seed,
            max_new: self.max_new,
            temperature: self.temperature,
        }
    }

    /// Collects into `shards`, from where they are. `progress` is told the tokens that are written, and says whether to go
    /// on.
    ///
    /// # Errors
    /// [`AlignError`]; what was written stays.
    pub fn run(
        &self,
        model: &Arc<Model>,
        conversation: &Conversation,
        shards: &mut Shards,
        mut progress: impl FnMut(u64) -> bool,
    ) -> Result<(), AlignError> {
        let mut compute = Compute::new(self.compute)?;
        let there = shards.numbers.clone();
        let mut numbers = (0..).filter(move |number| !there.contains(number));
        let mut next = move || numbers.next().unwrap_or(u64::MAX);
        let mut speakers = (0..self.batch)
            .map(|_| Speaker::new(model, &compute, self.longest(conversation)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ready = Vec::new();
        for speaker in &mut speakers {
            speaker.begin(&mut compute, conversation, self, next());
        }
        while shards.tokens() < self.tokens {
            step(model, &mut compute, &mut speakers);
            if let Some(fault) = compute.fault() {
                return Err(AlignError::Engine(fault.to_string()));
            }
            for (index, speaker) in speakers.iter_mut().enumerate() {
                speaker.note(&compute, index);
            }
            // In a second round: what begins a trajectory runs passes of its own.
            for speaker in &mut speakers {
                if let Some(done) = speaker.go_on(&mut compute, conversation, self) {
                    ready.extend(done);
                    speaker.begin(&mut compute, conversation, self, next());
                }
            }
            let waiting: u64 = ready
                .iter()
                .map(|one: &Trajectory| one.tokens.len() as u64)
                .sum();
            if waiting >= SHARD || shards.tokens() + waiting >= self.tokens + self.batch as u64 {
                shards.write(&std::mem::take(&mut ready), self.max_bytes)?;
                if !progress(shards.tokens()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn longest(&self, conversation: &Conversation) -> usize {
        conversation.before.len() + QUESTION + conversation.between.len() + self.max_new
    }

    fn draw(&self, number: u64, part: u64, sampling: Sampling, vocabulary: usize) -> Sampler {
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        generator.set_stream(2 * number + part);
        let sampling = Sampling {
            seed: Some(generator.next_u64()),
            ..sampling
        };
        Sampler::new(&GenerateParams::new(1, sampling), vocabulary, &[])
    }
}

/// One trajectory after the other.
struct Speaker {
    verifier: SinkWindowVerifier,
    number: u64,
    sampler: Sampler,
    /// Whether the question has been asked.
    answers: bool,
    /// All that was before the answer.
    prompt: Vec<u32>,
    /// The last of it, and the answer.
    tokens: Vec<u32>,
    states: Vec<f16>,
    /// After the last token.
    logits: Vec<f32>,
    state: Vec<f32>,
    /// The token in the pass.
    next: [u32; 1],
}

impl Speaker {
    fn new(model: &Arc<Model>, compute: &Compute, longest: usize) -> Result<Self, AlignError> {
        let engine = |error: &dyn std::fmt::Display| AlignError::Engine(error.to_string());
        let context = model.config().context;
        if longest > context {
            return Err(AlignError::Setting(format!(
                "--max-new: a trajectory of {longest} tokens is longer than the model's context of {context}"
            )));
        }
        let cache = CacheConfig::default();
        let layout = SinkWindowVerifier::layout_for(model, &cache);
        let shape = layout.slab_shape(KvElement::F16);
        let mut pool =
            SlabPool::of(shape, 1, || compute.storage(shape)).map_err(|error| engine(&error))?;
        let slab = pool.acquire().map_err(|error| engine(&error))?;
        let verifier = SinkWindowVerifier::new(Arc::clone(model), cache, layout, slab)
            .map_err(|error| engine(&error))?;
        Ok(Self {
            verifier,
            number: 0,
            sampler: Sampler::new(&GenerateParams::new(1, asking()), 1, &[]),
            answers: false,
            prompt: Vec::new(),
            tokens: Vec::new(),
            states: Vec::new(),
            logits: Vec::new(),
            state: Vec::new(),
            next: [0],
        })
    }

    /// Begins trajectory `number`, and draws the first token of its question.
    fn begin(
        &mut self,
        compute: &mut Compute,
        conversation: &Conversation,
        collection: &Collection,
        number: u64,
    ) {
        let vocabulary = self.verifier.model().config().vocabulary;
        self.number = number;
        self.sampler = collection.draw(number, 0, asking(), vocabulary);
        self.answers = false;
        self.prompt.clone_from(&conversation.before);
        self.tokens.clear();
        self.states.clear();
        self.verifier.reset();
        self.read(compute, &conversation.before);
        self.draw();
    }

    fn read(&mut self, compute: &mut Compute, tokens: &[u32]) {
        self.verifier.prefill(compute, tokens, LogitRows::Last);
        self.take(compute, 0);
    }

    fn take(&mut self, compute: &Compute, index: usize) {
        self.logits.clear();
        self.logits.extend_from_slice(compute.logits(index));
        self.state.clear();
        self.state.extend_from_slice(compute.states(index));
    }

    fn draw(&mut self) {
        let position = self.verifier.position();
        self.next = [self.sampler.next(&self.logits, position)];
    }

    /// Takes note of the pass in which its token was.
    fn note(&mut self, compute: &Compute, index: usize) {
        self.verifier.commit_or_truncate(1);
        self.take(compute, index);
        if self.answers {
            self.keep(self.next[0]);
        } else {
            self.prompt.push(self.next[0]);
        }
    }

    fn keep(&mut self, token: u32) {
        self.tokens.push(token);
        self.states
            .extend(self.state.iter().map(|value| f16::from_f32(*value)));
    }

    /// Draws the next token, or turns to the answer, or is done: then with a trajectory, unless it came to nothing.
    fn go_on(
        &mut self,
        compute: &mut Compute,
        conversation: &Conversation,
        collection: &Collection,
    ) -> Option<Option<Trajectory>> {
        let ended = conversation.ends.contains(&self.next[0]);
        if self.answers {
            if ended || self.tokens.len() > collection.max_new {
                return Some(self.finish());
            }
        } else if ended || self.prompt.len() >= conversation.before.len() + QUESTION {
            if ended {
                self.prompt.pop();
            }
            if self.prompt.len() == conversation.before.len() {
                return Some(None);
            }
            // From the start, since the end of the turn is the template's and may be other tokens.
            self.prompt.extend_from_slice(&conversation.between);
            let prompt = self.prompt.clone();
            self.verifier.reset();
            self.read(compute, &prompt);
            let sampling = Sampling {
                temperature: collection.temperature,
                ..Sampling::default()
            };
            let vocabulary = self.logits.len();
            self.sampler = collection.draw(self.number, 1, sampling, vocabulary);
            self.answers = true;
            let last = self.prompt.pop()?;
            self.keep(last);
        }
        self.draw();
        None
    }

    fn finish(&mut self) -> Option<Trajectory> {
        let trajectory = Trajectory {
            number: self.number,
            prompt: std::mem::take(&mut self.prompt),
            tokens: std::mem::take(&mut self.tokens),
            states: std::mem::take(&mut self.states),
        };
        (trajectory.tokens.len() > 1 && trajectory.states.iter().all(|value| value.is_finite()))
            .then_some(trajectory)
    }
}

/// Runs the next token of every speaker.
fn step(model: &Model, compute: &mut Compute, speakers: &mut [Speaker]) {
    let mut batch: Vec<SequenceInput<'_>> = speakers
        .iter_mut()
        .map(|speaker| speaker.verifier.begin_block(&speaker.next, LogitRows::Last))
        .collect();
    compute.forward(model, &mut batch);
}
