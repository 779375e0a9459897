//! How the rows and outputs of a product are shared among blocks.

use super::run::BUSY;
use super::spread;
use crate::config::SEGMENT;
use crate::panels::PANEL;

/// Rows of a tile of linear.cu at most: more are for spread.cu and tiles.cu.
const FEW_ROWS: usize = 4;
/// Outputs of a tile of linear.cu, threads of a block, and stages of a thread at most.
const COLUMNS: usize = 8;
const MOST_THREADS: usize = 384;
const MOST_STAGES: usize = 8;
/// What a block takes of shared memory beside what it is given.
const OWN_SHARED: usize = 1024;
/// Of what it is given, where it counts what others of its cluster send: cluster.cuh.
pub(super) const INBOXES: usize = 16;

/// Tiles by matrices of a block of linear.cu at most.
const MOST_ITEMS: usize = 512;

/// How [`PanelKind`](crate::panels::PanelKind)s are named in kernels.
const KINDS: [&str; 11] = [
    "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16", "f32",
];

/// What a thread of linear.cu has on its way of one output in one segment, in bytes, for each [`PanelKind`]: `Staged` of formats.cuh.
pub(super) const STAGE_BYTES: [usize; 11] = [20, 24, 24, 28, 36, 32, 36, 36, 64, 64, 128];

/// Warps of a block of tiles.cu that shares its processor with another; and of one that has it to itself: as many as make the fewest
/// rounds of a product's segments, and no more than that.
const WARPS_SHARED: usize = 8;
const WARPS_ALONE: [usize; 4] = [16, 18, 20, 24];

/// What a product sums over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inner {
    pub(super) segments: usize,
    /// Two, where the outputs of two matrices are made together.
    pub(super) matrices: usize,
    /// Chains of a segment at most.
    pub(super) chains: usize,
    /// The greatest of [`STAGE_BYTES`] of its matrices.
    pub(super) stage_bytes: usize,
    /// Whether any of them has scales.
    pub(super) scaled: bool,
    /// Whether its inputs are rows that are normalised first.
    pub(super) normalised: bool,
}

/// How the tiles of a product are shared among blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Blocks for each tile of rows; of spread.cu, clusters.
    pub(super) blocks: usize,
    pub(super) threads: usize,
    /// Bytes of shared memory of a block.
    pub(super) bytes: usize,
    /// Of linear.cu: stages of a thread, tiles that are folded together, and segments that are made at once.
    pub(super) stages: usize,
    pub(super) group: usize,
    pub(super) segments: usize,
    /// Tiles of a block, of every kernel.
    pub(super) tiles: usize,
}

impl Inner {
    /// Numbers of warps of a block that has a processor to itself, those first that make it in the fewest rounds, and of these the
    /// smallest.
    fn warps(self) -> Vec<usize> {
        let even = WARPS_ALONE
            .iter()
            .filter(|warps| warps.is_multiple_of(self.matrices));
        let mut warps: Vec<usize> = even.copied().collect();
        warps.sort_by_key(|warps| (self.segments.div_ceil(warps / self.matrices), *warps));
        warps
    }
}

/// The tile of a product's block, and which kernel makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// At most [`FEW_ROWS`] rows by [`COLUMNS`] outputs, a segment for each thread: linear.cu.
    Few { rows: usize },
    /// Rows by a panel, its segments shared by so many warps: tiles.cu.
    Many { rows: usize, warps: usize },
    /// Rows by so many outputs of all matrices, with a warp for each segment, in a cluster of so many blocks: spread.cu.
    Spread {
        rows: usize,
        outputs: usize,
        cluster: usize,
    },
}

impl Tile {
    const fn many(rows: usize, warps: usize) -> Self {
        Self::Many { rows, warps }
    }

