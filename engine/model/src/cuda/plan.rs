//! What a pass tells its kernels: its rows, its sessions, and where their keys and values lie.

use bytemuck::Zeroable;
use kakeya_core::KvElement;

use super::weights::MatrixArgument;
use crate::compute::SequenceInput;
use crate::config::{ModelConfig, SEGMENT};
use crate::draw::Draw;
use crate::kv::{KvLayout, LayerLayout};
use crate::model::Model;

/// `Row` of numerics.cuh.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct RowArgument {
    token: u32,
    sequence: u32,
    angles: u32,
    sink_angles: u32,
}

/// `Sequence` of numerics.cuh.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct SequenceArgument {
    pub(super) elements: u64,
    pub(super) scales: u64,
    pub(super) layout: u32,
    unused: u32,
}

/// `Slots` of numerics.cuh.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct SlotsArgument {
    start: u64,
    count: u32,
    unused: u32,
}

/// `Sight` of numerics.cuh.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct SightArgument {
    low: i32,
    end: i32,
    sinks: i32,
    slot: u32,
}

/// `RowTile` of numerics.cuh.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct RowTileArgument {
    first: u32,
    rows: u32,
    sinks: u32,
    segments: u32,
    window_slot: u32,
    end_slot: u32,
    ring: u32,
    joined: u32,
    sequence: u32,
    layout: u32,
    unused: [u32; 2],
}

/// Rows of a session that a block of attention takes at most where rows see each other: `TILE_ROWS` of attention.cuh.
pub(super) const TILE_ROWS: usize = 2;

/// `Product` of formats.cuh.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct ProductArgument {
    pub(super) matrix: MatrixArgument,
    pub(super) out: u64,
    pub(super) stride: u64,
}

/// What a product does with its result: `Mode` of formats.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Store = 0,
    Accumulate = 1,
    Gated = 2,
}

/// `Linear` of formats.cuh.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct LinearArgument {
    pub(super) products: [ProductArgument; 3],
    pub(super) count: u32,
    pub(super) segments: u32,
    pub(super) mode: u32,
    pub(super) gelu: u32,
    pub(super) x: u64,
    pub(super) x_stride: u64,
    pub(super) norm: u64,
    pub(super) epsilon: f32,
    pub(super) rows: u32,
    pub(super) chains: u32,
    pub(super) stages: u32,
    pub(super) stage_bytes: u32,
    pub(super) group: u32,
    pub(super) share: u32,
    pub(super) each: u32,
    pub(super) map: u64,
}

/// `Rotation` of rotation.cuh.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct RotationArgument {
    pub(super) rows: u64,
    pub(super) sequences: u64,
    pub(super) slots: u64,
    pub(super) sights: u64,
    pub(super) layers: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) dim: u32,
    pub(super) queries: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) query_bias: u64,
    pub(super) key_bias: u64,
    pub(super) value_bias: u64,
    pub(super) query_norm: u64,
    pub(super) key_norm: u64,
    pub(super) angles: u64,
    pub(super) sink_angles: u64,
    pub(super) own_angles: u64,
    pub(super) own_sink_angles: u64,
    pub(super) places: u32,
    pub(super) epsilon: f32,
    pub(super) element: u32,
    pub(super) unused: u32,
}

/// `Attention` of attention.cuh.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct AttentionArgument {
    pub(super) made: RotationArgument,
    pub(super) out: u64,
    pub(super) tiles: u64,
    pub(super) scale: f32,
    pub(super) room: u32,
    pub(super) cluster: u32,
    pub(super) warps: u32,
    pub(super) stages: u32,
    pub(super) parts: u32,
}

/// One sequence of the pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// The position of its first row.
    pub(super) start: u64,
    pub(super) first_logits: usize,
    pub(super) logits: usize,
}

/// The pass. Its lists are kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) rows: Vec<RowArgument>,
    pub(super) sequences: Vec<SequenceArgument>,
    /// Layer after layer, one layout after the other.
    pub(super) slots: Vec<SlotsArgument>,
    /// For each kind of layer: the tiles of rows, and what each row sees.
    pub(super) tiles: Vec<RowTileArgument>,
    pub(super) sights: Vec<SightArgument>,
    /// The rows that logits are made of.
    pub(super) map: Vec<u32>,
    /// How a token is drawn from each of them; at a temperature of 0 it is not.
    pub(super) draws: Vec<Draw>,
    /// Where each of them is kept; 0 for nowhere.
    pub(super) kept: Vec<u64>,
    pub(super) parts: Vec<Part>,
    /// The layouts of its slabs.
    pub(super) layouts: Vec<KvLayout>,
    /// Angles of positions beyond the tables, for each rotation and each row, and behind them those of sinks.
    pub(super) angles: Vec<f32>,
    pub(super) own_angles: bool,
    /// The most units of 32 keys that a row sees in a layer.
    pub(super) units: usize,
    /// Rows that a layer stores and attends to first, and their tiles. What is left is the second chunk of a session: its
    /// keys may take the places of some that the first chunk sees.
    pub(super) first: Step,
}

