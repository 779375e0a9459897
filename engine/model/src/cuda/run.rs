//! Forward passes on the device.

use std::cell::OnceCell;
use std::sync::Arc;

use cudarc::driver::result;
use kakeya_core::{DeviceKv, KvElement, KvStorage, SlabError, SlabShape};

use super::ahead::Begun;
use super::clock::Clock;
use super::context::Device;
use super::graph::{Graphs, Shape};
use super::plan::{Plan, Which, element};
use super::scratch::{Scratch, lengths};
use super::slab::SlabOnDevice;
use super::stream::Stream;
use super::weights::ModelOnDevice;
use crate::compute::{LogitRows, PassSize, SequenceInput, count_pass, device_is_timed};
use crate::config::ModelConfig;
use crate::device::CudaError;
use crate::isa::Isa;
use crate::model::Model;

/// Blocks that keep a large device busy.
pub(super) const BUSY: usize = 132;

/// A pass on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launched {
    pub(super) shape: Shape,
    /// Whether its time is taken.
    timed: bool,
}

/// What passes on the device take, and what the last one left.
pub(crate) struct CudaCompute {
    isa: Isa,
    pub(super) device: Arc<Device>,
    pub(super) stream: Arc<Stream>,
    model: Option<Arc<ModelOnDevice>>,
    config: Option<ModelConfig>,
    pub(super) scratch: Option<Scratch>,
    pub(super) graphs: Graphs,
    pub(super) plan: Plan,
    /// Which of the host's sides in the scratch memory is the last pass's.
    pub(super) turn: usize,
    /// The pass after the last one.
    pub(super) ahead: Begun,
    /// Places on the device for slabs that lie on the host.
    shadows: Vec<SlabOnDevice>,
    /// For the gates: how passes are cut.
    pub(super) seed: u64,
    fault: Option<CudaError>,
    /// What was fetched of the last pass.
    pub(super) logits: OnceCell<Vec<f32>>,
    pub(super) states: OnceCell<Vec<f32>>,
}

impl CudaCompute {
    /// One for the GPU, or its fast mode.
    pub(crate) fn new(isa: Isa) -> Result<Self, CudaError> {
        let device = Device::open()?;
        Ok(Self {
            isa,
            stream: Arc::new(Stream::new(&device)?),
            device,
            model: None,
            config: None,
            scratch: None,
            graphs: Graphs::default(),
            plan: Plan::default(),
            turn: 0,
            ahead: Begun::default(),
            shadows: Vec::new(),
            seed: 0,
            fault: None,
            logits: OnceCell::new(),
            states: OnceCell::new(),
        })
    }

    pub(crate) fn reserve(&mut self, model: &Model, size: PassSize) -> Result<(), CudaError> {
        self.turn_to(model)?;
        self.make_room(model.config(), size, 1)
    }

    pub(crate) fn check_room(
        &self,
        model: &Model,
        slab: SlabShape,
        capacity: usize,
        size: PassSize,
    ) -> Result<(), CudaError> {
        self.device.bind()?;
        let (free, total) = self.device.memory()?;
        let config = model.config();
        let weights = model.uploaded().missing(model, self.is_fast());
        let slab = slab.bytes().unwrap_or(usize::MAX) as u64;
        let floats: usize = lengths(config, size).iter().sum();
        // Each session keeps the logits for its next token, and a pass that is begun ahead makes those after that.
        let kept = 2 * capacity * config.vocabulary;
        let scratch = ((floats + kept) * size_of::<f32>()) as u64;
        let needed = slab
            .checked_mul(capacity as u64)
            .and_then(|slabs| slabs.checked_add(weights)?.checked_add(scratch))
            .unwrap_or(u64::MAX);
        if needed <= free {
            return Ok(());
        }
        Err(CudaError::NoRoom {
            name: self.device.facts().name.clone(),
            free,
            total,
            needed,
            weights,
            capacity,
            slab,
            scratch,
        })
    }

    pub(crate) fn storage(&self, shape: SlabShape) -> Result<KvStorage, SlabError> {
        let slab = SlabOnDevice::new(&self.device, shape)?;
        Ok(KvStorage::Device(Box::new(slab)))
    }

