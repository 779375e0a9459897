//! How the rows and outputs of a product are shared among blocks.

use super::run::BUSY;
use crate::config::SEGMENT;
use crate::panels::PANEL;

/// Rows of a tile that is made for a step that waits for memory, and of a pass whose products normalise their rows themselves:
/// with more a kernel of its own costs less, since each block would do it again.
pub(super) const FEW_ROWS: usize = 4;
/// Threads of a block of few rows at most.
const MOST_THREADS: usize = 512;

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
    /// is a block for each processor, it has 16 warps; docs/performance-cuda.md has what the others were measured by.
    pub(super) fn of(
        (panels, matrices): (usize, usize),
        rows: usize,
        fits: impl Fn(Self) -> bool,
    ) -> Option<Self> {
        let many = |columns: usize| panels * PANEL / columns >= 4 * BUSY;
        let blocks = |tile_rows: usize| panels * rows.div_ceil(tile_rows);
        let mut wanted = Vec::with_capacity(10);
        if rows > FEW_ROWS {
            match (
                blocks(8) <= BUSY,
                blocks(16) <= BUSY,
                blocks(32) >= 2 * BUSY,
            ) {
                (true, ..) => wanted.push(Self::many(8, 16)),
                (_, true, _) => wanted.push(Self::many(16, 16)),
                (.., true) if matrices == 2 => wanted.push(Self::many(32, 8)),
                _ => {}
            }
            wanted.extend([Self::many(16, 8), Self::many(8, 8)]);
        }
        if rows > 2 {
            wanted.push(Self::few(4, PANEL));
        }
        if rows > 1 {
            wanted.push(Self::few(2, if many(PANEL) { PANEL } else { 8 }));
        }
        wanted.push(Self::few(1, if many(PANEL) { PANEL } else { 8 }));
        wanted.push(Self::few(1, 8));
        wanted.into_iter().find(|tile| fits(*tile))
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
    pub(super) fn threads(self, segments: usize, matrices: usize) -> usize {
        match self {
            Self::Few { columns, .. } => {
                // As many rounds as are needed, and no idle threads in the last one.
                let units = matrices * segments;
                let rounds = (units * columns).div_ceil(MOST_THREADS);
                let threads = units.div_ceil(rounds) * columns;
                threads.next_multiple_of(32).max(64)
            }
            Self::Many { warps, .. } => 32 * warps,
        }
    }

    /// Bytes of shared memory of a block, as the kernels lay it out. `chains` are those of a segment at most.
    pub(super) fn bytes(self, segments: usize, matrices: usize, chains: usize) -> usize {
        let floats = match self {
            // Activations, scales, sums, what the norms are, results, and chains.
            Self::Few { rows, columns } => {
                let cells = matrices * chains * segments;
                rows * segments * (SEGMENT + 4)
                    + 2 * cells * columns
                    + rows * segments
                    + rows
                    + 2 * rows * columns
                    + cells * rows * columns
            }
            // Activations, widened weights, chains, scales, and sums; activations and scales twice.
            Self::Many { rows, warps } => {
                let share = warps / matrices;
                let rounds = segments.div_ceil(share).min(2);
                let widened = PANEL * (SEGMENT + 4) + 8 * 3;
                rounds * share * rows * (SEGMENT + 4)
                    + warps * (widened + chains * rows * PANEL + 4 * chains * PANEL + rows)
            }
        };
        floats * size_of::<f32>()
    }
}
