//! Fitting a head to what was collected.
//!
//! From each state the head guesses a few steps ahead, each from its own guess of the step before, as it will when it is
//! used. It learns the model's states (smooth L1), the model's distribution over its own vocabulary (Kullback-Leibler), and
//! to go on where it is not told a token (masked recovery). A training is a function of its settings and of the
//! trajectories: killed at any moment it goes on from its checkpoint to the same bits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use kakeya_model::Model;
use kakeya_model::head::{HeadFile, HeadShape};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint;
use crate::error::AlignError;
use crate::frozen::{Frozen, hex};
use crate::head::Trainee;
use crate::loss::{divergence, recovery, smooth_l1};
use crate::optimizer::{AdamW, StepSize};
use crate::schedule::rate;
use crate::shard::{Shards, Trajectory};

/// Every so many trajectories one is held out.
const HELD_OUT: u64 = 10;
/// What a step ahead counts of the step before it.
const FURTHER: f64 = 0.8;
/// Steps between two checkpoints.
const CHECKPOINT: u64 = 100;
/// Steps whose mean is a point of the curve.
const POINT: u64 = 10;
/// Tokens below which nothing can be learnt.
const LEAST: u64 = 1000;

/// How a head is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Width of the head.
    pub width: usize,
    /// Width inside its blocks.
    pub wide: usize,
    /// Blocks.
    pub blocks: usize,
    /// Tokens that it can say, the most frequent ones.
    pub vocabulary: usize,
    /// Steps that it guesses ahead.
    pub ahead: usize,
    /// Times that it sees each state.
    pub epochs: u64,
    /// States of a training step.
    pub batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps that warm up.
    pub warmup: u64,
    /// Of matrices.
    pub weight_decay: f64,
    /// The largest norm of the gradients.
    pub clip: f64,
    /// At which the distributions are compared.
    pub temperature: f64,
    /// Weight of the states' loss beside the distributions'.
    pub state_weight: f64,
    /// Share of states after which the head is not told the token.
    pub masked: f64,
    /// Weight of what it says there.
    pub masked_weight: f64,
    /// Of the first weights and of the order.
    pub seed: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            width: 512,
            wide: 1024,
            blocks: 2,
            vocabulary: 8192,
            ahead: 3,
            epochs: 4,
            batch: 256,
            learning_rate: 1e-3,
            warmup: 100,
            weight_decay: 0.05,
            clip: 1.0,
            temperature: 1.0,
            state_weight: 0.5,
            masked: 0.1,
            masked_weight: 0.1,
            seed: 1,
        }
    }
}

impl TrainSettings {
    fn check(&self, shape: &HeadShape) -> Result<(), AlignError> {
        shape.check()?;
        let positive = |name: &str, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                Err(AlignError::Setting(format!(
                    "{name} is {value}, and must be above 0"
                )))
            }
        };
        positive("the number of steps ahead", self.ahead as f64)?;
        positive("the number of epochs", self.epochs as f64)?;
        positive("the batch", self.batch as f64)?;
        positive("the learning rate", self.learning_rate)?;
        positive("the temperature", self.temperature)?;
        positive("the clipping norm", self.clip)
    }
}

/// The means over some steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Steps made.
    pub step: u64,
    /// Of how many.
    pub steps: u64,
    /// All losses together, as weighted.
    pub loss: f64,
    /// Of the states.
    pub states: f64,
    /// Of the distributions.
    pub divergence: f64,
    /// Where the head was not told the token.
    pub recovery: f64,
    /// Share of first guesses that were what the model said.
    pub accepted: f64,
    /// The learning rate.
    pub rate: f64,
}

/// A trained head.
#[derive(Debug)]
pub struct Trained {
    /// The head.
    pub head: HeadFile,
    /// How it went.
    pub curve: Vec<Point>,
    /// SHA-256 of what the head shares with the model, before and after: the same.
    pub frozen_sha256: String,
}

/// A training to be made.
#[derive(Debug)]
pub struct Training {
    /// How.
    pub settings: TrainSettings,
    /// SHA-256 of the model's weights.
    pub model_sha256: String,
    /// Where its checkpoint is.
    pub folder: PathBuf,
}

/// The trajectories that are learnt from, and those that are not.
pub(crate) fn split(trajectories: Vec<Trajectory>) -> (Vec<Trajectory>, Vec<Trajectory>) {
    trajectories
        .into_iter()
        .partition(|trajectory| trajectory.number % HELD_OUT != HELD_OUT - 1)
}

