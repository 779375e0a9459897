// What the two kernels of attention are handed. Rule ATTENTION of docs/numerics.md.
#pragma once

#include "rotation.cuh"

// Rows of a session that one block of attention_tile.cu takes at most.
constexpr int TILE_ROWS = 2;

struct Attention {
    // What was made before attention, and is finished here: queries, and keys and values too where no row sees another one.
    Rotation made;
    float *out;
    // For the layer's kind. Where every row is alone, each is a tile.
    const RowTile *tiles;
    float scale;
    // Units that a block has room for at once.
    u32 room;
    // For attention.cu: the blocks of a cluster and the warps of a block are two to these powers; and stages of a warp.
    u32 cluster;
    u32 warps;
    u32 stages;
    // Blocks for the query heads of one key head.
    u32 parts;
};

__device__ __forceinline__ float widened(u16 scale) { return __uint_as_float((u32)scale << 16); }
