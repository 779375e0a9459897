//! The memory of passes on the device.

use std::sync::Arc;

use super::clock::Clock;
use super::context::Device;
use super::memory::{Buffer, Pinned};
use super::plan::{
    RowArgument, RowTileArgument, SequenceArgument, SightArgument, SlotsArgument, kinds,
};
use super::stream::Event;
use crate::compute::PassSize;
use crate::config::ModelConfig;
use crate::device::CudaError;
use crate::draw::Draw;

/// The memory of passes up to some size.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) size: PassSize,
    pub(super) layouts: usize,
    pub(super) residual: Buffer<f32>,
    /// Activations of the next product.
    pub(super) packed: Buffer<f32>,
    pub(super) wide: Buffer<f32>,
    pub(super) queries: Buffer<f32>,
    pub(super) keys: Buffer<f32>,
    pub(super) values: Buffer<f32>,
    pub(super) branch: Buffer<f32>,
    pub(super) logits: Buffer<f32>,
    pub(super) angles: Buffer<f32>,
    pub(super) places: Places,
    /// What the plan says.
    pub(super) plan: Buffer<u8>,
    pub(super) ranks: Buffer<u64>,
    /// The tokens that were drawn.
    pub(super) drawn: Buffer<u32>,
    /// For the last pass, and for one that is begun before that has ended.
    pub(super) hosts: [HostSide; 2],
}

/// What the host tells a pass, and what it hears of it.
#[derive(Debug)]
pub(super) struct HostSide {
    pub(super) plan: Pinned<u8>,
    pub(super) angles: Pinned<f32>,
    pub(super) ranks: Pinned<u64>,
    pub(super) drawn: Pinned<u32>,
    /// Where it ends.
    pub(super) done: Event,
    /// Made when the time is first asked for.
    pub(super) clock: Option<Clock>,
}

impl HostSide {
    fn new(
        device: &Arc<Device>,
        plan: usize,
        angles: usize,
        logits: usize,
    ) -> Result<Self, CudaError> {
        Ok(Self {
            plan: Pinned::new(device, plan)?,
            angles: Pinned::new(device, angles)?,
            ranks: Pinned::new(device, logits)?,
            drawn: Pinned::new(device, logits)?,
            done: Event::new(device)?,
            clock: None,
        })
    }
}

/// The f32 of each buffer for a pass.
pub(super) fn lengths(config: &ModelConfig, size: PassSize) -> [usize; 9] {
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;
    [
        size.rows * config.hidden,
        size.rows.max(size.logits) * config.hidden.max(queries),
        size.rows * config.feed_forward,
        size.rows * queries,
        size.rows * keys,
        size.rows * keys,
        size.rows * config.hidden,
        size.logits * config.vocabulary,
        (config.ropes.len() + 1) * size.rows * 2 * config.head_dim,
    ]
}

/// Where the parts of the plan lie in its buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) rows: usize,
    pub(super) sequences: usize,
    pub(super) slots: usize,
    /// For each kind of layer.
    pub(super) tiles: usize,
    pub(super) sights: usize,
    /// The rows of logits, and how tokens are drawn from them.
    pub(super) map: usize,
    pub(super) draws: usize,
    /// Where logits are kept.
    pub(super) kept: usize,
    pub(super) end: usize,
}

impl Places {
    pub(super) fn of(size: PassSize, layouts: usize, config: &ModelConfig) -> Self {
        let kinds = kinds(config).count();
        let tiles = size.rows * size_of::<RowArgument>();
        let sights = tiles + kinds * size.rows * size_of::<RowTileArgument>();
        let slots = sights + kinds * size.rows * size_of::<SightArgument>();
        let sequences = slots + layouts * config.layers * size_of::<SlotsArgument>();
        let map = sequences + size.sequences * size_of::<SequenceArgument>();
        let draws = map + (size.logits * size_of::<u32>()).next_multiple_of(16);
        let kept = draws + (size.logits * size_of::<Draw>()).next_multiple_of(16);
        let end = kept + (size.logits * size_of::<u64>()).next_multiple_of(16);
        Self {
            rows: 0,
            sequences,
            slots,
            tiles,
            sights,
            map,
            draws,
            kept,
            end,
        }
    }
}

impl Scratch {
    pub(super) fn new(
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
            keys,
            values,
            branch,
            logits,
            angles,
        ] = lengths(config, size).map(|length| Buffer::<f32>::new(device, length));
        let end = Places::of(size, layouts, config).end;
        let angles = angles?;
        let host = || HostSide::new(device, end, angles.len(), size.logits);
        let hosts = [host()?, host()?];
        Ok(Self {
            size,
            layouts,
            residual: residual?,
            packed: packed?,
            wide: wide?,
            queries: queries?,
            keys: keys?,
            values: values?,
            branch: branch?,
            logits: logits?,
            angles,
            places: Places::of(size, layouts, config),
            plan: Buffer::new(device, end)?,
            ranks: Buffer::new(device, size.logits)?,
            drawn: Buffer::new(device, size.logits)?,
            hosts,
        })
    }

    pub(super) fn floats(&self) -> [&Buffer<f32>; 9] {
        [
            &self.residual,
            &self.packed,
            &self.wide,
            &self.queries,
            &self.keys,
            &self.values,
            &self.branch,
            &self.logits,
            &self.angles,
        ]
    }
}