/// The tokens that come most often, the lower id first among equals, and those of `always`.
fn most_frequent(trajectories: &[Trajectory], count: usize, always: &BTreeSet<u32>) -> Vec<u32> {
    let mut counts: HashMap<u32, u64> = always.iter().map(|token| (*token, u64::MAX / 2)).collect();
    for token in trajectories.iter().flat_map(|one| &one.tokens[1..]) {
        *counts.entry(*token).or_default() += 1;
    }
    let mut tokens: Vec<(u32, u64)> = counts.into_iter().collect();
    tokens.sort_by_key(|(token, count)| (std::cmp::Reverse(*count), *token));
    let mut tokens: Vec<u32> = tokens
        .into_iter()
        .take(count)
        .map(|(token, _)| token)
        .collect();
    tokens.sort_unstable();
    tokens
}

impl Training {
    /// Trains, from the checkpoint if there is one. `progress` is told every few steps, and says whether to go on; a
    /// training that is stopped by it leaves a checkpoint and gives `None`.
    ///
    /// # Errors
    /// [`AlignError`]; the last checkpoint stays.
    pub fn run(
        &self,
        model: &Arc<Model>,
        shards: &Shards,
        ends: &BTreeSet<u32>,
        mut progress: impl FnMut(&Point) -> bool,
    ) -> Result<Option<Trained>, AlignError> {
        let settings = &self.settings;
        let (learnt, _) = split(shards.read_all()?);
        let data = Data::new(learnt, settings.ahead);
        let found = data.windows.len() as u64;
        if found < LEAST {
            return Err(AlignError::TooFew {
                path: self.folder.clone(),
                found,
                needed: LEAST,
            });
        }
        let tokens = most_frequent(&data.trajectories, settings.vocabulary, ends);
        let shape = HeadShape {
            hidden: model.config().hidden,
            width: settings.width,
            wide: settings.wide,
            blocks: settings.blocks,
            drafted: tokens.len(),
        };
        settings.check(&shape)?;
        let frozen = Frozen::new(model, &tokens)?;
        let before = frozen.sha256()?;
        let mut run = Run {
            settings,
            data: &data,
            frozen: &frozen,
            places: tokens.iter().copied().zip(0..).collect(),
            trainee: Trainee::new(&shape, settings.seed)?,
            optimizer: AdamW::default(),
            curve: Vec::new(),
        };
        let path = self.folder.join("checkpoint.safetensors");
        let identity = checkpoint::Identity {
            settings: settings.clone(),
            model_sha256: self.model_sha256.clone(),
            data_sha256: data.sha256(),
            shape: shape.clone(),
        };
        std::fs::create_dir_all(&self.folder).map_err(AlignError::file(&self.folder))?;
        if path.exists() {
            run.curve = checkpoint::read(&path, &identity, &run.trainee, &mut run.optimizer)?;
        }
        let save = |run: &Run<'_>| {
            checkpoint::write(&path, &identity, &run.trainee, &run.optimizer, &run.curve)
        };
        let steps = found.div_ceil(settings.batch as u64) * settings.epochs;
        let mut sum = Point::default();
        while run.optimizer.steps < steps {
            let point = run.step(steps)?;
            sum.add(&point);
            if point.step.is_multiple_of(POINT) || point.step == steps {
                let mean = std::mem::take(&mut sum).mean(point.step, steps);
                run.curve.push(mean);
                let goes_on = progress(&mean);
                let ends = point.step == steps || !goes_on;
                if ends || point.step.is_multiple_of(CHECKPOINT) {
                    save(&run)?;
                }
                if !goes_on && point.step < steps {
                    return Ok(None);
                }
            }
        }
        let after = frozen.sha256()?;
        if after != before {
            return Err(AlignError::Setting(
                "what the head shares with its model has changed in training: this is a bug"
                    .to_owned(),
            ));
        }
        Ok(Some(Trained {
            head: run.trainee.to_file(&self.model_sha256, &tokens)?,
            curve: run.curve,
            frozen_sha256: after,
        }))
    }
}

impl Point {
    fn add(&mut self, other: &Self) {
        self.step += 1;
        self.loss += other.loss;
        self.states += other.states;
        self.divergence += other.divergence;
        self.recovery += other.recovery;
        self.accepted += other.accepted;
        self.rate = other.rate;
    }

