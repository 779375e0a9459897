// What happens to a row between the products: its embedding, normalisation, rotation and its place in the cache, and which
// logit is the greatest.
#include "formats.cuh"
#include "rotation.cuh"

template <int KIND> __device__ __forceinline__ void dequantise(const u8 *panel, int segment, int lane, float scale, float *out) {
    Weights<KIND> weights;
    weights.load(panel, segment, lane);
#pragma unroll
    for (int k = 0; k < SEGMENT; k++) {
        float2 scales = scales_of<KIND>(panel, segment, k / (SEGMENT / Shape<KIND>::CHAINS), lane);
        float value = weights.at(k);
        if (!Shape<KIND>::PLAIN) value = sum(product(scales.x, value), scales.y);
        out[k] = scale == 1.0f ? value : product(value, scale);
    }
}

// A row's token. One that the last pass has found has not been seen by the host: the host draws where the device has not,
// and then this pass is dropped.
__device__ __forceinline__ u32 token_of(u32 token, const u64 *greatest, const u32 *drawn, u32 vocabulary) {
    if (!(token & FOUND)) return token;
    u32 at = token & ~(FOUND | DRAWN);
    u32 found = token & DRAWN ? drawn[at] : NOT_DRAWN;
    if (found == NOT_DRAWN) found = ~(u32)greatest[at];
    return found < vocabulary ? found : 0;
}

// The embedding of each row's token, dequantised: d * q + m, each operation rounded. One block a row.
extern "C" __global__ void embed(const __grid_constant__ Matrix matrix, const Row *rows, float *residual, u32 segments, float scale,
                                 const u64 *greatest, const u32 *drawn) {
    begin_next();
    wait_for_last();
    u32 token = token_of(rows[blockIdx.x].token, greatest, drawn, matrix.rows), lane = token % PANEL;
    const u8 *panel = panel_of(matrix, token / PANEL);
    float *out = residual + (u64)blockIdx.x * segments * SEGMENT;
    for (int segment = threadIdx.x; segment < segments; segment += blockDim.x) {
        WITH_KIND(matrix.kind, (dequantise<KIND>(panel, segment, lane, scale, out + segment * SEGMENT)));
    }
}

// Where an element of a row lies in shared memory: segments are a bank apart, so that chains of several do not meet.
__device__ __forceinline__ int padded(int k) { return k + k / SEGMENT; }

// One over the root mean square of `length` values in shared memory: chains of 32, folded in ascending order by one thread.
// `chains` has room for length / 32; every thread gets the result.
__device__ __forceinline__ float inverse_rms(const float *x, int length, float epsilon, float *chains) {
    __shared__ float inverse;
    int segments = length / SEGMENT;
    for (int segment = threadIdx.x; segment < segments; segment += blockDim.x) {
        float c = 0.0f;
#pragma unroll
        for (int k = 0; k < SEGMENT; k++) {
            float value = x[segment * (SEGMENT + 1) + k];
            c = fused(value, value, c);
        }
        chains[segment] = c;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0.0f;
#pragma unroll 6
        for (int segment = 0; segment < segments; segment++) total = sum(total, chains[segment]);
        inverse = inverse_root(total, length, epsilon);
    }
    __syncthreads();
    return inverse;
}

constexpr int NORM_THREADS = 128;

// Rule NORM for the rows that `map` names (all, where it is null), row-major. One block a row. A thread has a few pieces of 16
// bytes on their way at once, and the weights of the first before it waits.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
    normalise(const float *x, const u32 *map, const float *weights, float epsilon, u32 columns, float *out) {
    extern __shared__ float row_shared[];
    constexpr int PIECES = 4, SPAN = 4 * NORM_THREADS;
    begin_next();
    float4 weight[PIECES], value[PIECES];
    auto fetch = [&](const float *from, u32 base, float4(&to)[PIECES]) {
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            u32 k = base + p * SPAN + 4 * threadIdx.x;
            if (k < columns) to[p] = *reinterpret_cast<const float4 *>(from + k);
        }
    };
    fetch(weights, 0, weight);
    wait_for_last();
    float *row = row_shared, *chains = row_shared + columns / SEGMENT * (SEGMENT + 1);
    const float *from = x + (u64)(map ? map[blockIdx.x] : blockIdx.x) * columns;
    for (u32 base = 0; base < columns; base += PIECES * SPAN) {
        fetch(from, base, value);
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            u32 k = base + p * SPAN + 4 * threadIdx.x;
            if (k >= columns) continue;
            float *to = row + padded(k);
            to[0] = value[p].x;
            to[1] = value[p].y;
            to[2] = value[p].z;
            to[3] = value[p].w;
        }
    }
    __syncthreads();
    float inverse = inverse_rms(row, columns, epsilon, chains);
    for (u32 base = 0; base < columns; base += PIECES * SPAN) {
        if (base > 0) fetch(weights, base, weight);
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            u32 k = base + p * SPAN + 4 * threadIdx.x;
            if (k >= columns) continue;
            const float *own = row + padded(k);
            *reinterpret_cast<float4 *>(out + (u64)blockIdx.x * columns + k) =
                make_float4(product(product(own[0], inverse), weight[p].x), product(product(own[1], inverse), weight[p].y),
                            product(product(own[2], inverse), weight[p].z), product(product(own[3], inverse), weight[p].w));
        }
    }
}