    /// The tile of a product: as many rows as share weights well, as long as there are blocks enough and it fits. Where there
    /// is a block for each processor, segments have a warp each, or it has 16 warps or more; docs/performance-cuda.md has what the others were measured by.
    pub(super) fn of(
        outputs: &[usize],
        inner: Inner,
        rows: usize,
        fits: impl Fn(Self, usize) -> bool,
    ) -> Option<Self> {
        let panels: usize = outputs.iter().map(|outputs| outputs.div_ceil(PANEL)).sum();
        let blocks = |tile_rows: usize| panels * rows.div_ceil(tile_rows);
        let mut wanted = Vec::with_capacity(14);
        if rows > FEW_ROWS {
            wanted.extend(spread::tiles(outputs, inner, rows));
            let alone = |rows: usize| {
                let warps = inner.warps().into_iter();
                warps.map(move |warps| Self::many(rows, warps))
            };
            match (
                blocks(8) <= BUSY,
                blocks(16) <= BUSY,
                blocks(32) >= 2 * BUSY,
            ) {
                (true, ..) => wanted.extend(alone(8)),
                (_, true, _) => wanted.extend(alone(16)),
                (.., true) if inner.matrices == 2 => wanted.push(Self::many(32, WARPS_SHARED)),
                _ => {}
            }
            wanted.extend([16, 8].map(|rows| Self::many(rows, WARPS_SHARED)));
        }
        let few = [(4, 2), (2, 1), (1, 0)].into_iter();
        let few = few.filter(|(_, more_than)| rows > *more_than);
        wanted.extend(few.map(|(rows, _)| Self::Few { rows }));
        let at_once = |tile: &&Self| match tile {
            Self::Many { warps, .. } if *warps <= WARPS_SHARED => fits(**tile, 2),
            _ => fits(**tile, 1),
        };
        let tile = wanted.iter().find(at_once);
        tile.or_else(|| wanted.iter().find(|tile| fits(**tile, 1)))
            .copied()
    }

    pub(super) fn rows(self) -> usize {
        match self {
            Self::Few { rows } | Self::Many { rows, .. } | Self::Spread { rows, .. } => rows,
        }
    }

    /// Whether its kernel normalises the rows, `named` by a map or all of them: spread.cu all, where a block
    /// has all of their segments, and tiles.cu all, where all segments of a row are
    /// there at once, and a thread has one piece of them.
    pub(super) fn normalises(self, inner: Inner, named: bool) -> bool {
        match self {
            Self::Few { .. } => true,
            Self::Spread { cluster, .. } => cluster == 1 && !named,
            Self::Many { warps, .. } => {
                let rounds = inner.segments.div_ceil(warps / inner.matrices);
                let fits = rounds <= 2 && inner.segments * SEGMENT / 4 <= 32 * warps;
                warps > WARPS_SHARED && fits && !named
            }
        }
    }

    /// Tiles of products of so many outputs each.
    pub(super) fn tiles(self, outputs: &[usize], matrices: usize) -> usize {
        let of = |outputs: &usize| match self {
            Self::Few { .. } => outputs.div_ceil(PANEL) * (PANEL / COLUMNS),
            Self::Many { .. } => outputs.div_ceil(PANEL),
            Self::Spread { outputs: made, .. } => outputs.div_ceil(made / matrices),
        };
        outputs.iter().map(of).sum()
    }

    /// Blocks that share a tile as a cluster.
    pub(super) fn cluster(self) -> usize {
        match self {
            Self::Spread { cluster, .. } => cluster,
            _ => 1,
        }
    }

    /// The name of its kernel, for weights of one kind or of several (`None`).
    pub(super) fn name(self, kind: Option<u32>, matrices: usize) -> String {
        match self {
            Self::Few { rows } => {
                let kind = kind.map_or("mixed", |kind| KINDS[kind as usize]);
                format!("linear_{rows}_{kind}")
            }
            Self::Many { rows, warps } => format!("linear_tile_{rows}_{warps}"),
            Self::Spread { rows, outputs, .. } => {
                format!("linear_spread_{rows}_{outputs}_{matrices}")
            }
        }
    }

    /// How blocks share the tiles of outputs, of which there are as many as `tiles.0` for each of `tiles.1` tiles of rows. `shared` is
    /// the memory that a block may have.
    pub(super) fn share(self, tiles: (usize, usize), inner: Inner, shared: usize) -> Share {
        match self {
            Self::Few { rows } => few(rows, tiles, inner, shared),
            Self::Many { warps, .. } => Share {
                blocks: tiles.0,
                threads: 32 * warps,
                bytes: self.bytes(inner),
                stages: 0,
                group: 0,
                segments: 0,
                tiles: 1,
            },
            Self::Spread { cluster, .. } => Share {
                blocks: tiles.0,
                threads: 32 * inner.segments.div_ceil(cluster),
                bytes: self.bytes(inner),
                stages: 0,
                group: 0,
                segments: 0,
                tiles: 1,
            },
        }
    }