    fn mean(self, step: u64, steps: u64) -> Self {
        let count = self.step.max(1) as f64;
        Self {
            step,
            steps,
            loss: self.loss / count,
            states: self.states / count,
            divergence: self.divergence / count,
            recovery: self.recovery / count,
            accepted: self.accepted / count,
            rate: self.rate,
        }
    }
}

/// Trajectories, and where in them a guess can begin.
struct Data {
    trajectories: Vec<Trajectory>,
    /// A trajectory, and the position in it of the state to begin with.
    windows: Vec<(u32, u32)>,
}

impl Data {
    fn new(trajectories: Vec<Trajectory>, ahead: usize) -> Self {
        let windows = (0..)
            .zip(&trajectories)
            .flat_map(|(index, trajectory)| {
                // The state after `ahead` tokens, and the token after that.
                let last = (trajectory.tokens.len() as u32).saturating_sub(ahead as u32 + 1);
                (0..last).map(move |start| (index, start))
            })
            .collect();
        Self {
            trajectories,
            windows,
        }
    }

    /// SHA-256 of every number, token and state.
    fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        for trajectory in &self.trajectories {
            digest.update(trajectory.number.to_le_bytes());
            digest.update((trajectory.tokens.len() as u64).to_le_bytes());
            for token in &trajectory.tokens {
                digest.update(token.to_le_bytes());
            }
            for value in &trajectory.states {
                digest.update(value.to_le_bytes());
            }
        }
        hex(digest)
    }

    fn states(&self, windows: &[(u32, u32)], further: usize) -> Result<Tensor, AlignError> {
        let width = |trajectory: &Trajectory| trajectory.states.len() / trajectory.tokens.len();
        let hidden = self.trajectories.first().map_or(0, width);
        let mut values = Vec::with_capacity(windows.len() * hidden);
        for (index, start) in windows {
            let states = &self.trajectories[*index as usize].states;
            let row = &states[(*start as usize + further) * hidden..][..hidden];
            values.extend(row.iter().map(|value| value.to_f32()));
        }
        Ok(Tensor::from_vec(
            values,
            (windows.len(), hidden),
            &Device::Cpu,
        )?)
    }

    fn tokens(&self, windows: &[(u32, u32)], further: usize) -> Vec<u32> {
        let of = |(index, start): &(u32, u32)| {
            self.trajectories[*index as usize].tokens[*start as usize + further]
        };
        windows.iter().map(of).collect()
    }
}

/// A training under way.
struct Run<'a> {
    settings: &'a TrainSettings,
    data: &'a Data,
    frozen: &'a Frozen,
    /// The place of each token in the head's vocabulary.
    places: HashMap<u32, u32>,
    trainee: Trainee,
    optimizer: AdamW,
    curve: Vec<Point>,
}

