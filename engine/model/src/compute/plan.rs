//! What one forward pass consists of: its rows, and the tiles of its attention.
//!
//! The lists are kept from one pass to the next, so that a pass allocates nothing once they have grown.

use kakeya_core::KvStorage;

use super::SequenceInput;
use super::scratch::Shared;
use crate::config::ModelConfig;
use crate::kernels::attention::TileRoom;
use crate::kv::KvLayout;

/// Segments of 32 keys that a tile must see before it is worth sharing among threads: below, a barrier costs more.
const WORTH_SHARING: usize = 8;
/// The pieces that tiles are shared in, for each thread.
const PIECES: usize = 4;

/// One sequence of the batch.
pub(super) struct Part {
    pub(super) layout: KvLayout,
    pub(super) storage: Storage,
    pub(super) start: u64,
    /// The last position of the block, where its tokens see each other.
    pub(super) until: Option<u64>,
    /// Its first row in the batch, and how many it has.
    pub(super) first_row: usize,
    pub(super) rows: usize,
    /// Its first row of logits among those wanted, and how many.
    pub(super) first_logits: usize,
    pub(super) logits: usize,
}

/// A slab.
#[derive(Clone, Copy)]
pub(super) enum Storage {
    F16(Shared<u16>),
    F32(Shared<f32>),
    Int8 {
        quants: Shared<i8>,
        scales: Shared<u16>,
    },
}

/// Runs `$body` with `$cache` standing for a slab, and `$of` for the kernels of its type of element.
macro_rules! with_cache {
    ($kernels:expr, $storage:expr, |$of:ident, $cache:ident| $body:expr) => {
        match $storage {
            Storage::F16(slab) => {
                let ($of, $cache) = (&$kernels.f16, slab.at(0));
                $body
            }
            Storage::F32(slab) => {
                let ($of, $cache) = (&$kernels.f32, slab.at(0));
                $body
            }
            Storage::Int8 { quants, scales } => {
                let $cache = Int8 {
                    quants: quants.at(0),
                    scales: scales.at(0),
                };
                let $of = &$kernels.int8;
                $body
            }
        }
    };
}
pub(super) use with_cache;

/// Queries of one part and head that go through attention together.
#[derive(Clone, Copy)]
pub(super) struct TileOf {
    pub(super) part: usize,
    pub(super) kv_head: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The pass.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) rows: usize,
    pub(super) logits: usize,
    pub(super) parts: Vec<Part>,
    /// The part of each row.
    pub(super) part_of: Vec<usize>,
    pub(super) tiles: Vec<TileOf>,
    /// f32 of scratch for one tile.
    pub(super) tile_scratch: usize,
    /// The pieces that the threads share each tile in; 1 when they share out whole tiles.
    pub(super) pieces: usize,
}

/// The largest pass to make room for.
#[derive(Clone, Copy)]
pub(super) struct Largest {
    pub(super) sequences: usize,
    pub(super) rows: usize,
    pub(super) query_tile: usize,
    pub(super) threads: usize,
}

impl Largest {
    /// The f32 of scratch that the tiles at work at once can need.
    pub(super) fn attention(&self, layout: &KvLayout) -> usize {
        let Self {
            query_tile,
            threads,
            ..
        } = *self;
        let room = |pieces| {
            TileRoom {
                count: query_tile,
                pieces,
            }
            .scratch_len(layout.largest())
        };
        (1..most_shared(threads))
            .map(|tiles| tiles * room(pieces(tiles, threads)))
            .chain([threads * room(1)])
            .max()
            .unwrap_or(0)
    }
}

impl Plan {
    /// Makes room in the lists. Returns the f32 of scratch that the tiles at work at once can need.
    pub(super) fn reserve(
        &mut self,
        config: &ModelConfig,
        layout: &KvLayout,
        largest: Largest,
    ) -> usize {
        let Largest {
            sequences,
            rows,
            query_tile,
            ..
        } = largest;
        // Each sequence can end in a tile that is not full.
        let tiles = (rows * config.group() / query_tile + sequences) * config.kv_heads;
        self.parts.clear();
        self.part_of.clear();
        self.tiles.clear();
        self.parts.reserve(sequences);
        self.part_of.reserve(rows);
        self.tiles.reserve(tiles);
        largest.attention(layout)
    }