    /// Bytes of shared memory of a block, as the kernels lay it out; of linear.cu, what it takes at least.
    pub(super) fn bytes(self, inner: Inner) -> usize {
        let Inner {
            segments,
            matrices,
            chains,
            ..
        } = inner;
        let floats = match self {
            Self::Few { rows } => {
                return few_bytes(rows, inner, MOST_ITEMS, 2 * matrices)
                    + MOST_THREADS * inner.stage_bytes;
            }
            // Activations and widened weights of each warp; chains, scales and sums of all, and squares.
            Self::Spread {
                rows,
                outputs,
                cluster,
            } => {
                let warps = segments.div_ceil(cluster);
                let folded = matrices * (outputs / matrices).div_ceil(cluster);
                let squares = if inner.normalised { warps * rows } else { 0 };
                INBOXES / size_of::<f32>()
                    + warps * (rows + outputs) * (SEGMENT + 4)
                    + segments * (folded * (rows + 2) + rows)
                    + squares
            }
            // Activations, widened weights, chains and sums, and scales; of as many rounds as go on at once.
            Self::Many { rows, warps } => {
                let share = warps / matrices;
                let rounds = segments.div_ceil(share).min(2);
                let widened = PANEL * (SEGMENT + 4) + 8 * 3;
                let made = if warps > WARPS_SHARED { 2 } else { 1 };
                rounds * share * rows * (SEGMENT + 4)
                    + warps
                        * (widened
                            + made * (chains * rows * PANEL + rows)
                            + (made + 1) * 2 * chains * PANEL)
            }
        };
        floats * size_of::<f32>()
    }
}

/// Shares tiles of linear.cu: two blocks for each processor, which wait at different times, unless one shares them more evenly; more, if
/// they would have too many tiles. Each takes at most half of a processor's memory, so that those of other kernels find room.
fn few(rows: usize, tiles: (usize, usize), inner: Inner, shared: usize) -> Share {
    let matrices = inner.matrices;
    let rounds = (inner.segments * COLUMNS).div_ceil(MOST_THREADS);
    let segments = inner.segments.div_ceil(rounds);
    let least = matrices * rows * COLUMNS;
    let threads = (segments * COLUMNS).max(least).next_multiple_of(32);
    let count_of = |blocks: usize| {
        let count = tiles.0.div_ceil((blocks * BUSY / tiles.1).max(1));
        count.min(MOST_ITEMS / matrices)
    };
    // Tiles of the processor that has the most of them.
    let busiest = |blocks: usize| {
        let count = count_of(blocks);
        (tiles.0.div_ceil(count) * tiles.1).div_ceil(BUSY) * count
    };
    let count = if busiest(2) <= busiest(1) {
        count_of(2)
    } else {
        count_of(1)
    };
    let chains = count * matrices * rounds;
    let bytes = |group: usize, stages: usize| {
        let groups = if count > group { 2 } else { 1 };
        few_bytes(rows, inner, count * matrices, groups * group * matrices)
            + stages.min(chains) * threads * inner.stage_bytes
    };
    let most = count.min(threads / least);
    // A power of two.
    let stages = chains.next_power_of_two().min(MOST_STAGES);
    let fits = |room: usize| {
        // Stages are worth more than tiles that are folded together.
        let all = (0..=stages.ilog2()).rev().map(|log| 1 << log);
        let mut all = all.flat_map(|stages| (1..=most).rev().map(move |group| (group, stages)));
        all.find(|(group, stages)| bytes(*group, *stages) + OWN_SHARED <= room)
    };
    let (group, stages) = fits(shared / 2).or_else(|| fits(shared)).unwrap_or((1, 1));
    Share {
        blocks: tiles.0.div_ceil(count),
        threads,
        bytes: bytes(group, stages),
        stages,
        group,
        segments,
        tiles: count,
    }
}

