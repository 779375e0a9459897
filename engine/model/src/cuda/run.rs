//! Forward passes on the device.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstream, CUstreamCaptureMode};
use kakeya_core::{KvElement, KvStorage, SlabError, SlabShape};

use super::context::{Device, Launch};
use super::memory::{Buffer, Pinned};
use super::plan::{
    AttentionArgument, LinearArgument, Mode, Plan, ProductArgument, RotationArgument, RowArgument,
    SequenceArgument, SlotsArgument, element,
};
use super::slab::SlabOnDevice;
use super::weights::{LayerOnDevice, MatrixOnDevice, ModelOnDevice};
use crate::compute::{KeptLogits, LogitRows, PassSize, SequenceInput, count_pass};
use crate::config::{Activation, ModelConfig, SEGMENT};
use crate::device::CudaError;
use crate::isa::Isa;
use crate::model::Model;

/// Rows up to which products are made by the kernels for few rows.
const FEW_ROWS: usize = 48;
/// Rows of a tile of the kernels for many.
const TILE_ROWS: usize = 64;
const ATTENTION_THREADS: usize = 256;
/// Blocks that keep a large device busy.
const BUSY: usize = 132;
/// Graphs that are kept.
const MOST_GRAPHS: usize = 128;

/// A stream of the device's work.
#[derive(Debug)]
struct Stream {
    device: Arc<Device>,
    stream: CUstream,
}

// SAFETY: the driver's streams are used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.bind()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Self {
            device: Arc::clone(device),
            stream: device.check("making a stream", stream)?,
        })
    }

    fn wait(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the stream is ours.
        let waited = unsafe { result::stream::synchronize(self.stream) };
        self.device.check("a pass", waited)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: the stream is ours, and nobody uses it any more.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}

/// The logits for a session's next token, on the device.
#[derive(Debug)]
pub(crate) struct LogitsOnDevice {
    logits: Buffer<f32>,
    stream: Arc<Stream>,
}

impl LogitsOnDevice {
    /// A copy of them on the host; zeros where the device has failed, which whoever computes with it has said.
    pub(crate) fn fetch(&self) -> Vec<f32> {
        let mut host = vec![0.0; self.logits.len()];
        let _ = self.stream.wait();
        let _ = self.logits.read(0, &mut host);
        host
    }
}

/// The memory of passes up to some size.
#[derive(Debug)]
struct Scratch {
    size: PassSize,
    layouts: usize,
    residual: Buffer<f32>,
    /// Activations of the next product: row-major for few rows, transposed for many.
    packed: Buffer<f32>,
    wide: Buffer<f32>,
    queries: Buffer<f32>,
    window_queries: Buffer<f32>,
    sink_queries: Buffer<f32>,
    keys: Buffer<f32>,
    values: Buffer<f32>,
    branch: Buffer<f32>,
    logits: Buffer<f32>,
    angles: Buffer<f32>,
    /// What the plan says, and the same on the host.
    plan: Buffer<u8>,
    host_plan: Pinned<u8>,
    ranks: Buffer<u64>,
    host_ranks: Pinned<u64>,
}

/// The f32 of each buffer for a pass.
fn lengths(config: &ModelConfig, size: PassSize) -> [usize; 11] {
    let padded = size.rows.max(size.logits).next_multiple_of(TILE_ROWS);
    let transposed = |columns: usize| padded * (columns + columns / SEGMENT);
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;
    [
        size.rows * config.hidden,
        transposed(config.hidden.max(queries)),
        transposed(config.feed_forward),
        size.rows * queries,
        size.rows * queries,
        size.rows * queries,
        size.rows * keys,
        size.rows * keys,
        size.rows * config.hidden,
        size.logits * config.vocabulary,
        (config.ropes.len() + 1) * size.rows * 2 * config.head_dim,
    ]
}

/// Where the parts of the plan lie in its buffer.
fn places_of(size: PassSize, layouts: usize, layers: usize) -> [usize; 5] {
    let sequences = size.rows * size_of::<RowArgument>();
    let slots = sequences + size.sequences * size_of::<SequenceArgument>();
    let map = slots + layouts * layers * size_of::<SlotsArgument>();
    let end = map + (size.logits * size_of::<u32>()).next_multiple_of(16);
    [0, sequences, slots, map, end]
}

