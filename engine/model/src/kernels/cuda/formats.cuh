// How each weight type is read. A matrix lies in panels of 32 outputs, as on the CPU (panels/mod.rs), with one change: the raw
// values of a segment stand so that each lane reads its own in pieces of 16 bytes, piece after piece, and after them the words
// that fill no piece (src/cuda/weights.rs, `spread_panel`).
#pragma once

#include "copies.cuh"
#include "numerics.cuh"

// In the order of `PanelKind`; and several of them.
enum Kind { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K, F16, BF16, F32, MIXED };

// Sizes in bytes for one half of a panel, as `PanelKind::shape` has them.
template <int KIND> struct Shape {
    static constexpr bool NIBBLES = KIND <= Q6K && KIND != Q8_0;
    static constexpr bool K_QUANT = KIND == Q4K || KIND == Q5K || KIND == Q6K;
    static constexpr bool FIVE = KIND == Q5_0 || KIND == Q5_1 || KIND == Q5K;
    static constexpr bool PLAIN = KIND >= F16;
    static constexpr bool MINIMUM = KIND == Q4_1 || KIND == Q5_1 || KIND == Q4K || KIND == Q5K;
    // Chains of a segment: two of 16 inputs in Q6K.
    static constexpr int CHAINS = KIND == Q6K ? 2 : 1;
    static constexpr int SUPERBLOCK = K_QUANT ? 8 : 1;
    static constexpr int HEADER = KIND == Q4K || KIND == Q5K ? 4 * LANES : KIND == Q6K ? 2 * LANES : 0;
    static constexpr int SCALES = PLAIN ? 0 : KIND == Q4_1 || KIND == Q5_1 ? 4 * LANES : 2 * LANES;
    // Pieces of 16 bytes and words of 4 that a lane has of a segment.
    static constexpr int PIECES = NIBBLES ? 1 : KIND == Q8_0 ? 2 : KIND == F32 ? 8 : 4;
    static constexpr int WORDS = FIVE ? 1 : KIND == Q6K ? 2 : 0;
    static constexpr int WEIGHTS = LANES * (16 * PIECES + 4 * WORDS);
    static constexpr int BODY = 2 * (SCALES + WEIGHTS);

    __device__ static int header(int segment) {
        return segment / SUPERBLOCK * (2 * HEADER + SUPERBLOCK * BODY);
    }
    __device__ static int scales(int segment) {
        return header(segment) + 2 * HEADER + segment % SUPERBLOCK * BODY;
    }
    __device__ static int weights(int segment) { return scales(segment) + 2 * SCALES; }
};

// A lane's piece of 16 bytes, and its words behind the pieces.
__device__ __forceinline__ uint4 piece_at(const u8 *weights, int piece, int lane) {
    return __ldg(reinterpret_cast<const uint4 *>(weights) + piece * PANEL + lane);
}
template <int KIND> __device__ __forceinline__ u32 word_at(const u8 *weights, int word, int lane) {
    return __ldg(reinterpret_cast<const u32 *>(weights + 512 * Shape<KIND>::PIECES) + word * PANEL + lane);
}