    pub(crate) fn inject_delays(&mut self, seed: u64) {
        self.seed = seed;
    }

    pub(crate) fn poison_scratch(&mut self) {
        let Some(scratch) = &self.scratch else { return };
        for buffer in scratch.floats() {
            // All ones are no number.
            let _ = buffer.fill(0xff, self.stream.stream);
        }
        let _ = self.stream.wait();
    }

    pub(crate) fn fault(&self) -> Option<&CudaError> {
        self.fault.as_ref()
    }

    pub(crate) fn lost(&self) -> Option<&CudaError> {
        self.device.fault()
    }

    pub(crate) fn forward(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) {
        count_pass(self.isa);
        self.logits.take();
        self.states.take();
        self.fault = self.device.fault().cloned();
        match self.fault {
            None => self.fault = self.run(model, batch).err(),
            // What was begun before nobody waits for any more.
            Some(_) => self.drop_ahead(),
        }
        for sequence in batch {
            let end = sequence.start + sequence.tokens.len() as u64;
            sequence.lengths.keys.fill(end);
            sequence.lengths.values.fill(end);
        }
    }

    pub(crate) fn logits_of(&mut self, _model: &Model, rows: &[usize]) -> &[f32] {
        self.assert_not_ahead();
        assert!(
            self.plan.parts.len() == 1
                && rows.last().is_none_or(|last| *last < self.plan.rows.len()),
            "the last pass has no such rows"
        );
        self.logits.take();
        self.states.take();
        self.plan.draws.clear();
        self.plan.kept.clear();
        self.plan.kept.resize(rows.len(), 0);
        self.plan.map.clear();
        self.plan.map.extend(rows.iter().map(|row| *row as u32));
        self.plan.parts[0].first_logits = 0;
        self.plan.parts[0].logits = rows.len();
        if self.fault.is_none() {
            self.fault = self.run_logits().err();
        }
        self.logits(0)
    }

    /// Whether products are those of the fast mode.
    pub(super) fn is_fast(&self) -> bool {
        self.isa == Isa::CudaFast
    }

    pub(super) fn config(&self) -> &ModelConfig {
        self.config.as_ref().expect("a pass has run")
    }

    pub(super) fn scratch(&self) -> &Scratch {
        self.scratch.as_ref().expect("a pass has run")
    }

    pub(super) fn model(&self) -> &ModelOnDevice {
        self.model.as_ref().expect("the pass has a model")
    }

    fn turn_to(&mut self, model: &Model) -> Result<(), CudaError> {
        let there = model.uploaded().on(&self.device, model, self.is_fast())?;
        if self
            .model
            .as_ref()
            .is_none_or(|last| !Arc::ptr_eq(last, &there))
        {
            self.drop_ahead();
            self.stream.wait()?;
            self.graphs.clear();
            self.scratch = None;
            self.config = Some(model.config().clone());
            self.model = Some(there);
        }
        Ok(())
    }

    fn make_room(
        &mut self,
        config: &ModelConfig,
        size: PassSize,
        layouts: usize,
    ) -> Result<(), CudaError> {
        let scratch = self.scratch.as_ref();
        let has = scratch.map_or_else(Default::default, |scratch| (scratch.size, scratch.layouts));
        let larger = PassSize {
            sequences: size.sequences.max(has.0.sequences),
            rows: size.rows.max(has.0.rows),
            logits: size.logits.max(has.0.logits).max(1),
        };
        let layouts = layouts.max(has.1);
        if (larger, layouts) != has {
            self.drop_ahead();
            self.stream.wait()?;
            // They know where the buffers were.
            self.graphs.clear();
            self.scratch = None;
            self.scratch = Some(Scratch::new(&self.device, config, larger, layouts)?);
        }
        Ok(())
    }

    fn run(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) -> Result<(), CudaError> {
        self.device.bind()?;
        self.turn_to(model)?;
        let launched = match self.take_ahead(batch) {
            Some(launched) => launched,
            None => self.launch_batch(model, batch)?,
        };
        let Launched { shape, timed } = launched;
        self.go_ahead(model, batch, shape.element);
        let host = &self.scratch().hosts[self.turn];
        host.done.wait()?;
        if let Some(clock) = host.clock.as_ref().filter(|_| timed) {
            clock.count()?;
        }
        self.bring_back(batch);
        if !shape.later {
            self.tell_found(batch);
        }
        Ok(())
    }