impl Scratch {
    fn new(
        device: &Arc<Device>,
        config: &ModelConfig,
        size: PassSize,
        layouts: usize,
    ) -> Result<Self, CudaError> {
        let [
            residual,
            packed,
            wide,
            queries,
            window,
            sink,
            keys,
            values,
            branch,
            logits,
            angles,
        ] = lengths(config, size).map(|length| Buffer::<f32>::new(device, length));
        let end = places_of(size, layouts, config.layers)[4];
        Ok(Self {
            size,
            layouts,
            residual: residual?,
            packed: packed?,
            wide: wide?,
            queries: queries?,
            window_queries: window?,
            sink_queries: sink?,
            keys: keys?,
            values: values?,
            branch: branch?,
            logits: logits?,
            angles: angles?,
            plan: Buffer::new(device, end)?,
            host_plan: Pinned::new(device, end)?,
            ranks: Buffer::new(device, size.logits)?,
            host_ranks: Pinned::new(device, size.logits)?,
        })
    }

    fn floats(&self) -> [&Buffer<f32>; 11] {
        [
            &self.residual,
            &self.packed,
            &self.wide,
            &self.queries,
            &self.window_queries,
            &self.sink_queries,
            &self.keys,
            &self.values,
            &self.branch,
            &self.logits,
            &self.angles,
        ]
    }
}

/// What the launches of a pass depend on, besides where its buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    logits: usize,
    /// Whether the logits are to be made later.
    later: bool,
    element: u32,
    attention: AttentionShape,
    /// Rows up to which the kernels for few are used.
    few: usize,
}

/// How the attention of a row is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AttentionShape {
    /// Blocks that share a row and head.
    cluster: usize,
    /// Units that a block has room for.
    room: usize,
    /// Query heads that a block takes.
    heads: usize,
}

/// A pass that was captured: launched as a whole.
#[derive(Debug)]
struct Graph {
    graph: cudarc::driver::sys::CUgraph,
    executable: CUgraphExec,
}

// SAFETY: graphs are used by one thread at a time, whoever holds the compute.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: both are ours, and no launch is under way: passes are waited for.
        unsafe {
            let _ = result::graph::exec_destroy(self.executable);
            let _ = result::graph::destroy(self.graph);
        }
    }
}

/// What passes on the device take, and what the last one left.
pub(crate) struct CudaCompute {
    device: Arc<Device>,
    stream: Arc<Stream>,
    model: Option<Arc<ModelOnDevice>>,
    config: Option<ModelConfig>,
    scratch: Option<Scratch>,
    graphs: HashMap<Shape, Graph>,
    plan: Plan,
    /// Places on the device for slabs that lie on the host.
    shadows: Vec<SlabOnDevice>,
    /// For the gates: how passes are cut.
    seed: u64,
    fault: Option<CudaError>,
    /// What was fetched of the last pass.
    logits: OnceCell<Vec<f32>>,
    states: OnceCell<Vec<f32>>,
}

