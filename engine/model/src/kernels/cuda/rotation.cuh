// Queries, keys and values of one layer, and what is done to them between the products and attention: biases, norms of heads,
// rotation, and the write to the slab.
#pragma once

#include "numerics.cuh"

struct Rotation {
    const Row *rows;
    const Sequence *sequences;
    // The layouts of this layer: `layers` apart.
    const Slots *slots;
    u32 layers;
    u32 heads;
    u32 kv_heads;
    u32 dim;
    // Row-major products; biases and norms of heads, or null.
    const float *queries;
    const float *keys;
    const float *values;
    const float *query_bias;
    const float *key_bias;
    const float *value_bias;
    const float *query_norm;
    const float *key_norm;
    // 2 * dim numbers for each place: cosines, then signed sines. Tables of the first `places`, and the pass's own beyond.
    const float *angles;
    const float *sink_angles;
    const float *own_angles;
    const float *own_sink_angles;
    float *window_queries;
    float *sink_queries;
    u32 places;
    float epsilon;
    u32 element;
    u32 unused;
};

__device__ __forceinline__ const float *angles_of(const float *table, const float *own, u32 place, u32 places, int dim) {
    return place < places ? table + (u64)place * 2 * dim : own + (u64)(place - places) * 2 * dim;
}

__device__ __forceinline__ u32 slot_of(const Slots &slots, u64 position) {
    return position < slots.sink ? (u32)position : slots.sink_slots + (u32)(position % slots.ring);
}

// Copies whole heads to shared memory, with their bias.
__device__ __forceinline__ void fetch_heads(float *to, const float *from, const float *bias, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = bias ? sum(from[i], bias[i]) : from[i];
}

// Normalises each of `heads` heads in shared memory; every thread of the block takes part. `chains` has room for a number of
// each segment. Ends with a barrier.
__device__ __forceinline__ void normalise_heads(float *x, int heads, int dim, const float *weights, float epsilon, float *chains) {
    int segments = dim / SEGMENT;
    for (int i = threadIdx.x; i < heads * segments; i += blockDim.x) {
        float c = 0.0f;
#pragma unroll 8
        for (int k = 0; k < SEGMENT; k++) c = fused(x[i * SEGMENT + k], x[i * SEGMENT + k], c);
        chains[i] = c;
    }
    __syncthreads();
    for (int head = threadIdx.x; head < heads; head += blockDim.x) {
        float total = 0.0f;
        for (int segment = 0; segment < segments; segment++) total = sum(total, chains[head * segments + segment]);
        chains[head * segments] = inverse_root(total, dim, epsilon);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * dim; i += blockDim.x)
        x[i] = product(product(x[i], chains[i / dim * segments]), __ldg(weights + i % dim));
    __syncthreads();
}

// Rule ROTARY: each product and sum rounded on its own.
__device__ __forceinline__ float turned(const float *x, const float *angles, int d, int dim) {
    return sum(product(x[d], angles[d]), product(x[d ^ 1], angles[dim + d]));
}

// Rule KV-INT8: the scale of a block is the least bfloat16 that is not below its greatest magnitude over 127.
__device__ __forceinline__ void quantise(const float *block, signed char *quants, int step, u16 *scale) {
    float greatest = 0.0f;
    for (int i = 0; i < SEGMENT; i++) {
        float magnitude = fabsf(block[i]);
        if (magnitude > greatest || isnan(magnitude)) greatest = magnitude;
    }
    float raw = __fdiv_rn(greatest, 127.0f);
    u16 bits = isnan(raw) ? 0x7fc0 : (u16)((__float_as_uint(raw) + 0xffffu) >> 16);
    *scale = bits;
    float by = __uint_as_float((u32)bits << 16);
    for (int i = 0; i < SEGMENT; i++) {
        float quotient = bits == 0 ? 0.0f : rintf(__fdiv_rn(block[i], by));
        // As Rust converts: what is no number is 0, and what is beyond the range its end.
        quotient = isnan(quotient) ? 0.0f : quotient < -128.0f ? -128.0f : quotient > 127.0f ? 127.0f : quotient;
        quants[i * step] = (signed char)(int)quotient;
    }
}

// Writes the rotated keys and the values of `count` heads, from head `first` on, into the slot of a position. They lie in shared
// memory; the block has passed a barrier since they were written.
__device__ __forceinline__ void write_to_slab(const Rotation &args, const Sequence &sequence, const Slots &slots, u64 position, int first, int count, const float *keys, const float *values) {
    int dim = args.dim;
    u32 slot = slot_of(slots, position);
    u64 all = (u64)(slots.sink_slots + slots.ring) * dim;
    u64 key_first = slots.start + first * all + (u64)(slot / LANES * LANES) * dim + slot % LANES;
    u64 value_first = slots.start + (args.kv_heads + first) * all + (u64)slot * dim;
    if (args.element == ELEMENT_INT8) {
        signed char *slab = reinterpret_cast<signed char *>(sequence.elements);
        int blocks = count * dim / SEGMENT;
        for (int i = threadIdx.x; i < 2 * blocks; i += blockDim.x) {
            int from = i % blocks * SEGMENT, head = from / dim, d = from % dim;
            if (i >= blocks) {
                u64 to = value_first + head * all + d;
                quantise(values + from, slab + to, 1, sequence.scales + to / SEGMENT);
            } else {
                u64 to = key_first + head * all + (u64)d * LANES;
                quantise(keys + from, slab + to, LANES, sequence.scales + to / (LANES * SEGMENT) * LANES + to % LANES);
            }
        }
        return;
    }
    for (int i = threadIdx.x; i < count * dim; i += blockDim.x) {
        int head = i / dim, d = i % dim;
        u64 key_at = key_first + head * all + (u64)d * LANES, value_at = value_first + head * all + d;
        if (args.element == ELEMENT_F16) {
            __half *slab = reinterpret_cast<__half *>(sequence.elements);
            slab[key_at] = __float2half_rn(keys[i]);
            slab[value_at] = __float2half_rn(values[i]);
        } else {
            float *slab = reinterpret_cast<float *>(sequence.elements);
            slab[key_at] = keys[i];
            slab[value_at] = values[i];
        }
    }
}