    /// Lets the pass of a batch begin.
    fn launch_batch(
        &mut self,
        model: &Model,
        batch: &mut [SequenceInput<'_>],
    ) -> Result<Launched, CudaError> {
        let mut plan = std::mem::take(&mut self.plan);
        plan.make(model, self.model().places, batch, Which::This);
        self.plan = plan;
        let size = PassSize {
            sequences: batch.len(),
            rows: self.plan.rows.len(),
            logits: self.plan.map.len(),
        };
        let layouts = self.plan.layouts.len();
        self.make_room(model.config(), size, layouts)?;
        let element = element(self.place(batch)?);
        self.place_logits(batch);
        let later = batch
            .iter()
            .any(|sequence| sequence.logits == LogitRows::Later);
        self.launch_plan(self.turn, element, later)
    }

    /// Sends the plan to the device and lets its pass begin, once those before it have ended. `turn` is its side of the host.
    ///
    /// The copies before and after its kernels are what keeps passes apart: between two kernels the later one may read, before it
    /// waits, what was there before the pass, the plan among it.
    pub(super) fn launch_plan(
        &mut self,
        turn: usize,
        element: u32,
        later: bool,
    ) -> Result<Launched, CudaError> {
        let size = PassSize {
            sequences: self.plan.parts.len(),
            rows: self.plan.rows.len(),
            logits: self.plan.map.len(),
        };
        let tile = match self.seed {
            0 => usize::MAX,
            seed => 1 << (mixed(seed, 1) % 5),
        };
        let draws = self.plan.draws.iter();
        let shape = Shape {
            rows: size.rows,
            first: self.plan.first,
            logits: if later { 0 } else { size.logits },
            draws: !later && draws.into_iter().any(|draw| draw.temperature != 0.0),
            later,
            element,
            attention: self.attention_shape(size, element)?,
            tile,
        };
        let timed = device_is_timed();
        self.send_plan(turn)?;
        let stream = self.stream.stream;
        if timed {
            let device = Arc::clone(&self.device);
            let host = &mut self.scratch.as_mut().expect("room was made").hosts[turn];
            let clock = match host.clock.take() {
                Some(clock) => clock,
                None => Clock::new(&device)?,
            };
            host.clock.insert(clock).begin(stream)?;
        }
        if size.rows > 0 {
            self.launch_pass(shape)?;
        }
        if let Some(clock) = &self.scratch().hosts[turn].clock
            && timed
        {
            clock.end(stream)?;
        }
        self.fetch_ranks(turn, shape.logits)?;
        if shape.draws {
            self.fetch_drawn(turn, shape.logits)?;
        }
        self.scratch().hosts[turn].done.record(stream)?;
        Ok(Launched { shape, timed })
    }

    fn run_logits(&mut self) -> Result<(), CudaError> {
        self.device.bind()?;
        let size = PassSize {
            logits: self.plan.map.len(),
            ..self.scratch().size
        };
        if size.logits > self.scratch().size.logits {
            return Err(CudaError::Failed {
                what: "making logits".to_owned(),
                detail: "more rows than the pass had".to_owned(),
            });
        }
        self.send_plan(self.turn)?;
        self.make_logits(size.logits, false, usize::MAX)?;
        self.fetch_ranks(self.turn, size.logits)?;
        self.stream.wait()
    }

    /// Says where the slabs are. Those on the host are brought to the device. Returns the type of their elements.
    fn place(&mut self, batch: &mut [SequenceInput<'_>]) -> Result<KvElement, CudaError> {
        let mut found = KvElement::F16;
        let mut on_host = 0;
        for (index, sequence) in batch.iter_mut().enumerate() {
            let (elements, scales, kind) = match &*sequence.storage {
                KvStorage::Device(device) => {
                    let slab = device.as_any().downcast_ref::<SlabOnDevice>();
                    let slab = slab.filter(|slab| Arc::ptr_eq(slab.device(), &self.device));
                    let slab = slab.expect("a slab of the device that computes");
                    let (elements, scales) = slab.pointers();
                    (elements, scales, device.shape().element)
                }
                host => {
                    let kind = match host {
                        KvStorage::F32(_) => KvElement::F32,
                        KvStorage::Int8(_) => KvElement::Int8,
                        _ => KvElement::F16,
                    };
                    let shape = sequence.layout.slab_shape(kind);
                    let slab = self.shadow(on_host, shape)?;
                    on_host += 1;
                    let all = 0..shape.elements().unwrap_or(0);
                    slab.upload(host, &[all]);
                    let (elements, scales) = slab.pointers();
                    (elements, scales, kind)
                }
            };
            assert!(
                index == 0 || kind == found,
                "slabs of one element type in a pass"
            );
            found = kind;
            self.plan.sequences[index].elements = elements;
            self.plan.sequences[index].scales = scales;
        }
        Ok(found)
    }

    /// A place on the device for the slab of a session that has it on the host.
    fn shadow(&mut self, index: usize, shape: SlabShape) -> Result<&mut SlabOnDevice, CudaError> {
        let fits = |slab: &SlabOnDevice| slab.shape() == shape;
        if self.shadows.get(index).is_none_or(|slab| !fits(slab)) {
            let slab =
                SlabOnDevice::new(&self.device, shape).map_err(|error| CudaError::Failed {
                    what: "making room for a slab".to_owned(),
                    detail: error.to_string(),
                })?;
            self.shadows.truncate(index);
            self.shadows.push(slab);
        }
        Ok(&mut self.shadows[index])
    }

    /// Brings slabs back that lie on the host.
    fn bring_back(&self, batch: &mut [SequenceInput<'_>]) {
        let on_host = batch
            .iter_mut()
            .filter(|sequence| !matches!(&*sequence.storage, KvStorage::Device(_)));
        for (slab, sequence) in self.shadows.iter().zip(on_host) {
            let all = 0..slab.shape().elements().unwrap_or(0);
            slab.download(sequence.storage, &[all]);
        }
    }

    fn send_plan(&mut self, turn: usize) -> Result<(), CudaError> {
        let scratch = self.scratch.as_mut().expect("room was made");
        let places = scratch.places;
        let host = &mut scratch.hosts[turn];
        // The pass that was told from here before may not have begun, if nobody has waited for it.
        host.done.wait()?;
        let mut put = |at: usize, bytes: &[u8]| {
            host.plan[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(places.rows, bytemuck::cast_slice(&self.plan.rows));
        put(places.sequences, bytemuck::cast_slice(&self.plan.sequences));
        put(places.slots, bytemuck::cast_slice(&self.plan.slots));
        put(places.tiles, bytemuck::cast_slice(&self.plan.tiles));
        put(places.sights, bytemuck::cast_slice(&self.plan.sights));
        put(places.map, bytemuck::cast_slice(&self.plan.map));
        put(places.draws, bytemuck::cast_slice(&self.plan.draws));
        put(places.kept, bytemuck::cast_slice(&self.plan.kept));
        let stream = self.stream.stream;
        // SAFETY: both have so many bytes, and the host's are not written before the pass was waited for.
        let sent = unsafe {
            result::memcpy_htod_async(scratch.plan.pointer(), &host.plan[..places.end], stream)
        };
        self.device.check("sending the plan of a pass", sent)?;
        if self.plan.own_angles {
            let count = self.plan.angles.len();
            host.angles[..count].copy_from_slice(&self.plan.angles);
            assert!(count <= scratch.angles.len(), "beyond the buffer");
            // SAFETY: as above.
            let sent = unsafe {
                result::memcpy_htod_async(scratch.angles.pointer(), &host.angles[..count], stream)
            };
            self.device.check("sending the angles of a pass", sent)?;
        }
        Ok(())
    }
}

impl Drop for CudaCompute {
    fn drop(&mut self) {
        let _ = self.stream.wait();
        self.graphs.clear();
    }
}

/// A number that looks random: SplitMix64 (Steele, Lea and Flood 2014).
pub(super) fn mixed(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
