// The arithmetic of docs/numerics.md on a GPU: every operation is spelled as the one instruction that is meant, so that no
// compiler setting can contract, reorder or flush anything.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// Inputs of a segment: every reduction is cut into such.
constexpr int SEGMENT = 32;
// Outputs of a panel, one for each lane of a warp.
constexpr int PANEL = 32;
// Lanes of the CPU's vectors, in which keys lie in a slab and scales in a panel.
constexpr int LANES = 16;

__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ __forceinline__ float sum(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }

// Kernels of a pass follow each other, and each begins before the one before it has ended, up to where it needs what that has
// made: `begin_next` lets the next one begin, `wait_for_last` waits until everything before is done and can be seen.
__device__ __forceinline__ void begin_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void wait_for_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Rule EXP. Cephes' expf, every step a fused multiply-add; the argument is clamped, so the result is a normal number.
__device__ __forceinline__ float exponential(float x) {
    x = x < -87.33654f ? -87.33654f : x;
    x = x > 88.37626f ? 88.37626f : x;
    float n = rintf(product(x, 1.44269504088896340736f));
    float r = fused(n, -0.693359375f, x);
    r = fused(n, 2.1219444e-4f, r);
    float p = 1.9875691e-4f;
    p = fused(p, r, 1.3982e-3f);
    p = fused(p, r, 8.333452e-3f);
    p = fused(p, r, 4.1665796e-2f);
    p = fused(p, r, 1.6666666e-1f);
    p = fused(p, r, 5.0000001e-1f);
    float y = sum(fused(p, product(r, r), r), 1.0f);
    return product(y, __int_as_float(((int)n + 127) << 23));
}

// SwiGLU, or GeGLU in its tanh form: gate / (1 + exp(0 - z)) * up.
__device__ __forceinline__ float gated(float gate, float up, bool gelu) {
    float z = gate;
    if (gelu) {
        float cube = product(product(gate, gate), gate);
        z = product(fused(cube, 0.044715f, gate), 1.5957692f);
    }
    float denominator = sum(1.0f, exponential(__fsub_rn(0.0f, z)));
    return product(__fdiv_rn(gate, denominator), up);
}

// One over the root of the mean square, from the sum of squares.
__device__ __forceinline__ float inverse_root(float total, int length, float epsilon) {
    return __fdiv_rn(1.0f, __fsqrt_rn(sum(__fdiv_rn(total, (float)length), epsilon)));
}

// One row of a pass: a token of a session. Written by the host, as all of the following.
struct Row {
    // Or FOUND, and which row of the last pass's logits it is found in: drawn from it, where it is DRAWN too.
    u32 token;
    u32 sequence;
    // Where its angles lie in the tables: at its position, and for sinks.
    u32 angles;
    u32 sink_angles;
};

// Of a token that the host has not seen: see `Row`. And what is said of a row of logits that the host is to draw from.
constexpr u32 FOUND = 1u << 31, DRAWN = 1u << 30, NOT_DRAWN = 0xffffffffu;

// One session of a pass.
struct Sequence {
    // The slab: its elements, and the scales of their blocks.
    u8 *elements;
    u16 *scales;
    // Which of the pass's layouts.
    u32 layout;
    u32 unused;
};

// Where the keys and values of one layer lie in a slab: its first element, and the slots of a head.
struct Slots {
    u64 start;
    u32 count;
    u32 unused;
};

// What a row sees in layers of one kind, counted from the first key of the first segment that its tile looks at in the window: from
// `low` on, before `end`; and so many of the sinks. And the slot of its own position.
struct Sight {
    int low;
    int end;
    int sinks;
    u32 slot;
};

// Neighbouring rows of a session, and the segments of 32 keys that they may see in layers of one kind: those of the sinks, then
// the window's. A unit makes one chain: a segment, or the last of the sinks and the first of the window where both are the same
// 32 positions: then they are joined.
struct RowTile {
    u32 first;
    u32 rows;
    int sinks;
    int segments;
    // The slot of the window's first segment, and where the ring ends.
    u32 window_slot;
    u32 end_slot;
    u32 ring;
    u32 joined;
    // The session, and which of the pass's layouts it has.
    u32 sequence;
    u32 layout;
    u32 unused[2];

    __device__ __forceinline__ int units() const { return segments - (int)joined; }
    // The first segment of a unit; that of one past the last is one past the last.
    __device__ __forceinline__ int begin(int unit) const { return unit + (joined && unit >= sinks); }
    __device__ __forceinline__ int end(int unit) const { return begin(unit + 1); }
    // The keys of a segment that a row sees, counted from its first: from `from` on, before `to`; both may be out of it.
    __device__ __forceinline__ void visible(int segment, const Sight &sight, int &from, int &to) const {
        bool in_sinks = segment < sinks;
        int first = (in_sinks ? segment : segment - sinks) * SEGMENT;
        from = (in_sinks ? 0 : sight.low) - first;
        to = (in_sinks ? sight.sinks : sight.end) - first;
    }
    __device__ __forceinline__ u32 slot(int segment) const {
        if (segment < sinks) return segment * SEGMENT;
        // What is seen is no longer than the ring, so it wraps once at most.
        u32 slot = window_slot + (segment - sinks) * SEGMENT;
        return slot < end_slot ? slot : slot - ring;
    }
};

enum Element { ELEMENT_F16 = 0, ELEMENT_F32 = 1, ELEMENT_INT8 = 2 };