// The raw weights of one output in one segment.
template <int KIND> struct Weights {
    uint4 pieces[Shape<KIND>::PIECES];
    u32 words[Shape<KIND>::WORDS > 0 ? Shape<KIND>::WORDS : 1];

    __device__ __forceinline__ void load(const u8 *panel, int segment, int lane) {
        const u8 *at = panel + Shape<KIND>::weights(segment);
#pragma unroll
        for (int piece = 0; piece < Shape<KIND>::PIECES; piece++) pieces[piece] = piece_at(at, piece, lane);
#pragma unroll
        for (int word = 0; word < Shape<KIND>::WORDS; word++) words[word] = word_at<KIND>(at, word, lane);
    }

    // The value of input `k` as a number, without its scale. `k` is known when this is compiled.
    __device__ __forceinline__ float at(int k) const {
        const u32 *raw = reinterpret_cast<const u32 *>(pieces);
        if (Shape<KIND>::NIBBLES) {
            u32 value = raw[k / 8] >> (4 * (k % 8)) & 15;
            if (Shape<KIND>::FIVE) value |= (words[0] >> k & 1) << 4;
            if (KIND == Q6K) value |= (words[k / 16] >> (2 * (k % 16)) & 3) << 4;
            // 2^23 + value, and 2^23 with the offset taken away: exact, and faster than a conversion.
            constexpr float OFFSET = KIND == Q4_0 ? 8.0f : KIND == Q5_0 ? 16.0f : KIND == Q6K ? 32.0f : 0.0f;
            return __fsub_rn(__uint_as_float(value | 0x4b000000u), 8388608.0f + OFFSET);
        }
        if (KIND == Q8_0) return (float)(signed char)(raw[k / 4] >> (8 * (k % 4)));
        if (KIND == F16) {
            __half_raw bits;
            bits.x = (u16)(raw[k / 2] >> (16 * (k % 2)));
            return __half2float(__half(bits));
        }
        if (KIND == BF16) return __uint_as_float(k % 2 == 0 ? raw[k / 2] << 16 : raw[k / 2] & 0xffff0000u);
        return __uint_as_float(raw[k]);
    }
};

// The scales and minima of one output in one segment as they are stored: halves, and bytes of K-quants.
struct RawScales {
    u16 scale, minimum;
    u8 bytes[2];
};

// Nothing is put together here: that would wait for it.
template <int KIND> __device__ __forceinline__ void load_scales(const u8 *panel, int segment, int lane, RawScales &to) {
    if constexpr (!Shape<KIND>::PLAIN) {
        int half = lane / LANES, own = lane % LANES;
        const u8 *scales = panel + Shape<KIND>::scales(segment) + half * Shape<KIND>::SCALES;
        const u8 *header = panel + Shape<KIND>::header(segment) + half * Shape<KIND>::HEADER;
        const u16 *halves = reinterpret_cast<const u16 *>(Shape<KIND>::K_QUANT ? header : scales);
        to.scale = __ldg(halves + own);
        if constexpr (Shape<KIND>::MINIMUM) to.minimum = __ldg(halves + LANES + own);
        if constexpr (Shape<KIND>::K_QUANT) {
            to.bytes[0] = __ldg(scales + own);
            to.bytes[1] = __ldg(scales + LANES + own);
        }
    }
}

__device__ __forceinline__ float half_of(u32 bits) {
    __half_raw raw;
    raw.x = (u16)bits;
    return __half2float(__half(raw));
}

// The scale and the minimum of a chain.
template <int KIND> __device__ __forceinline__ float2 decode_scales(const RawScales &raw, int chain) {
    float2 result = make_float2(1.0f, 0.0f);
    if constexpr (!Shape<KIND>::PLAIN) result.x = half_of(raw.scale);
    if constexpr (Shape<KIND>::MINIMUM) result.y = half_of(raw.minimum);
    if constexpr (Shape<KIND>::K_QUANT) {
        result.x = product(result.x, (float)(signed char)raw.bytes[chain]);
        // 0 - (dmin * minimum), as on the processor.
        if constexpr (Shape<KIND>::MINIMUM) result.y = __fsub_rn(0.0f, product(result.y, (float)(signed char)raw.bytes[1]));
    }
    return result;
}

template <int KIND> __device__ __forceinline__ float2 scales_of(const u8 *panel, int segment, int chain, int lane) {
    RawScales raw;
    load_scales<KIND>(panel, segment, lane, raw);
    return decode_scales<KIND>(raw, chain);
}

// What a lane has loaded of one output in one segment, of whatever kind, not looked at yet. F32 is too large to be kept so: it is
// loaded when it is needed.
struct Raw {
    uint4 pieces[4];
    u32 words[2];
    RawScales scales;
};

template <int KIND> __device__ __forceinline__ void load_raw(const u8 *panel, int segment, int lane, Raw &to) {
    if constexpr (KIND != F32) {
        const u8 *at = panel + Shape<KIND>::weights(segment);
#pragma unroll
        for (int piece = 0; piece < Shape<KIND>::PIECES; piece++) to.pieces[piece] = piece_at(at, piece, lane);
#pragma unroll
        for (int word = 0; word < Shape<KIND>::WORDS; word++) to.words[word] = word_at<KIND>(at, word, lane);
        load_scales<KIND>(panel, segment, lane, to.scales);
    }
}

