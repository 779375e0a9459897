//! How the rows and outputs of a product are shared among blocks.

use super::run::BUSY;
use crate::config::SEGMENT;
use crate::panels::PANEL;

/// Rows of a tile that is made for a step that waits for memory, and of a pass whose products normalise their rows themselves:
/// with more a kernel of its own costs less, since each block would do it again.
pub(super) const FEW_ROWS: usize = 4;
/// Threads of a block of few rows at most.
const MOST_THREADS: usize = 512;

/// Registers of a processor, and of a thread of a block of few rows.
const REGISTERS: usize = 65536;
const FEW_REGISTERS: usize = 128;

/// Warps of a block of tiles.cu that has a processor to itself, and of one that shares it with another: as many as make the fewest
/// rounds of a product's segments, and no more than that.
const WARPS_ALONE: [usize; 4] = [16, 18, 20, 24];
const WARPS_SHARED: [usize; 3] = [8, 9, 10];

/// The most warps of a block that shares its processor: as in tiles.cu.
const MOST_SHARED: usize = 10;

/// What a product sums over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inner {
    pub(super) segments: usize,
    /// Two, where the outputs of two matrices are made together.
    pub(super) matrices: usize,
    /// Chains of a segment at most.
    pub(super) chains: usize,
}

impl Inner {
    /// Numbers of warps that can make it, those that make it in the fewest rounds first, and of these the smallest.
    fn warps(self, of: &[usize]) -> Vec<usize> {
        let even = of
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
    /// At most [`FEW_ROWS`] rows by so many outputs, all segments at once: linear.cu.
    Few { rows: usize, columns: usize },
    /// Rows by a panel, its segments shared by so many warps: tiles.cu.
    Many { rows: usize, warps: usize },
}

impl Tile {
    const fn few(rows: usize, columns: usize) -> Self {
        Self::Few { rows, columns }
    }

    const fn many(rows: usize, warps: usize) -> Self {
        Self::Many { rows, warps }
    }

    /// The tile of a product: as many rows as share weights well, as long as there are blocks enough and it fits. Where there
    /// is a block for each processor, it has 16 warps or more; docs/performance-cuda.md has what the others were measured by.
    pub(super) fn of(
        panels: usize,
        inner: Inner,
        rows: usize,
        fits: impl Fn(Self, usize) -> bool,
    ) -> Option<Self> {
        let many = |columns: usize| panels * PANEL / columns >= 4 * BUSY;
        let blocks = |tile_rows: usize| panels * rows.div_ceil(tile_rows);
        let mut wanted = Vec::with_capacity(14);
        if rows > FEW_ROWS {
            let (alone, shared) = (inner.warps(&WARPS_ALONE), inner.warps(&WARPS_SHARED));
            let all = |rows: usize, warps: &[usize]| {
                let tiles = warps.iter().map(|warps| Self::many(rows, *warps));
                tiles.collect::<Vec<_>>()
            };
            match (
                blocks(8) <= BUSY,
                blocks(16) <= BUSY,
                blocks(32) >= 2 * BUSY,
            ) {
                (true, ..) => wanted.extend(all(8, &alone)),
                (_, true, _) => wanted.extend(all(16, &alone)),
                (.., true) if inner.matrices == 2 => wanted.push(Self::many(32, 8)),
                _ => {}
            }
            wanted.extend(all(16, &shared));
            wanted.extend(all(8, &shared));
        }
        if rows > 2 {
            wanted.push(Self::few(4, PANEL));
        }
        if rows > 1 {
            wanted.push(Self::few(2, if many(PANEL) { PANEL } else { 8 }));
        }
        wanted.push(Self::few(1, if many(PANEL) { PANEL } else { 8 }));
        wanted.push(Self::few(1, 8));
        let at_once = |tile: &&Self| match tile {
            Self::Many { warps, .. } if *warps <= MOST_SHARED => fits(**tile, 2),
            _ => fits(**tile, 1),
        };
        let tile = wanted.iter().find(at_once);
        tile.or_else(|| wanted.iter().find(|tile| fits(**tile, 1)))
            .copied()
    }

