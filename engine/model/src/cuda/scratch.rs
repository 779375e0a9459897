//! The memory of passes on the device.

use std::sync::Arc;

use super::context::Device;
use super::memory::{Buffer, Pinned};
use super::plan::{
    RowArgument, RowTileArgument, SequenceArgument, SightArgument, SlotsArgument, kinds,
};
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
    /// What the plan says, and the same on the host.
    pub(super) plan: Buffer<u8>,
    pub(super) host_plan: Pinned<u8>,
    pub(super) ranks: Buffer<u64>,
    pub(super) host_ranks: Pinned<u64>,
    /// The tokens that were drawn.
    pub(super) drawn: Buffer<u32>,
    pub(super) host_drawn: Pinned<u32>,
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
            angles: angles?,
            places: Places::of(size, layouts, config),
            plan: Buffer::new(device, end)?,
            host_plan: Pinned::new(device, end)?,
            ranks: Buffer::new(device, size.logits)?,
            host_ranks: Pinned::new(device, size.logits)?,
            drawn: Buffer::new(device, size.logits)?,
            host_drawn: Pinned::new(device, size.logits)?,
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