template <int KIND> __device__ __forceinline__ Weights<KIND> weights_of(const Raw &raw, const u8 *panel, int segment, int lane) {
    Weights<KIND> weights;
    if constexpr (KIND == F32) {
        weights.load(panel, segment, lane);
    } else {
#pragma unroll
        for (int piece = 0; piece < Shape<KIND>::PIECES; piece++) weights.pieces[piece] = raw.pieces[piece];
#pragma unroll
        for (int word = 0; word < Shape<KIND>::WORDS; word++) weights.words[word] = raw.words[word];
    }
    return weights;
}

// Writes the weights of the lane's output as numbers, without their scale.
template <int KIND> __device__ __forceinline__ void widen(const Raw &raw, const u8 *panel, int segment, int lane, float *to) {
    Weights<KIND> weights = weights_of<KIND>(raw, panel, segment, lane);
#pragma unroll
    for (int k = 0; k < SEGMENT; k += 4)
        *reinterpret_cast<float4 *>(to + k) = make_float4(weights.at(k), weights.at(k + 1), weights.at(k + 2), weights.at(k + 3));
}

// What a thread has on its way of one output in one segment: the pieces and words of its weights, then words that have its scales
// among them. Those of a block's threads lie side by side, piece by piece and word by word, so that neighbours hit different banks.
// tile.rs has its size.
template <int KIND> struct Staged {
    // Words of scales: a half or a byte of each is the thread's.
    static constexpr int SCALES = Shape<KIND>::PLAIN ? 0 : (Shape<KIND>::MINIMUM ? 2 : 1) + (Shape<KIND>::K_QUANT ? 2 : 0);
    static constexpr int BYTES_AT = Shape<KIND>::MINIMUM ? 2 : 1;

    __device__ __forceinline__ static uint4 *piece(u8 *stage, int piece) {
        return reinterpret_cast<uint4 *>(stage) + piece * blockDim.x + threadIdx.x;
    }
    __device__ __forceinline__ static u32 *word(u8 *stage, int word) {
        return reinterpret_cast<u32 *>(stage + 16 * Shape<KIND>::PIECES * blockDim.x) + word * blockDim.x + threadIdx.x;
    }

    __device__ __forceinline__ static void copy(u8 *stage, const u8 *panel, int segment, int lane) {
        constexpr int PIECES = Shape<KIND>::PIECES, WORDS = Shape<KIND>::WORDS;
        const u8 *at = panel + Shape<KIND>::weights(segment);
#pragma unroll
        for (int i = 0; i < PIECES; i++) copy_ahead(piece(stage, i), at + 16 * (i * PANEL + lane));
#pragma unroll
        for (int i = 0; i < WORDS; i++) copy_word_ahead(word(stage, i), at + 512 * PIECES + 4 * (i * PANEL + lane));
        if constexpr (!Shape<KIND>::PLAIN) {
            int half = lane / LANES, own = lane % LANES;
            const u8 *scales = panel + Shape<KIND>::scales(segment) + half * Shape<KIND>::SCALES;
            const u8 *halves = Shape<KIND>::K_QUANT ? panel + Shape<KIND>::header(segment) + half * Shape<KIND>::HEADER : scales;
            copy_word_ahead(word(stage, WORDS), halves + own / 2 * 4);
            if (Shape<KIND>::MINIMUM) copy_word_ahead(word(stage, WORDS + 1), halves + 2 * LANES + own / 2 * 4);
            if (Shape<KIND>::K_QUANT) {
                copy_word_ahead(word(stage, WORDS + BYTES_AT), scales + own / 4 * 4);
                copy_word_ahead(word(stage, WORDS + BYTES_AT + 1), scales + LANES + own / 4 * 4);
            }
        }
    }
    __device__ __forceinline__ static Weights<KIND> weights(u8 *stage) {
        Weights<KIND> weights;
#pragma unroll
        for (int i = 0; i < Shape<KIND>::PIECES; i++) weights.pieces[i] = *piece(stage, i);
#pragma unroll
        for (int i = 0; i < Shape<KIND>::WORDS; i++) weights.words[i] = *word(stage, i);
        return weights;
    }
    __device__ __forceinline__ static RawScales scales(u8 *stage, int lane) {
        constexpr int WORDS = Shape<KIND>::WORDS;
        RawScales raw = {};
        if constexpr (!Shape<KIND>::PLAIN) {
            raw.scale = (u16)(*word(stage, WORDS) >> lane % 2 * 16);
            if (Shape<KIND>::MINIMUM) raw.minimum = (u16)(*word(stage, WORDS + 1) >> lane % 2 * 16);
            if (Shape<KIND>::K_QUANT)
                for (int i = 0; i < 2; i++) raw.bytes[i] = (u8)(*word(stage, WORDS + BYTES_AT + i) >> lane % 4 * 8);
        }
        return raw;
    }
};