/// Bytes of shared memory of a block of linear.cu without its stages, with so many tiles by matrices, of which `room` have room for
/// their chains.
fn few_bytes(rows: usize, inner: Inner, items: usize, room: usize) -> usize {
    const SOURCE: usize = 16;
    const BETWEEN: usize = 8;
    let Inner {
        segments, chains, ..
    } = inner;
    let chain_pitch = chains * segments * rows * COLUMNS + BETWEEN;
    let scale_pitch = match inner.scaled {
        true => 2 * (chains * segments * COLUMNS + BETWEEN),
        false => 0,
    };
    let staged = if rows > 1 { rows } else { 0 } + usize::from(inner.normalised);
    let sums = 2 * (rows * segments).next_multiple_of(4);
    let floats = staged * segments * (SEGMENT + 4) + sums + room * (chain_pitch + scale_pitch);
    items * SOURCE + floats * size_of::<f32>()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cuda::context::NAMES;
    use crate::panels::PanelKind;

    pub(in crate::cuda) fn inner(segments: usize, matrices: usize) -> Inner {
        Inner {
            segments,
            matrices,
            chains: 1,
            stage_bytes: STAGE_BYTES[PanelKind::Q4_1 as usize],
            scaled: true,
            normalised: true,
        }
    }

    #[test]
    fn warps_make_the_fewest_rounds_and_are_no_more_than_that_takes() {
        for (segments, matrices, warps) in [
            (18, 1, 18),
            // Each matrix has half of the warps.
            (18, 2, 18),
            (20, 1, 20),
            (32, 1, 16),
            (48, 1, 24),
            (64, 1, 24),
        ] {
            let inner = inner(segments, matrices);
            assert_eq!(inner.warps()[0], warps, "{inner:?}");
        }
    }

    #[test]
    fn rows_are_normalised_where_all_of_their_segments_are_there() {
        let few = Tile::Few { rows: 4 };
        assert!(few.normalises(inner(304, 1), true));
        for (segments, matrices, warps, normalises) in [
            (18, 1, 18, true),
            // Two rounds of nine for each matrix.
            (18, 2, 18, true),
            (32, 1, 16, true),
            (32, 2, 16, false),
            (96, 1, 24, false),
            (8, 1, 8, false),
        ] {
            let (tile, inner) = (Tile::many(8, warps), inner(segments, matrices));
            assert_eq!(tile.normalises(inner, false), normalises, "{inner:?}");
            assert!(!tile.normalises(inner, true), "{inner:?}");
        }
    }

    #[test]
    fn there_is_a_kernel_for_every_tile() {
        const SHARED: usize = 227 * 1024;
        let mut names = std::collections::BTreeSet::new();
        for rows in [1, 2, 3, 4, 5, 8, 16, 31, 32, 64, 256, 512] {
            for panels in [1, 6, 18, 30, 48, 96, 200, 1536, 8192] {
                for (segments, matrices) in [(18, 1), (18, 2), (20, 1), (48, 1), (96, 1), (32, 2)] {
                    let inner = inner(segments, matrices);
                    let fits = |tile: Tile, blocks: usize| {
                        blocks * (tile.bytes(inner) + 1024) <= SHARED + 1024
                    };
                    let tile = Tile::of(&[32 * panels], inner, rows, fits).expect("a tile");
                    for kind in [
                        None,
                        Some(PanelKind::Q4_0 as u32),
                        Some(PanelKind::F32 as u32),
                    ] {
                        let name = tile.name(kind, matrices);
                        assert!(NAMES.contains(&name.as_str()), "{tile:?}");
                        names.insert(name);
                    }
                }
            }
        }
        assert!(names.len() > 10, "{names:?}");
    }

    #[test]
    fn blocks_of_few_rows_make_every_tile_and_fit() {
        const SHARED: usize = 224 * 1024;
        for rows in [1, 2, 4] {
            for (tiles, row_tiles) in [
                (24, 1),
                (72, 1),
                (128, 1),
                (512, 2),
                (18_992, 1),
                (32_768, 16),
            ] {
                for (segments, matrices) in [(2, 1), (18, 2), (32, 2), (96, 1), (128, 2), (304, 1)]
                {
                    let inner = inner(segments, matrices);
                    // One that does not fit is not chosen, and the tile of one row always does.
                    if (Tile::Few { rows }).bytes(inner) > SHARED {
                        assert_ne!(rows, 1, "{inner:?}");
                        continue;
                    }
                    let share = few(rows, (tiles, row_tiles), inner, SHARED);
                    let what = format!("{rows} rows, {tiles} tiles, {inner:?}: {share:?}");
                    assert!(share.blocks * share.tiles >= tiles, "{what}");
                    assert!((share.blocks - 1) * share.tiles < tiles, "{what}");
                    assert!(share.bytes <= SHARED, "{what}");
                    assert!(
                        share.threads <= MOST_THREADS && share.threads % 32 == 0,
                        "{what}"
                    );
                    // A thread for each output of a segment, and one for each output that is folded.
                    assert!(share.segments * COLUMNS <= share.threads, "{what}");
                    assert!(
                        share.group * matrices * rows * COLUMNS <= share.threads,
                        "{what}"
                    );
                    assert!(
                        share.stages.is_power_of_two() && share.stages <= MOST_STAGES,
                        "{what}"
                    );
                }
            }
        }
    }
}
