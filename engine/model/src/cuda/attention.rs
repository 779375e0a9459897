//! How attention is shared among blocks, and its launches.

use std::ops::Range;

use super::context::Launch;
use super::graph::Shape;
use super::kernels::{argument, plain};
use super::plan::{
    AttentionArgument, RotationArgument, RowArgument, RowTileArgument, SightArgument, Step,
    TILE_ROWS, kind_of, kinds,
};
use super::run::{BUSY, CudaCompute, mixed};
use super::tile::INBOXES;
use crate::compute::PassSize;
use crate::config::SEGMENT;
use crate::device::CudaError;

/// Warps of a block of attention.cu: as many of these as there is room for.
const WARPS: [usize; 2] = [8, 4];
/// Threads of a block of attention_tile.cu.
const TILE_THREADS: usize = 256;
/// Stages of a warp of attention.cu at most, and at least: the two segments of a unit are looked at together.
const STAGES: [usize; 3] = [4, 3, 2];
/// Dimensions of values that a warp of attention_tile.cu makes at once.
const SPAN: usize = 64;
/// What a block takes of shared memory beside what it is given.
const OWN_SHARED: usize = 2048;

/// Which kernel makes attention, and how it is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AttentionShape {
    /// Every row is alone in its session: attention.cu.
    Alone(Alone),
    /// Tiles of rows of a session: attention_tile.cu.
    Tiles {
        /// Query heads that a block takes.
        heads: usize,
        /// Units that a block has room for.
        room: usize,
        tiles: usize,
    },
}

impl AttentionShape {
    /// Tiles of all rows.
    pub(super) fn tiles(self, rows: usize) -> usize {
        match self {
            Self::Alone(_) => rows,
            Self::Tiles { tiles, .. } => tiles,
        }
    }
}

/// How the attention of rows is shared that are alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Alone {
    heads: usize,
    room: usize,
    /// Blocks that share a row and its heads.
    cluster: usize,
    /// Warps of a block.
    warps: usize,
    /// Segments that a warp has on their way.
    stages: usize,
}

impl Alone {
    /// Shared memory of a block, as attention.cu lays it out.
    fn bytes(self, dim: usize, element: u32) -> usize {
        let width = [2, 4, 1][element as usize];
        let scales = if element == 2 { 2 * dim } else { 0 };
        // Its blocks are shifted, so that lanes hit different banks.
        let shifts = (dim + 63) / 128 * 128 + 64 + dim;
        let stage = SEGMENT * dim * width + shifts + scales;
        let queries = (3 * self.heads + 7) * dim;
        let scores = self.heads * (self.room + 1) * SEGMENT;
        let chains = self.room * self.cluster * (self.heads * dim / self.cluster + self.heads);
        INBOXES + self.warps * self.stages * stage + (queries + scores + chains) * size_of::<f32>()
    }
}

impl CudaCompute {
    /// How the attention of a pass is shared: blocks enough to keep the device busy, and as much room as they need.
    pub(super) fn attention_shape(
        &self,
        size: PassSize,
        element: u32,
    ) -> Result<AttentionShape, CudaError> {
        let group = self.config().group();
        let heads = (1..=4)
            .rev()
            .find(|heads| group.is_multiple_of(*heads))
            .unwrap_or(1);
        let alone = size.rows == size.sequences && self.seed.is_multiple_of(2);
        let shape = alone
            .then(|| self.alone(size.rows, heads, element))
            .flatten()
            .or_else(|| self.tiles(heads));
        shape.ok_or_else(|| CudaError::Failed {
            what: "attention".to_owned(),
            detail: format!(
                "heads of {} need more shared memory than {} has",
                self.config().head_dim,
                self.device.facts().name
            ),
        })
    }

    /// Where every row is alone; `None` where a row sees more than a cluster has room for.
    fn alone(&self, rows: usize, heads: usize, element: u32) -> Option<AttentionShape> {
        let config = self.config();
        let blocks = rows * config.heads / heads;
        // Shapes that change with every few tokens would be as many graphs.
        let units = self.plan.units.next_multiple_of(16);
        let shared = self.device.shared();
        let of = |cluster: usize, warps: usize, stages: usize| Alone {
            heads,
            room: units.div_ceil(cluster),
            cluster,
            warps,
            stages,
        };
        let bytes = |alone: Alone| alone.bytes(config.head_dim, element);
        let least = |cluster: usize| bytes(of(cluster, WARPS[1], STAGES[2]));
        let mut cluster = 1;
        if self.device.has_clusters() {
            // More blocks would each have less to do than they take to begin. As many as give each unit a warp have not, be it
            // that there are many units, or that heads are wide and a block has room for few warps.
            let wide = bytes(of(4, WARPS[0], STAGES[2])) > shared;
            let warps = if wide { WARPS[1] } else { WARPS[0] };
            let most = if units > 4 * warps { 8 } else { 4 };
            let busy = |cluster: usize| cluster >= most || 2 * cluster * blocks > BUSY;
            while cluster < 8 && (!busy(cluster) || least(cluster) > shared) {
                cluster *= 2;
            }
            if self.seed != 0 && rows <= 7 {
                cluster = 1 << (mixed(self.seed, 2) % 4);
            }
        }
        // Many rows keep memory busy with less.
        let most = if cluster == 1 { STAGES[1] } else { STAGES[0] };
        let shapes = WARPS.into_iter().flat_map(|warps| {
            let stages = STAGES.into_iter().filter(move |stages| *stages <= most);
            stages.map(move |stages| of(cluster, warps, stages))
        });
        let fits = |blocks: usize| {
            let each = move |shape: &Alone| blocks * (bytes(*shape) + OWN_SHARED) <= shared;
            shapes.clone().find(each)
        };
        // Where there are more blocks than processors, two share one if they can.
        let two = (cluster * blocks > BUSY).then(|| fits(2)).flatten();
        two.or_else(|| fits(1)).map(AttentionShape::Alone)
    }