// Folds the chain `c` into the total `t`; `s` is the segment's sum of activations.
template <int KIND> __device__ __forceinline__ float fold(float2 scales, float c, float s, float t) {
    if (Shape<KIND>::PLAIN) return sum(t, c);
    t = fused(scales.x, c, t);
    return Shape<KIND>::MINIMUM ? fused(scales.y, s, t) : t;
}

__device__ __forceinline__ bool has_minimum(u32 kind) {
    return kind == Q4_1 || kind == Q5_1 || kind == Q4K || kind == Q5K;
}

#define COMMA ,

// Runs BODY with KIND standing for the kind as a constant.
#define WITH_KIND(kind, BODY)                                                                                              \
    switch (kind) {                                                                                                        \
    case Q4_0: { constexpr int KIND = Q4_0; BODY; } break;                                                                 \
    case Q4_1: { constexpr int KIND = Q4_1; BODY; } break;                                                                 \
    case Q5_0: { constexpr int KIND = Q5_0; BODY; } break;                                                                 \
    case Q5_1: { constexpr int KIND = Q5_1; BODY; } break;                                                                 \
    case Q8_0: { constexpr int KIND = Q8_0; BODY; } break;                                                                 \
    case Q4K: { constexpr int KIND = Q4K; BODY; } break;                                                                   \
    case Q5K: { constexpr int KIND = Q5K; BODY; } break;                                                                   \
    case Q6K: { constexpr int KIND = Q6K; BODY; } break;                                                                   \
    case F16: { constexpr int KIND = F16; BODY; } break;                                                                   \
    case BF16: { constexpr int KIND = BF16; BODY; } break;                                                                 \
    default: { constexpr int KIND = F32; BODY; } break;                                                                    \
    }

// A packed matrix.
struct Matrix {
    const u8 *data;
    u32 kind;
    // Outputs.
    u32 rows;
    // Bytes of a panel.
    u64 panel;
};

__device__ __forceinline__ const u8 *panel_of(const Matrix &matrix, int panel) { return matrix.data + panel * matrix.panel; }

// A product: the matrix, and where its outputs go, row-major.
struct Product {
    Matrix matrix;
    float *out;
    u64 stride;
};

enum Mode { STORE = 0, ACCUMULATE = 1, GATED = 2 };

// Products of the same activations. GATED has two, gate and up, and one output.
struct Linear {
    Product products[3];
    u32 count;
    u32 segments;
    u32 mode;
    u32 gelu;
    // Activations, row-major.
    const float *x;
    u64 x_stride;
    // Weights of a normalisation that `x` goes through first, or null.
    const float *norm;
    float epsilon;
    u32 rows;
    // Chains of a segment at most.
    u32 chains;
    // Of few rows: stages of a thread and bytes of one, tiles that are folded together, segments that are made at once, tiles of a
    // block, and which rows of `x` are meant (all, where it is null).
    u32 stages;
    u32 stage_bytes;
    u32 group;
    u32 share;
    u32 each;
    const u32 *map;
};