/// Which pass is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one of the batch.
    This,
    /// The one after it, where each session has one token, and goes on with what was found after that.
    Next,
}

impl Which {
    fn start(self, sequence: &SequenceInput<'_>) -> u64 {
        match self {
            Self::This => sequence.start,
            Self::Next => sequence.start + 1,
        }
    }

    fn draw(self, sequence: &SequenceInput<'_>) -> Option<Draw> {
        match self {
            Self::This => sequence.draw,
            Self::Next => sequence.ahead.and_then(|ahead| ahead.draw),
        }
    }
}

/// Instead of a token: the one that was found in a row of the logits before. `FOUND` and `DRAWN` of numerics.cuh.
fn found_in(row: usize, draw: Option<Draw>) -> u32 {
    const FOUND: u32 = 1 << 31;
    const DRAWN: u32 = 1 << 30;
    let is_drawn = draw.is_some_and(|draw| draw.temperature != 0.0);
    FOUND | if is_drawn { DRAWN } else { 0 } | row as u32
}

/// Rows from one on, and tiles from one on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub(super) rows: usize,
    pub(super) tiles: usize,
}

impl Plan {
    /// Takes in a batch, or the one that comes after it. Where its slabs are is not known yet.
    pub(super) fn make(
        &mut self,
        model: &Model,
        places: usize,
        batch: &[SequenceInput<'_>],
        which: Which,
    ) {
        self.rows.clear();
        self.sequences.clear();
        self.slots.clear();
        self.tiles.clear();
        self.sights.clear();
        self.map.clear();
        self.draws.clear();
        self.kept.clear();
        self.parts.clear();
        self.layouts.clear();
        self.own_angles = false;
        self.units = 1;
        let total = batch.iter().map(|sequence| sequence.tokens.len()).sum();
        // The second chunk of a session is the end of the pass.
        let beyond = |sequence: &SequenceInput<'_>| {
            let chunk = sequence.layout.max_chunk();
            sequence.tokens.len().saturating_sub(chunk)
        };
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|index| beyond(&batch[*index]) > 0);
        self.first.rows = total - batch.iter().map(beyond).sum::<usize>();
        self.sequences
            .resize(batch.len(), SequenceArgument::default());
        self.parts.resize(batch.len(), Part::default());
        for &index in &order {
            let sequence = &batch[index];
            let same = |other: &KvLayout| *other == *sequence.layout;
            let layout = self.layouts.iter().position(same).unwrap_or_else(|| {
                self.layouts.push(sequence.layout.clone());
                let slots = sequence.layout.layers().iter().map(slots);
                self.slots.extend(slots);
                self.layouts.len() - 1
            });
            self.sequences[index].layout = layout as u32;
            let count = sequence.tokens.len();
            let first = sequence.logits.first(count);
            self.parts[index] = Part {
                start: which.start(sequence),
                first_logits: self.map.len(),
                logits: count - first,
            };
            for (offset, token) in sequence.tokens.iter().enumerate() {
                let position = self.parts[index].start + offset as u64;
                let row = self.rows.len();
                if offset >= first {
                    self.map.push(row as u32);
                    let draw = which.draw(sequence).filter(|_| offset + 1 == count);
                    self.draws.push(draw.unwrap_or_else(Draw::zeroed));
                    self.kept.push(0);
                }
                let sink = sequence.layout.sink_query_position(position);
                let row = RowArgument {
                    token: match which {
                        Which::This => *token,
                        Which::Next => found_in(index, sequence.draw),
                    },
                    sequence: index as u32,
                    angles: self.angles_at(model, places, position, (row, total), Place::Own),
                    sink_angles: sink.map_or(0, |at| {
                        self.angles_at(model, places, at, (row, total), Place::Sink)
                    }),
                };
                self.rows.push(row);
            }
        }
        for (kind, _) in kinds(&model.config) {
            let mut row = 0;
            for &index in &order {
                let sequence = &batch[index];
                let start = which.start(sequence);
                self.see(sequence.layout.of(kind), sequence, start, (index, row));
                row += sequence.tokens.len();
            }
        }
        let tiles = self.tiles.len() / kinds(&model.config).count();
        let rows = self.first.rows as u32;
        self.first.tiles = self.tiles[..tiles].partition_point(|tile| tile.first < rows);
    }

    /// What the rows of a session, whose place in the batch and whose first row are given, see in a layer.
    fn see(
        &mut self,
        layer: &LayerLayout,
        sequence: &SequenceInput<'_>,
        start: u64,
        (index, row): (usize, usize),
    ) {
        let count = sequence.tokens.len();
        let end = start + count as u64;
        let segment = SEGMENT as u64;
        for first in (0..count).step_by(TILE_ROWS) {
            let rows = TILE_ROWS.min(count - first);
            let position = start + first as u64;
            // Of a row, the last position that it sees.
            let last = |position: u64| match sequence.both_ways {
                true => end - 1,
                false => position,
            };
            let (low, until) = (
                layer.window_start(position),
                last(position + rows as u64 - 1),
            );
            let sinks = layer.sink().min(until + 1).div_ceil(segment);
            let begin = low / segment;
            let window = if low <= until {
                until / segment + 1 - begin
            } else {
                0
            };
            let joined = window > 0 && sinks == begin + 1;
            let tile = RowTileArgument {
                first: (row + first) as u32,
                rows: rows as u32,
                sinks: sinks as u32,
                segments: (sinks + window) as u32,
                window_slot: layer.ring_slot(begin * segment) as u32,
                end_slot: layer.slots() as u32,
                ring: (layer.slots() - layer.ring_slot(0)) as u32,
                joined: u32::from(joined),
                sequence: index as u32,
                layout: self.sequences[index].layout,
                unused: [0; 2],
            };
            self.units = self.units.max((tile.segments - tile.joined) as usize);
            self.tiles.push(tile);
            self.sights
                .extend((position..position + rows as u64).map(|position| {
                    let (low, last) = (layer.window_start(position), last(position));
                    let from_tile = |at: u64| match low <= last {
                        true => (at - begin * segment) as i32,
                        false => 0,
                    };
                    SightArgument {
                        low: from_tile(low),
                        end: from_tile(last + 1),
                        sinks: layer.sink().min(last + 1) as i32,
                        slot: layer.slot(position) as u32,
                    }
                }));
        }
    }

    /// Where the angles of a position lie: in the tables, or among the pass's own, where they are put then.
    fn angles_at(
        &mut self,
        model: &Model,
        places: usize,
        position: u64,
        (row, rows): (usize, usize),
        place: Place,
    ) -> u32 {
        if position < places as u64 {
            return position as u32;
        }
        let (width, ropes) = (2 * model.config.head_dim, model.ropes.len());
        self.own_angles = true;
        self.angles.resize((ropes + 1) * rows * width, 0.0);
        match place {
            Place::Own => {
                for (index, rope) in model.ropes.iter().enumerate() {
                    let at = (index * rows + row) * width;
                    rope.angles(position, &mut self.angles[at..at + width]);
                }
            }
            Place::Sink => {
                let at = (ropes * rows + row) * width;
                model.ropes[0].angles(position, &mut self.angles[at..at + width]);
            }
        }
        (places + row) as u32
    }
}