// Adds a bias to what a half of a block has made, normalises it, and adds it to the residual stream; each where the model does
// so. One block a row.
extern "C" __global__ void add_branch(const float *branch, const float *bias, const float *weights, float epsilon, u32 columns, float *residual) {
    extern __shared__ float row_shared[];
    begin_next();
    wait_for_last();
    float *row = row_shared, *chains = row_shared + columns / SEGMENT * (SEGMENT + 1);
    const float *from = branch + (u64)blockIdx.x * columns;
    float *to = residual + (u64)blockIdx.x * columns;
    for (int k = threadIdx.x; k < columns; k += blockDim.x) row[padded(k)] = bias ? sum(from[k], bias[k]) : from[k];
    __syncthreads();
    float inverse = weights ? inverse_rms(row, columns, epsilon, chains) : 1.0f;
    for (int k = threadIdx.x; k < columns; k += blockDim.x) {
        float y = weights ? product(product(row[padded(k)], inverse), __ldg(weights + k)) : row[padded(k)];
        to[k] = sum(to[k], y);
    }
}

// Finishes keys and values, and writes them into the slab. One block a row, and a warp for a head. For rows that see others of the
// same pass; a row that is alone in its session does this in its attention.
extern "C" __global__ void rotate_and_store(const __grid_constant__ Rotation args) {
    extern __shared__ float rotation_shared[];
    begin_next();
    int dim = args.dim, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float *angles = rotation_shared, *k = angles + 2 * dim + warp * 3 * dim, *v = k + dim, *turned_k = v + dim;
    // All of this was there before the pass began.
    Row row = args.rows[blockIdx.x];
    Sequence sequence = args.sequences[row.sequence];
    Slots slots = args.slots[sequence.layout * args.layers];
    u32 slot = args.sights[blockIdx.x].slot;
    const float *from = angles_of(args.angles, args.own_angles, row.angles, args.places, dim);
    for (int i = threadIdx.x; i < 2 * dim; i += blockDim.x) angles[i] = from[i];
    __syncthreads();
    wait_for_last();
    for (int head = warp; head < args.kv_heads; head += blockDim.x / 32) {
        u64 at = ((u64)blockIdx.x * args.kv_heads + head) * dim;
        finish_head(v, args.values + at, args.value_bias ? args.value_bias + head * dim : nullptr, nullptr, 0.0f, dim);
        finish_head(k, args.keys + at, args.key_bias ? args.key_bias + head * dim : nullptr, args.key_norm, args.epsilon, dim);
        for (int d = lane; d < dim; d += 32) turned_k[d] = turned(k, angles, d, dim);
        __syncwarp();
        write_to_slab(args, sequence, slots, slot, head, turned_k, v);
        __syncwarp();
    }
}

// A number whose order is that of logits, and, among equals, the reverse of their ids. What is no number is below all others,
// unless it is the first: then nothing is above it, as on the CPU.
__device__ __forceinline__ u64 rank_of(float logit, u32 id) {
    u64 low = 0xffffffffu - id;
    if (isnan(logit)) return id == 0 ? ~0ull : low;
    u32 bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (u64)bits << 32 | low;
}

// Raises `best[row]` to the rank of the greatest logit of each row, and copies the row to where it is kept, if it is. Blocks of a
// row share it.
extern "C" __global__ void greatest(const float *logits, u32 vocabulary, u64 *best, float *const *kept) {
    begin_next();
    wait_for_last();
    const float *row = logits + (u64)blockIdx.y * vocabulary;
    float *copy = kept[blockIdx.y];
    u64 rank = 0;
    for (u32 id = blockIdx.x * blockDim.x + threadIdx.x; id < vocabulary; id += gridDim.x * blockDim.x) {
        float logit = row[id];
        if (copy) copy[id] = logit;
        u64 other = rank_of(logit, id);
        rank = other > rank ? other : rank;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        u64 other = __shfl_down_sync(0xffffffffu, rank, offset);
        rank = other > rank ? other : rank;
    }
    if (threadIdx.x % 32 == 0) atomicMax(best + blockIdx.y, rank);
}