impl Run<'_> {
    /// The windows of a step: the order of an epoch is drawn by its number.
    fn batch(&self, step: u64) -> Vec<(u32, u32)> {
        let count = self.data.windows.len();
        let each = count.div_ceil(self.settings.batch) as u64;
        let (epoch, at) = (step / each, (step % each) as usize * self.settings.batch);
        let mut generator = ChaCha8Rng::seed_from_u64(self.settings.seed);
        generator.set_stream(1 + epoch);
        let mut order: Vec<u32> = (0..count as u32).collect();
        // Fisher and Yates 1938; the bias of the remainder is below one in 2^40.
        for index in (1..count).rev() {
            let other = generator.next_u64() % (index as u64 + 1);
            order.swap(index, other as usize);
        }
        let end = (at + self.settings.batch).min(count);
        order[at..end]
            .iter()
            .map(|index| self.data.windows[*index as usize])
            .collect()
    }

    fn step(&mut self, steps: u64) -> Result<Point, AlignError> {
        let settings = self.settings;
        let step = self.optimizer.steps;
        let windows = self.batch(step);
        let rows = windows.len();
        let masked = self.masked(step, rows)?;
        let mut states = self.data.states(&windows, 0)?;
        let mut point = Point::default();
        let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?;
        let (mut weight, mut weights) = (1.0, 0.0);
        for further in 1..=settings.ahead {
            let told = self
                .frozen
                .embeddings(&self.data.tokens(&windows, further))?;
            let expected = self.data.states(&windows, further)?;
            let first = further == 1;
            let mask = masked.as_ref().filter(|_| first);
            states = self.trainee.step(&states, &told, mask)?;
            let (found, teacher) = (self.frozen.logits(&states)?, self.frozen.logits(&expected)?);
            let apart = smooth_l1(&states, &expected)?;
            let divergent = divergence(&found, &teacher, settings.temperature)?;
            if first {
                point.states = scalar(&apart)?;
                point.divergence = scalar(&divergent)?;
                point.accepted = self.accepted(&windows, &found)?;
                if let Some(mask) = mask {
                    let recovered = self.recovered(&windows, &found, mask)?;
                    point.recovery = scalar(&recovered)?;
                    loss = (loss + (recovered * settings.masked_weight)?)?;
                }
            }
            let both = ((apart * settings.state_weight)? + divergent)?;
            loss = (loss + (both * weight)?)?;
            weights += weight;
            weight *= FURTHER;
        }
        let loss = (loss / weights)?;
        point.loss = scalar(&loss)?;
        if !point.loss.is_finite() {
            return Err(AlignError::Diverged {
                step,
                loss: point.loss as f32,
            });
        }
        point.rate = rate(settings.learning_rate, step, settings.warmup, steps);
        let size = StepSize {
            learning_rate: point.rate,
            weight_decay: settings.weight_decay,
            clip: settings.clip,
        };
        let gradients = loss.backward()?;
        self.optimizer.step(self.trainee.vars(), &gradients, size)?;
        point.step = self.optimizer.steps;
        Ok(point)
    }

    /// Which rows of a step are masked: `[rows, 1]`, 1 where one is.
    fn masked(&self, step: u64, rows: usize) -> Result<Option<Tensor>, AlignError> {
        if self.settings.masked <= 0.0 {
            return Ok(None);
        }
        let mut generator = ChaCha8Rng::seed_from_u64(!self.settings.seed);
        generator.set_stream(step);
        let mut draw = || (generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let values: Vec<f32> = (0..rows)
            .map(|_| f32::from(u8::from(draw() < self.settings.masked)))
            .collect();
        Ok(Some(Tensor::from_vec(values, (rows, 1), &Device::Cpu)?))
    }

    /// The place in the head's vocabulary of what the model said after the first guess, and where it has one.
    fn said(&self, windows: &[(u32, u32)]) -> Vec<Option<u32>> {
        let tokens = self.data.tokens(windows, 2.min(self.settings.ahead + 1));
        tokens
            .iter()
            .map(|token| self.places.get(token).copied())
            .collect()
    }

    fn recovered(
        &self,
        windows: &[(u32, u32)],
        found: &Tensor,
        masked: &Tensor,
    ) -> Result<Tensor, AlignError> {
        let said = self.said(windows);
        let known: Vec<f32> = said
            .iter()
            .map(|place| f32::from(u8::from(place.is_some())))
            .collect();
        let places: Vec<u32> = said.iter().map(|place| place.unwrap_or(0)).collect();
        let known = Tensor::from_vec(known, windows.len(), &Device::Cpu)?;
        let places = Tensor::from_vec(places, windows.len(), &Device::Cpu)?;
        recovery(found, &places, &(masked.squeeze(1)? * known)?)
    }

    fn accepted(&self, windows: &[(u32, u32)], found: &Tensor) -> Result<f64, AlignError> {
        let best = found.argmax(1)?.to_vec1::<u32>()?;
        let said = self.said(windows);
        let right = best
            .iter()
            .zip(&said)
            .filter(|(best, said)| **said == Some(**best));
        Ok(right.count() as f64 / windows.len() as f64)
    }
}

fn scalar(tensor: &Tensor) -> Result<f64, AlignError> {
    Ok(f64::from(tensor.to_scalar::<f32>()?))
}

/// The moments and variables by name, for a checkpoint.
pub(crate) fn named(trainee: &Trainee, optimizer: &AdamW) -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    for (name, var) in trainee.vars() {
        tensors.insert(format!("value.{name}"), var.as_tensor().clone());
        if let Some((mean, square)) = optimizer.moments.get(name) {
            tensors.insert(format!("mean.{name}"), mean.clone());
            tensors.insert(format!("square.{name}"), square.clone());
        }
    }
    tensors
}

/// Where a plot of a training goes.
#[must_use]
pub fn curve_file(head: &Path) -> PathBuf {
    head.with_extension("svg")
}
