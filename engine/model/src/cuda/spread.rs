//! Which tiles of products have a warp for each of their segments: spread.cu.

use super::run::BUSY;
use super::tile::{Inner, Tile};

/// Rows and outputs of a tile of spread.cu, for one matrix and for two; and warps of a block at most.
const TILES: [&[(usize, usize)]; 2] = [
    &[(8, 16), (8, 32), (16, 32), (32, 24)],
    &[(8, 32), (16, 32), (32, 24), (32, 32)],
];
const WARPS: usize = 20;

/// A tile for each processor at most, those first that make the least work for a block.
pub(super) fn tiles(outputs: &[usize], inner: Inner, rows: usize) -> Vec<Tile> {
    let Inner {
        segments, matrices, ..
    } = inner;
    let cluster = segments.div_ceil(WARPS);
    // Rows are normalised by a block that has all of their segments.
    if inner.chains > 1 || cluster > if inner.normalised { 1 } else { 8 } {
        return Vec::new();
    }
    let warps = segments.div_ceil(cluster);
    let all = TILES[matrices - 1].iter().copied();
    let mut fitting: Vec<(usize, usize)> = all
        .filter(|(tile_rows, tile_outputs)| {
            let each = tile_outputs / matrices;
            let tiles: usize = outputs.iter().map(|outputs| outputs.div_ceil(each)).sum();
            let is_one = tiles * rows.div_ceil(*tile_rows) * cluster <= BUSY;
            is_one && each.div_ceil(cluster) * tile_rows <= 32 * warps
        })
        .collect();
    // Multiply-adds of a lane, fetching and normalising a row, and widening weights, in about their proportion.
    fitting.sort_by_key(|(tile_rows, tile_outputs)| tile_rows * (tile_outputs + 16));
    let all = fitting.into_iter().map(|(rows, outputs)| Tile::Spread {
        rows,
        outputs,
        cluster,
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tile::tests::inner;
    use super::*;

    #[test]
    fn segments_are_spread_where_there_is_a_tile_for_each_processor_at_most() {
        const SHARED: usize = 224 * 1024;
        let of = |outputs: &[usize], inner: Inner, rows: usize| {
            Tile::of(outputs, inner, rows, |tile, blocks| {
                blocks * (tile.bytes(inner) + 1024) <= SHARED + 1024
            })
        };
        let spread = |rows, outputs, cluster| {
            Some(Tile::Spread {
                rows,
                outputs,
                cluster,
            })
        };
        let down = Inner {
            normalised: false,
            ..inner(48, 1)
        };
        for (rows, projected, gated, added) in [
            (8, spread(8, 16, 1), spread(8, 32, 1), spread(8, 16, 3)),
            (16, spread(8, 16, 1), spread(16, 32, 1), spread(8, 32, 3)),
            (32, spread(8, 32, 1), spread(32, 24, 1), spread(16, 32, 3)),
        ] {
            // SmolLM2-135M.
            assert_eq!(of(&[192, 192, 576], inner(18, 1), rows), projected);
            assert_eq!(of(&[1536], inner(18, 2), rows), gated);
            assert_eq!(of(&[576], down, rows), added);
        }
        let is_spread = |tile| matches!(tile, Some(Tile::Spread { .. }));
        // Two chains of a segment, more outputs than one tile for each processor has, few rows, and norms in more than one block.
        let two = Inner { chains: 2, ..down };
        assert!(!is_spread(of(&[576], two, 32)));
        assert!(!is_spread(of(&[49_152], inner(18, 1), 8)));
        assert!(!is_spread(of(&[576], down, 4)));
        assert!(!is_spread(of(&[576], inner(48, 1), 32)));
        assert!(is_spread(of(&[576], down, 32)));
    }

    #[test]
    fn a_block_has_a_thread_for_all_that_it_folds() {
        for rows in [5, 8, 16, 31, 32, 64, 128] {
            for outputs in [32, 64, 320, 576, 960, 1024, 1536, 2048] {
                for (segments, matrices) in [
                    (2, 1),
                    (8, 2),
                    (18, 1),
                    (18, 2),
                    (48, 1),
                    (101, 1),
                    (121, 1),
                    (141, 1),
                    (160, 1),
                ] {
                    let inner = Inner {
                        normalised: false,
                        ..inner(segments, matrices)
                    };
                    for tile in tiles(&[outputs], inner, rows) {
                        let Tile::Spread {
                            rows: tile_rows,
                            outputs: made,
                            cluster,
                        } = tile
                        else {
                            panic!("{tile:?}");
                        };
                        let made_tiles = tile.tiles(&[outputs], matrices);
                        let share = tile.share((made_tiles, rows.div_ceil(tile_rows)), inner, 0);
                        let folded = (made / matrices).div_ceil(cluster) * tile_rows;
                        let what = format!("{rows} rows, {outputs} outputs, {inner:?}: {share:?}");
                        assert!(folded <= share.threads, "{what}");
                        assert!(share.threads <= 32 * WARPS, "{what}");
                        assert!(share.threads / 32 * cluster >= segments, "{what}");
                        assert!(made_tiles * made / matrices >= outputs, "{what}");
                        assert!(
                            made_tiles * rows.div_ceil(tile_rows) * cluster <= BUSY,
                            "{what}"
                        );
                    }
                }
            }
        }
    }
}
