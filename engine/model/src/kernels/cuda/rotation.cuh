// Queries, keys and values of one layer, and what is done to them between the products and attention: biases, norms of heads,
// rotation, and the write to the slab.
#pragma once

#include "numerics.cuh"

struct Rotation {
    const Row *rows;
    const Sequence *sequences;
    // The layouts of this layer: `layers` apart.
    const Slots *slots;
    // What rows see in layers of this one's kind.
    const Sight *sights;
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
    u32 places;
    float epsilon;
    u32 element;
    u32 unused;
};

__device__ __forceinline__ const float *angles_of(const float *table, const float *own, u32 place, u32 places, int dim) {
    return place < places ? table + (u64)place * 2 * dim : own + (u64)(place - places) * 2 * dim;
}

// Copies a head to shared memory, with its bias, and normalises it; each where the model does so. For one warp.
__device__ __forceinline__ void finish_head(float *x, const float *from, const float *bias, const float *norm, float epsilon, int dim) {
    int lane = threadIdx.x % 32, segments = dim / SEGMENT;
    for (int d = lane; d < dim; d += 32) x[d] = bias ? sum(from[d], bias[d]) : from[d];
    __syncwarp();
    if (!norm) return;
    float total = 0.0f;
    for (int first = 0; first < segments; first += 32) {
        float c = 0.0f;
        if (first + lane < segments) {
            const float4 *own = reinterpret_cast<const float4 *>(x + (first + lane) * SEGMENT);
#pragma unroll 4
            for (int k = 0; k < SEGMENT / 4; k++) {
                float4 v = own[k];
                c = fused(v.x, v.x, c);
                c = fused(v.y, v.y, c);
                c = fused(v.z, v.z, c);
                c = fused(v.w, v.w, c);
            }
        }
        for (int segment = 0; segment < 32 && first + segment < segments; segment++) total = sum(total, __shfl_sync(0xffffffffu, c, segment));
    }
    float by = inverse_root(total, dim, epsilon);
    for (int d = lane; d < dim; d += 32) x[d] = product(product(x[d], by), __ldg(norm + d));
    __syncwarp();
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

// Writes a head's rotated key and its value, which lie in shared memory, into a slot of the slab. For one warp.
__device__ __forceinline__ void write_to_slab(const Rotation &args, const Sequence &sequence, const Slots &slots, u32 slot, int head, const float *key, const float *value) {
    int lane = threadIdx.x % 32, dim = args.dim;
    u64 all = (u64)slots.count * dim;
    u64 key_at = slots.start + head * all + (u64)(slot / LANES * LANES) * dim + slot % LANES;
    u64 value_at = slots.start + (args.kv_heads + head) * all + (u64)slot * dim;
    if (args.element == ELEMENT_INT8) {
        signed char *slab = reinterpret_cast<signed char *>(sequence.elements);
        int blocks = dim / SEGMENT;
        for (int i = lane; i < 2 * blocks; i += 32) {
            int d = i % blocks * SEGMENT;
            if (i >= blocks) {
                u64 to = value_at + d;
                quantise(value + d, slab + to, 1, sequence.scales + to / SEGMENT);
            } else {
                u64 to = key_at + (u64)d * LANES;
                quantise(key + d, slab + to, LANES, sequence.scales + to / (LANES * SEGMENT) * LANES + to % LANES);
            }
        }
        return;
    }
    for (int d = lane; d < dim; d += 32) {
        if (args.element == ELEMENT_F16) {
            __half *slab = reinterpret_cast<__half *>(sequence.elements);
            slab[key_at + d * LANES] = __float2half_rn(key[d]);
            slab[value_at + d] = __float2half_rn(value[d]);
        } else {
            float *slab = reinterpret_cast<float *>(sequence.elements);
            slab[key_at + d * LANES] = key[d];
            slab[value_at + d] = value[d];
        }
    }
}