    pub(super) fn rows(self) -> usize {
        match self {
            Self::Few { rows, .. } | Self::Many { rows, .. } => rows,
        }
    }

    pub(super) fn columns(self) -> usize {
        match self {
            Self::Few { columns, .. } => columns,
            Self::Many { .. } => PANEL,
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Few { rows, columns } => format!("linear_{rows}_{columns}"),
            Self::Many { rows, warps } => format!("linear_tile_{rows}_{warps}"),
        }
    }

    /// Threads of a block.
    pub(super) fn threads(self, inner: Inner) -> usize {
        match self {
            Self::Few { columns, .. } => {
                // As many rounds as are needed, and no idle threads in the last one.
                let units = inner.matrices * inner.segments;
                let rounds = (units * columns).div_ceil(MOST_THREADS);
                let threads = units.div_ceil(rounds) * columns;
                threads.next_multiple_of(32).max(64)
            }
            Self::Many { warps, .. } => 32 * warps,
        }
    }

    /// Blocks that share the tiles of outputs, of which there are as many as `tiles.0` for each of `tiles.1` tiles of rows, and their
    /// shared memory. Blocks of few rows make several tiles, where not all could be on the device at once.
    pub(super) fn blocks(
        self,
        tiles: (usize, usize),
        inner: Inner,
        shared: usize,
    ) -> (usize, usize) {
        let bytes = self.bytes(inner, 2);
        let at_once = match self {
            Self::Few { .. } if bytes <= shared => {
                (REGISTERS / (self.threads(inner) * FEW_REGISTERS)).min(shared / bytes)
            }
            _ => 0,
        };
        let slots = at_once * BUSY / tiles.1;
        if slots == 0 || tiles.0 <= slots {
            return (tiles.0, self.bytes(inner, 1));
        }
        let rounds = tiles.0.div_ceil(slots);
        (tiles.0.div_ceil(rounds), bytes)
    }

    /// Bytes of shared memory of a block, as the kernels lay it out. Of few rows, chains and scales have so many `buffers`.
    pub(super) fn bytes(self, inner: Inner, buffers: usize) -> usize {
        let Inner {
            segments,
            matrices,
            chains,
        } = inner;
        let floats = match self {
            // Activations, scales, chains, sums, and what the norms are.
            Self::Few { rows, columns } => {
                let cells = matrices * chains * segments;
                rows * segments * (SEGMENT + 4)
                    + rows * segments
                    + rows
                    + buffers * cells * columns * (2 + rows)
            }
            // Activations, widened weights, chains and sums, and scales; of as many rounds as go on at once.
            Self::Many { rows, warps } => {
                let share = warps / matrices;
                let rounds = segments.div_ceil(share).min(2);
                let widened = PANEL * (SEGMENT + 4) + 8 * 3;
                let made = if warps > MOST_SHARED { 2 } else { 1 };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::context::NAMES;

    fn inner(segments: usize, matrices: usize) -> Inner {
        Inner {
            segments,
            matrices,
            chains: 1,
        }
    }

    #[test]
    fn warps_make_the_fewest_rounds_and_are_no_more_than_that_takes() {
        for (segments, matrices, alone, shared) in [
            (18, 1, 18, 9),
            // Each matrix has half of the warps, so an odd number is left out.
            (18, 2, 18, 10),
            (20, 1, 20, 10),
            (32, 1, 16, 8),
            (48, 1, 24, 10),
            (64, 1, 24, 10),
        ] {
            let inner = inner(segments, matrices);
            assert_eq!(inner.warps(&WARPS_ALONE)[0], alone, "{inner:?}");
            assert_eq!(inner.warps(&WARPS_SHARED)[0], shared, "{inner:?}");
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
                        blocks * (tile.bytes(inner, 1) + 1024) <= SHARED + 1024
                    };
                    let tile = Tile::of(panels, inner, rows, fits).expect("a tile");
                    assert!(NAMES.contains(&tile.name().as_str()), "{tile:?}");
                    names.insert(tile.name());
                }
            }
        }
        assert!(names.len() > 10, "{names:?}");
    }
}