impl CudaCompute {
    pub(crate) fn new() -> Result<Self, CudaError> {
        let device = Device::open()?;
        Ok(Self {
            stream: Arc::new(Stream::new(&device)?),
            device,
            model: None,
            config: None,
            scratch: None,
            graphs: HashMap::new(),
            plan: Plan::default(),
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
        let weights = model.uploaded().missing(model);
        let slab = slab.bytes().unwrap_or(usize::MAX) as u64;
        let floats: usize = lengths(config, size).iter().sum();
        // Each session keeps the logits for its next token.
        let kept = capacity * config.vocabulary;
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

    pub(crate) fn logits(&self, index: usize) -> &[f32] {
        let (vocabulary, part) = (self.config().vocabulary, self.plan.parts[index]);
        let all = self.logits.get_or_init(|| {
            let mut host = vec![0.0; self.plan.map.len() * vocabulary];
            let _ = self.scratch().logits.read(0, &mut host);
            host
        });
        &all[part.first_logits * vocabulary..][..part.logits * vocabulary]
    }

    pub(crate) fn greatest(&self, index: usize, row: usize) -> u32 {
        let rank = self.scratch().host_ranks[self.plan.parts[index].first_logits + row];
        u32::MAX - rank as u32
    }

    pub(crate) fn keep_logits(&self, index: usize, row: usize, to: &mut KeptLogits) {
        let vocabulary = self.config().vocabulary;
        let from = (self.plan.parts[index].first_logits + row) * vocabulary;
        to.set_on_device(self.greatest(index, row), |kept| {
            let there = kept.take().filter(|kept| {
                kept.logits.len() == vocabulary && Arc::ptr_eq(&kept.stream, &self.stream)
            });
            let make = || {
                Some(LogitsOnDevice {
                    logits: Buffer::new(&self.device, vocabulary).ok()?,
                    stream: Arc::clone(&self.stream),
                })
            };
            let Some(there) = there.or_else(make) else {
                tracing::error!("no memory of the GPU for a session's logits");
                return;
            };
            let logits = &self.scratch().logits;
            let _ = there
                .logits
                .copy(0, logits, from, vocabulary, self.stream.stream);
            *kept = Some(there);
        });
    }

    pub(crate) fn states(&self, index: usize) -> &[f32] {
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

    pub(crate) fn forward(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) {
        count_pass(Isa::Cuda);
        self.logits.take();
        self.states.take();
        self.fault = self.device.fault().cloned();
        if self.fault.is_none() {
            self.fault = self.run(model, batch).err();
        }
        for sequence in batch {
            let end = sequence.start + sequence.tokens.len() as u64;
            sequence.lengths.keys.fill(end);
            sequence.lengths.values.fill(end);
        }
    }

    pub(crate) fn logits_of(&mut self, model: &Model, rows: &[usize]) -> &[f32] {
        assert!(
            self.plan.parts.len() == 1
                && rows.last().is_none_or(|last| *last < self.plan.rows.len()),
            "the last pass has no such rows"
        );
        self.logits.take();
        self.states.take();
        self.plan.map.clear();
        self.plan.map.extend(rows.iter().map(|row| *row as u32));
        self.plan.parts[0].first_logits = 0;
        self.plan.parts[0].logits = rows.len();
        if self.fault.is_none() {
            self.fault = self.run_logits(model).err();
        }
        self.logits(0)
    }

    fn config(&self) -> &ModelConfig {
        self.config.as_ref().expect("a pass has run")
    }

    fn scratch(&self) -> &Scratch {
        self.scratch.as_ref().expect("a pass has run")
    }

    fn model(&self) -> &ModelOnDevice {
        self.model.as_ref().expect("the pass has a model")
    }

    fn turn_to(&mut self, model: &Model) -> Result<(), CudaError> {
        let there = model.uploaded().on(&self.device, model)?;
        if self
            .model
            .as_ref()
            .is_none_or(|last| !Arc::ptr_eq(last, &there))
        {
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
        let has = self.scratch.as_ref().map_or(
            (
                PassSize {
                    sequences: 0,
                    rows: 0,
                    logits: 0,
                },
                0,
            ),
            |scratch| (scratch.size, scratch.layouts),
        );
        let larger = PassSize {
            sequences: size.sequences.max(has.0.sequences),
            rows: size.rows.max(has.0.rows),
            logits: size.logits.max(has.0.logits).max(1),
        };
        let layouts = layouts.max(has.1);
        if (larger, layouts) != has {
            // Graphs know where the buffers were.
            self.graphs.clear();
            self.stream.wait()?;
            self.scratch = None;
            self.scratch = Some(Scratch::new(&self.device, config, larger, layouts)?);
        }
        Ok(())
    }

    fn run(&mut self, model: &Model, batch: &mut [SequenceInput<'_>]) -> Result<(), CudaError> {
        self.device.bind()?;
        self.turn_to(model)?;
        let mut plan = std::mem::take(&mut self.plan);
        plan.make(model, self.model().places, batch);
        self.plan = plan;
        let size = PassSize {
            sequences: batch.len(),
            rows: self.plan.rows.len(),
            logits: self.plan.map.len(),
        };
        let layouts = self.plan.slots.len() / model.config().layers;
        self.make_room(model.config(), size, layouts)?;
        let element_type = self.place(batch)?;
        self.send_plan()?;
        let later = batch
            .iter()
            .any(|sequence| sequence.logits == LogitRows::Later);
        let few = match self.seed {
            0 => FEW_ROWS,
            seed => [0, 7, 300][(mixed(seed, 1) % 3) as usize],
        };
        let shape = Shape {
            rows: size.rows,
            logits: if later { 0 } else { size.logits },
            later,
            element: element(element_type),
            attention: self.attention_shape(size.rows),
            few,
        };
        if size.rows > 0 {
            self.launch_pass(shape)?;
        }
        self.fetch_ranks(shape.logits)?;
        self.stream.wait()?;
        self.bring_back(batch);
        Ok(())
    }

    fn run_logits(&mut self, model: &Model) -> Result<(), CudaError> {
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
        self.send_plan()?;
        self.make_logits(model.config(), size.logits, FEW_ROWS)?;
        self.fetch_ranks(size.logits)?;
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
                    kakeya_core::DeviceKv::upload(slab, host, &[all]);
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
        let fits = |slab: &SlabOnDevice| kakeya_core::DeviceKv::shape(slab) == shape;
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
            let all = 0..kakeya_core::DeviceKv::shape(slab).elements().unwrap_or(0);
            kakeya_core::DeviceKv::download(slab, sequence.storage, &[all]);
        }
    }

    fn send_plan(&mut self) -> Result<(), CudaError> {
        let layers = self.config().layers;
        let scratch = self.scratch.as_mut().expect("room was made");
        let [rows, sequences, slots, map, end] = places_of(scratch.size, scratch.layouts, layers);
        let mut put = |at: usize, bytes: &[u8]| {
            scratch.host_plan[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(rows, bytemuck::cast_slice(&self.plan.rows));
        put(sequences, bytemuck::cast_slice(&self.plan.sequences));
        put(slots, bytemuck::cast_slice(&self.plan.slots));
        put(map, bytemuck::cast_slice(&self.plan.map));
        // SAFETY: both have `end` bytes, and the host's are not written before the pass was waited for.
        let sent = unsafe {
            result::memcpy_htod_async(
                scratch.plan.pointer(),
                &scratch.host_plan[..end],
                self.stream.stream,
            )
        };
        self.device.check("sending the plan of a pass", sent)?;
        if self.plan.own_angles {
            let angles = &self.plan.angles;
            scratch.angles.write(0, angles)?;
        }
        Ok(())
    }

    fn fetch_ranks(&mut self, count: usize) -> Result<(), CudaError> {
        if count == 0 {
            return Ok(());
        }
        let scratch = self.scratch.as_mut().expect("room was made");
        // SAFETY: both have so many, and the host's are not read before the pass was waited for.
        let fetched = unsafe {
            result::memcpy_dtoh_async(
                &mut scratch.host_ranks[..count],
                scratch.ranks.pointer(),
                self.stream.stream,
            )
        };
        self.device.check("fetching what a pass has found", fetched)
    }

    /// How the attention of so many rows is shared: blocks enough to keep the device busy, and as much room as they need.
    fn attention_shape(&self, rows: usize) -> AttentionShape {
        let config = self.config();
        let group = config.group();
        let heads = (1..=4)
            .rev()
            .find(|heads| group.is_multiple_of(*heads))
            .unwrap_or(1);
        let blocks = rows * config.heads / heads;
        // Shapes that change with every few tokens would be as many graphs.
        let units = self.plan.units.next_multiple_of(16);
        let fits =
            |room: usize| attention_bytes(heads, config.head_dim, room) <= self.device.shared();
        let most = (1..).take_while(|room| fits(2 * room)).last().unwrap_or(1) * 2;
        let mut cluster = 1;
        if self.device.has_clusters() && rows <= FEW_ROWS {
            while cluster < 8 && (blocks * cluster < BUSY || units.div_ceil(cluster) > most) {
                cluster *= 2;
            }
        }
        if self.seed != 0 && self.device.has_clusters() && rows <= 7 {
            cluster = 1 << (mixed(self.seed, 2) % 4);
        }
        // Without room for all, one block goes through them piece by piece.
        if units.div_ceil(cluster) > most {
            cluster = 1;
        }
        let mut room = (units.div_ceil(cluster) + 1).next_multiple_of(2).min(most);
        if self.seed != 0 && cluster == 1 {
            room = room.min(2 + 2 * (mixed(self.seed, 3) % 4) as usize);
        }
        AttentionShape {
            cluster,
            room,
            heads,
        }
    }

    /// Launches a pass: as a graph where it is one that comes again and again.
    fn launch_pass(&mut self, shape: Shape) -> Result<(), CudaError> {
        if shape.rows > shape.few || self.seed != 0 {
            return self.launch_kernels(shape);
        }
        if !self.graphs.contains_key(&shape) {
            if self.graphs.len() >= MOST_GRAPHS {
                self.stream.wait()?;
                self.graphs.clear();
            }
            let graph = self.capture(shape)?;
            self.graphs.insert(shape, graph);
        }
        // SAFETY: what the graph's kernels use is there: graphs are dropped before buffers are.
        let launched =
            unsafe { result::graph::launch(self.graphs[&shape].executable, self.stream.stream) };
        self.device.check("launching a pass", launched)
    }

    fn capture(&self, shape: Shape) -> Result<Graph, CudaError> {
        let stream = self.stream.stream;
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours, and this thread's launches go into the graph until the capture ends.
        let begun = unsafe { result::stream::begin_capture(stream, mode) };
        self.device.check("capturing a pass", begun)?;
        let launched = self.launch_kernels(shape);
        // SAFETY: as above.
        let graph = unsafe { result::stream::end_capture(stream) };
        launched?;
        let graph = self.device.check("capturing a pass", graph)?;
        let flags = CUgraphInstantiate_flags(0);
        // SAFETY: the graph was just captured.
        let executable = unsafe { result::graph::instantiate(graph, flags) };
        Ok(Graph {
            graph,
            executable: self.device.check("making a graph", executable)?,
        })
    }

    fn launch_kernels(&self, shape: Shape) -> Result<(), CudaError> {
        let config = self.config();
        let scratch = self.scratch();
        let model = self.model();
        self.embed(shape)?;
        for (index, layer) in model.layers.iter().enumerate() {
            let last = index + 1 == model.layers.len();
            let few = shape.rows <= shape.few;
            self.project(layer, shape)?;
            self.rotate(layer, index, shape)?;
            if last && shape.logits == 0 && !shape.later {
                return Ok(());
            }
            self.attend(index, shape)?;
            let out = &layer.attention_out;
            let attended = config.heads * config.head_dim;
            let norm = layer.post_attention_norm.as_ref();
            self.add_product(
                &out.matrix,
                (&scratch.packed, attended),
                out.bias.as_ref(),
                norm,
                shape,
            )?;
            if few {
                let gated = LinearArgument {
                    norm: layer.feed_forward_norm.pointer(),
                    ..self.gated(layer, config)
                };
                self.few(
                    &LinearArgument {
                        x: scratch.residual.pointer(),
                        ..gated
                    },
                    shape.rows,
                )?;
            } else {
                self.normalise(&layer.feed_forward_norm, None, shape.rows, true)?;
                self.many(&self.gated(layer, config), config.hidden, shape.rows)?;
            }
            let norm = layer.post_feed_forward_norm.as_ref();
            let wide = (&scratch.wide, config.feed_forward);
            self.add_product(&layer.down, wide, None, norm, shape)?;
        }
        if shape.later {
            return Ok(());
        }
        self.make_logits(config, shape.logits, shape.few)
    }

    fn make_logits(
        &self,
        config: &ModelConfig,
        logits: usize,
        few: usize,
    ) -> Result<(), CudaError> {
        if logits == 0 {
            return Ok(());
        }
        let scratch = self.scratch();
        let model = self.model();
        let few = logits <= few;
        let [_, _, _, map, _] = places_of(scratch.size, scratch.layouts, config.layers);
        self.normalise(&model.output_norm, Some(scratch.plan.at(map)), logits, !few)?;
        let mut linear = LinearArgument {
            count: 1,
            segments: (config.hidden / SEGMENT) as u32,
            mode: Mode::Store as u32,
            x: scratch.packed.pointer(),
            x_stride: config.hidden as u64,
            ..LinearArgument::default()
        };
        linear.products[0] = product(model.output(), scratch.logits.pointer(), config.vocabulary);
        if few {
            self.few(&linear, logits)?;
        } else {
            self.many(&linear, config.hidden, logits)?;
        }
        scratch.ranks.fill(0, self.stream.stream)?;
        let vocabulary = config.vocabulary as u32;
        let (from, to) = (scratch.logits.pointer(), scratch.ranks.pointer());
        let launch = Launch {
            grid: (24, logits),
            threads: 256,
            shared: 0,
            cluster: 1,
        };
        self.launch(
            "greatest",
            launch,
            &mut [argument(&from), argument(&vocabulary), argument(&to)],
        )
    }

    fn embed(&self, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let matrix = self.model().embedding.argument();
        let (rows, residual) = (scratch.plan.pointer(), scratch.residual.pointer());
        let (segments, scale) = ((config.hidden / SEGMENT) as u32, config.embedding_scale);
        let launch = Launch {
            grid: (shape.rows, 1),
            threads: (segments as usize).next_multiple_of(32).min(256),
            shared: 0,
            cluster: 1,
        };
        self.launch(
            "embed",
            launch,
            &mut [
                argument(&matrix),
                argument(&rows),
                argument(&residual),
                argument(&segments),
                argument(&scale),
            ],
        )
    }

    /// Queries, keys and values.
    fn project(&self, layer: &LayerOnDevice, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let (queries, keys) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let linear = LinearArgument {
            products: [
                product(&layer.key.matrix, scratch.keys.pointer(), keys),
                product(&layer.value.matrix, scratch.values.pointer(), keys),
                product(&layer.query.matrix, scratch.queries.pointer(), queries),
            ],
            count: 3,
            segments: (config.hidden / SEGMENT) as u32,
            mode: Mode::Store as u32,
            x_stride: config.hidden as u64,
            epsilon: config.norm_epsilon,
            ..LinearArgument::default()
        };
        if shape.rows <= shape.few {
            let fused = LinearArgument {
                x: scratch.residual.pointer(),
                norm: layer.attention_norm.pointer(),
                ..linear
            };
            return self.few(&fused, shape.rows);
        }
        self.normalise(&layer.attention_norm, None, shape.rows, true)?;
        let linear = LinearArgument {
            x: scratch.packed.pointer(),
            ..linear
        };
        self.many(&linear, config.hidden, shape.rows)
    }

    fn rotate(&self, layer: &LayerOnDevice, index: usize, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch, model) = (self.config(), self.scratch(), self.model());
        let [rows, sequences, slots, _, _] =
            places_of(scratch.size, scratch.layouts, config.layers);
        let rope = config.kinds[index].rope;
        let width = 2 * config.head_dim;
        let pointer = |values: &Option<Buffer<f32>>| values.as_ref().map_or(0, Buffer::pointer);
        let rotation = RotationArgument {
            rows: scratch.plan.at(rows),
            sequences: scratch.plan.at(sequences),
            slots: scratch.plan.at(slots + index * size_of::<SlotsArgument>()),
            layers: config.layers as u32,
            heads: config.heads as u32,
            kv_heads: config.kv_heads as u32,
            dim: config.head_dim as u32,
            queries: scratch.queries.pointer(),
            keys: scratch.keys.pointer(),
            values: scratch.values.pointer(),
            query_bias: pointer(&layer.query.bias),
            key_bias: pointer(&layer.key.bias),
            value_bias: pointer(&layer.value.bias),
            query_norm: pointer(&layer.query.norm),
            key_norm: pointer(&layer.key.norm),
            angles: model.angles[rope].pointer(),
            sink_angles: model.angles[0].pointer(),
            own_angles: scratch.angles.at(rope * shape.rows * width),
            own_sink_angles: scratch.angles.at(config.ropes.len() * shape.rows * width),
            window_queries: scratch.window_queries.pointer(),
            sink_queries: scratch.sink_queries.pointer(),
            places: model.places as u32,
            epsilon: config.norm_epsilon,
            element: shape.element,
            unused: 0,
        };
        let heads = config.heads + config.kv_heads;
        let floats =
            (heads + 2 * config.kv_heads) * config.head_dim + heads * config.head_dim / SEGMENT;
        let launch = Launch {
            grid: (shape.rows, 1),
            threads: 256,
            shared: floats * size_of::<f32>(),
            cluster: 1,
        };
        self.launch("rotate_and_store", launch, &mut [argument(&rotation)])
    }

    fn attend(&self, index: usize, shape: Shape) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let [rows, sequences, slots, _, _] =
            places_of(scratch.size, scratch.layouts, config.layers);
        let AttentionShape {
            cluster,
            room,
            heads,
        } = shape.attention;
        let few = shape.rows <= shape.few;
        let attention = AttentionArgument {
            rows: scratch.plan.at(rows),
            sequences: scratch.plan.at(sequences),
            slots: scratch.plan.at(slots + index * size_of::<SlotsArgument>()),
            layers: config.layers as u32,
            heads: config.heads as u32,
            kv_heads: config.kv_heads as u32,
            dim: config.head_dim as u32,
            window_queries: scratch.window_queries.pointer(),
            sink_queries: scratch.sink_queries.pointer(),
            out: scratch.packed.pointer(),
            scale: config.attention_scale,
            padded: if few { 0 } else { padded(shape.rows) as u32 },
            room: room as u32,
            cluster: cluster as u32,
        };
        let launch = Launch {
            grid: (config.heads / heads * cluster, shape.rows),
            threads: ATTENTION_THREADS,
            shared: attention_bytes(heads, config.head_dim, room),
            cluster,
        };
        let element = ["f16", "f32", "int8"][shape.element as usize];
        let name = format!("attend_{element}_{heads}");
        self.launch(&name, launch, &mut [argument(&attention)])
    }

    /// Adds a product, its bias and norm where it has them, to the residual stream.
    fn add_product(
        &self,
        matrix: &MatrixOnDevice,
        (x, columns): (&Buffer<f32>, usize),
        bias: Option<&Buffer<f32>>,
        norm: Option<&Buffer<f32>>,
        shape: Shape,
    ) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let plain = bias.is_none() && norm.is_none();
        let (out, mode) = match plain {
            true => (&scratch.residual, Mode::Accumulate),
            false => (&scratch.branch, Mode::Store),
        };
        let mut linear = LinearArgument {
            count: 1,
            segments: (columns / SEGMENT) as u32,
            mode: mode as u32,
            x: x.pointer(),
            x_stride: columns as u64,
            ..LinearArgument::default()
        };
        linear.products[0] = product(matrix, out.pointer(), config.hidden);
        if shape.rows <= shape.few {
            self.few(&linear, shape.rows)?;
        } else {
            self.many(&linear, columns, shape.rows)?;
        }
        if plain {
            return Ok(());
        }
        let pointer = |values: Option<&Buffer<f32>>| values.map_or(0, Buffer::pointer);
        let (branch, residual) = (scratch.branch.pointer(), scratch.residual.pointer());
        let (bias, norm) = (pointer(bias), pointer(norm));
        let (epsilon, hidden) = (config.norm_epsilon, config.hidden as u32);
        let launch = Launch {
            grid: (shape.rows, 1),
            threads: 128,
            shared: norm_bytes(config.hidden),
            cluster: 1,
        };
        self.launch(
            "add_branch",
            launch,
            &mut [
                argument(&branch),
                argument(&bias),
                argument(&norm),
                argument(&epsilon),
                argument(&hidden),
                argument(&residual),
            ],
        )
    }

    /// The gated half of a feed-forward layer.
    fn gated(&self, layer: &LayerOnDevice, config: &ModelConfig) -> LinearArgument {
        let scratch = self.scratch();
        let out = scratch.wide.pointer();
        LinearArgument {
            products: [
                product(&layer.gate, out, config.feed_forward),
                product(&layer.up, out, config.feed_forward),
                ProductArgument::default(),
            ],
            count: 2,
            segments: (config.hidden / SEGMENT) as u32,
            mode: Mode::Gated as u32,
            gelu: u32::from(config.activation == Activation::Gelu),
            x: scratch.packed.pointer(),
            x_stride: config.hidden as u64,
            epsilon: config.norm_epsilon,
            ..LinearArgument::default()
        }
    }

    /// Normalises rows of the residual stream into `packed`: those that `map` names, or all.
    fn normalise(
        &self,
        weights: &Buffer<f32>,
        map: Option<u64>,
        rows: usize,
        transposed: bool,
    ) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let (x, out) = (scratch.residual.pointer(), scratch.packed.pointer());
        let (map, weights) = (map.unwrap_or(0), weights.pointer());
        let (epsilon, columns) = (config.norm_epsilon, config.hidden as u32);
        let padded = if transposed { padded(rows) as u32 } else { 0 };
        let launch = Launch {
            grid: (rows, 1),
            threads: 128,
            shared: norm_bytes(config.hidden),
            cluster: 1,
        };
        self.launch(
            "normalise",
            launch,
            &mut [
                argument(&x),
                argument(&map),
                argument(&weights),
                argument(&epsilon),
                argument(&columns),
                argument(&out),
                argument(&padded),
            ],
        )
    }

    /// Products of few rows, in tiles that keep the device busy.
    fn few(&self, linear: &LinearArgument, rows: usize) -> Result<(), CudaError> {
        let segments = linear.segments as usize;
        let products = &linear.products[..linear.count as usize];
        let gated = linear.mode == Mode::Gated as u32;
        let matrices = if gated { 2 } else { 1 };
        let panels: usize = match gated {
            true => panels_of(&products[0]),
            false => products.iter().map(panels_of).sum(),
        };
        let chains = products
            .iter()
            .map(chains_of)
            .max()
            .unwrap_or(1);
        let bytes = |tile: usize, columns: usize| {
            let floats = tile * segments * (SEGMENT + 5)
                + tile
                + 2 * tile * columns
                + matrices * chains * segments * tile * columns;
            floats * size_of::<f32>()
        };
        let tiles: &[(usize, usize)] = match rows {
            1 if panels >= 4 * BUSY => &[(1, 32)],
            1 => &[(1, 8)],
            2 if panels >= 2 * BUSY => &[(2, 32), (1, 32), (1, 8)],
            2 => &[(2, 8), (1, 8)],
            3..=4 => &[(4, 32), (2, 32), (2, 8), (1, 8)],
            _ => &[(8, 32), (4, 32), (2, 32), (2, 8), (1, 8)],
        };
        let fits =
            |(tile, columns): &&(usize, usize)| bytes(*tile, *columns) <= self.device.shared();
        let Some((tile, columns)) = tiles.iter().find(fits).copied() else {
            return Err(CudaError::Failed {
                what: "a product".to_owned(),
                detail: format!(
                    "{} inputs need more shared memory than {} has",
                    segments * SEGMENT,
                    self.device.facts().name
                ),
            });
        };
        let linear = LinearArgument {
            rows: rows as u32,
            ..*linear
        };
        let launch = Launch {
            grid: (panels * (32 / columns), rows.div_ceil(tile)),
            threads: (matrices * segments * columns)
                .next_multiple_of(32)
                .clamp(64, 512),
            shared: bytes(tile, columns),
            cluster: 1,
        };
        self.launch(
            &format!("few_{tile}_{columns}"),
            launch,
            &mut [argument(&linear)],
        )
    }

    /// Products of many rows, whose activations are transposed.
    fn many(&self, linear: &LinearArgument, columns: usize, rows: usize) -> Result<(), CudaError> {
        let padded = padded(rows);
        let linear = LinearArgument {
            rows: rows as u32,
            padded: padded as u32,
            // Sums stand behind the values.
            sums: linear.x + (columns * padded * size_of::<f32>()) as u64,
            ..*linear
        };
        let products = &linear.products[..linear.count as usize];
        let (name, panels) = match linear.mode == Mode::Gated as u32 {
            true => ("many_gated", panels_of(&products[0])),
            false => ("many_one", products.iter().map(panels_of).sum()),
        };
        let launch = Launch {
            grid: (panels, padded / TILE_ROWS),
            threads: 128,
            shared: 0,
            cluster: 1,
        };
        self.launch(name, launch, &mut [argument(&linear)])
    }

    fn launch(
        &self,
        name: &str,
        launch: Launch,
        arguments: &mut [*mut c_void],
    ) -> Result<(), CudaError> {
        // SAFETY: the arguments are those of the kernel, as the callers above name them side by side; buffers are dropped
        // only after the stream was waited for.
        unsafe {
            self.device
                .launch(self.stream.stream, name, launch, arguments)
        }
    }
}

impl Drop for CudaCompute {
    fn drop(&mut self) {
        let _ = self.stream.wait();
        self.graphs.clear();
    }
}

fn argument<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

fn product(matrix: &MatrixOnDevice, out: u64, stride: usize) -> ProductArgument {
    ProductArgument {
        matrix: matrix.argument(),
        out,
        stride: stride as u64,
    }
}

fn panels_of(product: &ProductArgument) -> usize {
    (product.matrix.rows as usize).div_ceil(crate::panels::PANEL)
}

fn chains_of(product: &ProductArgument) -> usize {
    1 + usize::from(product.matrix.kind == crate::panels::PanelKind::Q6K as u32)
}

/// Rows that transposed activations have room for.
fn padded(rows: usize) -> usize {
    rows.next_multiple_of(TILE_ROWS)
}

/// Shared memory of a normalisation: the row, and a chain for each segment.
fn norm_bytes(columns: usize) -> usize {
    (columns + columns / SEGMENT) * size_of::<f32>()
}

/// Shared memory of a block of attention.
fn attention_bytes(heads: usize, dim: usize, room: usize) -> usize {
    heads * (3 * dim + (room + 1) * SEGMENT + room + room * dim) * size_of::<f32>()
}

/// A number that looks random: SplitMix64 (Steele, Lea and Flood 2014).
fn mixed(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