/// Whose angles.
#[derive(Clone, Copy)]
enum Place {
    Own,
    Sink,
}

fn slots(layer: &LayerLayout) -> SlotsArgument {
    SlotsArgument {
        start: layer.keys_at(0) as u64,
        count: layer.slots() as u32,
        unused: 0,
    }
}

/// The layers that see the same positions, by their window: the first of each kind, and how many there are before it.
pub(super) fn kinds(config: &ModelConfig) -> impl Iterator<Item = (usize, usize)> + '_ {
    let kinds = config.kinds.iter().enumerate();
    let firsts = kinds.filter(|(layer, kind)| {
        let before = &config.kinds[..*layer];
        before.iter().all(|other| other.window != kind.window)
    });
    firsts
        .enumerate()
        .map(|(number, (layer, _))| (layer, number))
}

/// Which of the kinds a layer is of.
pub(super) fn kind_of(config: &ModelConfig, layer: usize) -> usize {
    let window = config.kinds[layer].window;
    let same = |(first, _): &(usize, usize)| config.kinds[*first].window == window;
    kinds(config).find(same).map_or(0, |(_, number)| number)
}

/// As `Element` of numerics.cuh.
pub(super) fn element(element: KvElement) -> u32 {
    match element {
        KvElement::F16 => 0,
        KvElement::F32 => 1,
        KvElement::Int8 => 2,
    }
}

/// Bytes of what kernels are handed, as they count them: rows, sequences, slots, what rows see, tiles of rows, products, and what
/// products, rotations and attention take.
#[cfg(test)]
pub(super) fn sizes() -> [usize; 9] {
    [
        size_of::<RowArgument>(),
        size_of::<SequenceArgument>(),
        size_of::<SlotsArgument>(),
        size_of::<SightArgument>(),
        size_of::<RowTileArgument>(),
        size_of::<ProductArgument>(),
        size_of::<LinearArgument>(),
        size_of::<RotationArgument>(),
        size_of::<AttentionArgument>(),
    ]
}