    pub(super) fn make(
        &mut self,
        config: &ModelConfig,
        batch: &mut [SequenceInput<'_>],
        query_tile: usize,
        threads: usize,
    ) {
        *self = Self {
            parts: std::mem::take(&mut self.parts),
            part_of: std::mem::take(&mut self.part_of),
            tiles: std::mem::take(&mut self.tiles),
            ..Self::default()
        };
        self.parts.clear();
        self.part_of.clear();
        for (index, sequence) in batch.iter_mut().enumerate() {
            let rows = sequence.tokens.len();
            let logits = rows - sequence.logits.first(rows);
            self.parts.push(Part {
                layout: sequence.layout.clone(),
                storage: match sequence.storage {
                    KvStorage::F16(all) => Storage::F16(Shared(all.as_mut_ptr())),
                    KvStorage::F32(all) => Storage::F32(Shared(all.as_mut_ptr())),
                    KvStorage::Int8(all) => Storage::Int8 {
                        quants: Shared(all.quants.as_mut_ptr()),
                        scales: Shared(all.scales.as_mut_ptr()),
                    },
                    KvStorage::Device(_) => {
                        unreachable!("it was checked to lie in memory of the host")
                    }
                },
                start: sequence.start,
                until: sequence
                    .both_ways
                    .then(|| (sequence.start + rows as u64).saturating_sub(1)),
                first_row: self.rows,
                rows,
                first_logits: self.logits,
                logits,
            });
            self.part_of.extend(std::iter::repeat_n(index, rows));
            self.rows += rows;
            self.logits += logits;
        }
        self.tile(config, query_tile, threads);
    }

    /// Leaves the rows that make logits: the last ones of each part.
    pub(super) fn narrow(&mut self, config: &ModelConfig, query_tile: usize, threads: usize) {
        self.part_of.clear();
        for (index, part) in self.parts.iter_mut().enumerate() {
            part.start += (part.rows - part.logits) as u64;
            part.first_row = part.first_logits;
            part.rows = part.logits;
            self.part_of.extend(std::iter::repeat_n(index, part.rows));
        }
        self.rows = self.logits;
        self.tile(config, query_tile, threads);
    }

    /// Cuts the attention of every part into tiles.
    fn tile(&mut self, config: &ModelConfig, query_tile: usize, threads: usize) {
        self.tiles.clear();
        let mut deepest = 0;
        for (index, part) in self.parts.iter().enumerate() {
            let end = part.start + part.rows as u64;
            deepest = deepest.max(part.layout.most_segments(end));
            let queries = part.rows * config.group();
            for first in (0..queries).step_by(query_tile) {
                let count = (queries - first).min(query_tile);
                self.tiles
                    .extend((0..config.kv_heads).map(|kv_head| TileOf {
                        part: index,
                        kv_head,
                        first,
                        count,
                    }));
            }
        }
        let shared = threads > 1
            && (1..most_shared(threads)).contains(&self.tiles.len())
            && deepest >= WORTH_SHARING;
        self.pieces = if shared {
            pieces(self.tiles.len(), threads)
        } else {
            1
        };
        let rooms = self.tiles.iter().map(|tile| {
            let room = TileRoom {
                count: tile.count,
                pieces: self.pieces,
            };
            room.scratch_len(self.parts[tile.part].layout.largest())
        });
        self.tile_scratch = rooms.max().unwrap_or(0);
    }

    /// Tiles whose scratch is in use at once.
    pub(super) fn tiles_at_once(&self, threads: usize) -> usize {
        if self.pieces > 1 {
            self.tiles.len()
        } else {
            threads
        }
    }
}

/// As many tiles as this keep the threads busy by themselves.
fn most_shared(threads: usize) -> usize {
    3 * threads
}

/// The pieces that each of `tiles` tiles is shared in.
fn pieces(tiles: usize, threads: usize) -> usize {
    (PIECES * threads).div_ceil(tiles)
}