    fn tiles(&self, heads: usize) -> Option<AttentionShape> {
        let config = self.config();
        let shared = self.device.shared();
        let bytes = |room: usize| tile_bytes(heads, config.head_dim, room);
        let units = self.plan.units.next_multiple_of(8);
        // Without room for all, a block goes through them piece by piece.
        let mut room = (1..=units).rev().find(|room| bytes(*room) <= shared)?;
        if self.seed != 0 {
            room = room.min(1 + 2 * (mixed(self.seed, 3) % 4) as usize);
        }
        Some(AttentionShape::Tiles {
            heads,
            room,
            tiles: self.plan.tiles.len() / kinds(config).count(),
        })
    }

    /// Keys and values of rows that see others of the pass, or that nothing attends to.
    pub(super) fn rotate(
        &self,
        rotation: &RotationArgument,
        step: &Range<Step>,
    ) -> Result<(), CudaError> {
        let config = self.config();
        let rows = step.end.rows - step.start.rows;
        let from = |all: u64, bytes: usize| all + (step.start.rows * bytes) as u64;
        let keys = config.kv_heads * config.head_dim * size_of::<f32>();
        let rotation = RotationArgument {
            rows: from(rotation.rows, size_of::<RowArgument>()),
            sights: from(rotation.sights, size_of::<SightArgument>()),
            keys: from(rotation.keys, keys),
            values: from(rotation.values, keys),
            ..*rotation
        };
        // A warp for each of at most eight heads at once: the key as it is and as it was, and the value; angles for all.
        let warps = config.kv_heads.min(8);
        let floats = (3 * warps + 2) * config.head_dim;
        let launch = plain((rows, 1), 32 * warps, floats * size_of::<f32>());
        self.launch("rotate_and_store", launch, &mut [argument(&rotation)])
    }

    pub(super) fn attend(
        &self,
        made: RotationArgument,
        layer: usize,
        shape: Shape,
        step: &Range<Step>,
    ) -> Result<(), CudaError> {
        let (config, scratch) = (self.config(), self.scratch());
        let heads = match shape.attention {
            AttentionShape::Alone(alone) => alone.heads,
            AttentionShape::Tiles { heads, .. } => heads,
        };
        let before = kind_of(config, layer) * shape.attention.tiles(shape.rows) + step.start.tiles;
        let before = before * size_of::<RowTileArgument>();
        let element = ["f16", "f32", "int8"][shape.element as usize];
        let attend = AttentionArgument {
            made,
            out: scratch.packed.pointer(),
            tiles: scratch.plan.at(scratch.places.tiles + before),
            scale: config.attention_scale,
            parts: (config.group() / heads) as u32,
            ..AttentionArgument::default()
        };
        let (name, launch, attend) = match shape.attention {
            AttentionShape::Alone(alone) => {
                let launch = Launch {
                    grid: (alone.cluster, config.heads / heads, shape.rows),
                    threads: 32 * alone.warps,
                    shared: alone.bytes(config.head_dim, shape.element),
                    cluster: alone.cluster,
                };
                let attend = AttentionArgument {
                    room: alone.room as u32,
                    cluster: alone.cluster.trailing_zeros(),
                    warps: alone.warps.trailing_zeros(),
                    stages: alone.stages as u32,
                    ..attend
                };
                (format!("attend_{element}_{heads}"), launch, attend)
            }
            AttentionShape::Tiles { heads, room, .. } => {
                let tiles = step.end.tiles - step.start.tiles;
                let shared = tile_bytes(heads, config.head_dim, room);
                let launch = plain((config.heads / heads, tiles), TILE_THREADS, shared);
                let attend = AttentionArgument {
                    room: room as u32,
                    ..attend
                };
                (format!("attend_tile_{element}_{heads}"), launch, attend)
            }
        };
        self.launch(&name, launch, &mut [argument(&attend)])
    }
}

/// Shared memory of a block of attention_tile.cu, as it lays it out.
fn tile_bytes(heads: usize, dim: usize, room: usize) -> usize {
    let all = TILE_ROWS * heads;
    let queries = 2 * (dim + 4) + dim;
    let scores = (room + 1) * SEGMENT + 4;
    let sums = (all * room).next_multiple_of(4);
    // Chains of a round; before that, the angles of the rows.
    let chains = (TILE_THREADS / 32 * all * SPAN).max(TILE_ROWS * 4 * dim);
    (all * (queries + scores) + sums + chains) * size_of::<f32>()
}
