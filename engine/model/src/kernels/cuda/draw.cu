// Draws tokens: rule DRAW of docs/numerics.md. What tokens weigh is an integer, so it does not matter in which order, or by
// which thread, they are added up.
//
// A cluster of blocks takes a row of logits, each every n-th of its tokens. What is looked for is always the same: the token at
// which the tokens from the likeliest downwards are worth some bound together, by what they weigh or by their number. Tokens go
// into bins by how far their logit is below the greatest; the bin in which the bound is reached is cut into bins again, until it
// has few tokens, which are compared with each other. What is not found so (a row with a NaN, hundreds of tokens in the last bin) the
// host draws.
#include "cluster.cuh"

// How a row is drawn; nothing, where the temperature is 0. `Draw` of src/draw.rs.
struct Drawing {
    float temperature;
    u32 top_k;
    float top_p;
    float min_p;
    u64 random;
};

constexpr int DRAW_THREADS = 512, DRAW_BINS = 16, DRAW_LEVELS = 6, MOST_FOUND = 512;
// Bins of the first level for each unit of the exponent: what weighs anything is less than 27.73 below the greatest.
constexpr float BINS_OF_UNIT = 0.575f;
constexpr float PEAK_WEIGHT = 1099511627776.0f;
constexpr u64 NOT_FOUND = ~0ull;

// Of a block, for the others of its cluster to see.
struct DrawShared {
    // What each bin is worth: of this block's tokens, and of all.
    u64 own[DRAW_BINS];
    u64 all[DRAW_BINS];
    // Of the first block: the tokens of the last bin.
    u64 ranks[MOST_FOUND];
    u64 worths[MOST_FOUND];
    u64 answer;
    u32 found;
    u32 has_nan;
};

// A token's place among all: greater for a greater logit, and among equals for a lower id.
__device__ __forceinline__ u64 draw_rank(float logit, u32 id) {
    u32 bits = __float_as_uint(logit);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (u64)bits << 32 | (u32)~id;
}

struct DrawRow {
    const float *logits;
    u32 vocabulary;
    float peak, temperature;
    int block, blocks;
    DrawShared *shared;
    // DRAW_BINS for each thread, of its own.
    u64 *bins;
    // What is kept.
    u64 least_rank, least_weight;

    // The exponent of a token's weight, at most 0.
    __device__ __forceinline__ float exponent(float logit) const { return __fdiv_rn(__fsub_rn(logit, peak), temperature); }
    __device__ __forceinline__ u64 weight(float exponent) const { return (u64)__float2ll_rz(product(exponential(exponent), PEAK_WEIGHT)); }
    // The bin of a level, counted through all bins of that level.
    __device__ __forceinline__ static int bin_of(float exponent, int level) {
        float first = product(-exponent, BINS_OF_UNIT);
        // Exact: a power of two.
        return (int)product(first, (float)(1 << 4 * level));
    }
    // What a token is worth: nothing, where it is not kept.
    __device__ __forceinline__ u64 worth(float exponent, float logit, u32 id, bool counted) const {
        u64 weighs = weight(exponent);
        if (weighs == 0 || weighs < least_weight || draw_rank(logit, id) < least_rank) return 0;
        return counted ? 1 : weighs;
    }

    // Puts the tokens of bin `from` of the level before, or all, into bins of this level.
    __device__ __forceinline__ void fill_bins(int level, int from, bool counted) {
        for (int bin = 0; bin < DRAW_BINS; bin++) bins[bin * DRAW_THREADS + threadIdx.x] = 0;
        for (u32 id = block * DRAW_THREADS + threadIdx.x; id < vocabulary; id += blocks * DRAW_THREADS) {
            float logit = logits[id], below = exponent(logit);
            if (isnan(below)) shared->has_nan = 1;
            if (level > 0 && bin_of(below, level - 1) != from) continue;
            u64 worth_of = worth(below, logit, id, counted);
            if (worth_of > 0) bins[(bin_of(below, level) % DRAW_BINS) * DRAW_THREADS + threadIdx.x] += worth_of;
        }
        __syncthreads();
        // A warp for each bin.
        int lane = threadIdx.x % 32, bin = threadIdx.x / 32;
        u64 sum = 0;
        for (int i = lane; i < DRAW_THREADS; i += 32) sum += bins[bin * DRAW_THREADS + i];
        for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
        if (lane == 0) shared->own[bin] = sum;
        cluster_sync();
        if (threadIdx.x < DRAW_BINS) {
            u64 all = 0;
            for (int other = 0; other < blocks; other++) all += in_block(shared, other)->own[threadIdx.x];
            shared->all[threadIdx.x] = all;
        }
        // Nobody fills bins again before everyone has read them.
        cluster_sync();
    }

    // The rank of the token at which those that are kept, from the likeliest downwards, are worth what `bound` says when it is told what
    // all of them are worth; 0 where they are not, and NOT_FOUND where it is not found.
    template <typename Bound> __device__ __forceinline__ u64 reach(bool counted, Bound bound_of) {
        u64 above = 0, bound = 0;
        int bin = 0;
        DrawShared *first = in_block(shared, 0);
        for (int level = 0; level <= DRAW_LEVELS; level++) {
            fill_bins(level, bin, counted);
            if (level == 0) {
                u64 total = 0;
                for (int i = 0; i < DRAW_BINS; i++) total += shared->all[i];
                bound = bound_of(total);
                if (total < bound) return 0;
            }
            int within = 0;
            while (within < DRAW_BINS - 1 && above + shared->all[within] < bound) above += shared->all[within++];
            bin = bin * DRAW_BINS + within;
            // A bin of the first level has thousands.
            if (level == 0) continue;
            if (threadIdx.x == 0) {
                shared->found = 0;
                shared->answer = NOT_FOUND;
            }
            cluster_sync();
            for (u32 id = block * DRAW_THREADS + threadIdx.x; id < vocabulary; id += blocks * DRAW_THREADS) {
                float logit = logits[id], below = exponent(logit);
                if (bin_of(below, level) != bin) continue;
                u64 worth_of = worth(below, logit, id, counted);
                if (worth_of == 0) continue;
                u32 at = atomicAdd(&first->found, 1u);
                if (at >= MOST_FOUND) break;
                first->ranks[at] = draw_rank(logit, id);
                first->worths[at] = worth_of;
            }
            cluster_sync();
            u32 found = first->found;
            if (block == 0 && found <= MOST_FOUND && threadIdx.x < found) {
                u64 own = shared->ranks[threadIdx.x], sum = above;
                for (int i = 0; i < found; i++)
                    if (shared->ranks[i] > own) sum += shared->worths[i];
                if (sum < bound && bound <= sum + shared->worths[threadIdx.x]) shared->answer = own;
            }
            cluster_sync();
            u64 answer = first->answer;
            // Nobody begins anew before everyone has read it.
            cluster_sync();
            if (found <= MOST_FOUND) return answer;
        }
        return NOT_FOUND;
    }
};

extern "C" __global__ void __launch_bounds__(DRAW_THREADS) draw(const float *logits, u32 vocabulary, const Drawing *drawings, const u64 *greatest, u32 *drawn) {
    extern __shared__ u64 draw_bins[];
    __shared__ DrawShared shared;
    begin_next();
    wait_for_last();
    Drawing how = drawings[blockIdx.y];
    if (how.temperature == 0.0f) return;
    DrawRow row;
    row.logits = logits + (u64)blockIdx.y * vocabulary;
    row.vocabulary = vocabulary;
    row.peak = row.logits[~(u32)greatest[blockIdx.y]];
    row.temperature = how.temperature;
    row.block = blockIdx.x;
    row.blocks = gridDim.x;
    row.shared = &shared;
    row.bins = draw_bins;
    row.least_rank = row.least_weight = 0;
    if (threadIdx.x == 0) shared.has_nan = 0;
    cluster_sync();

    u64 reached = 0;
    // Tokens that weigh nothing are not counted: whether they are kept makes no difference.
    if (how.top_k > 0 && how.top_k < vocabulary) reached = row.reach(true, [&](u64) { return (u64)how.top_k; });
    row.least_rank = reached;
    if (how.top_p < 1.0f && reached != NOT_FOUND) {
        reached = row.reach(false, [&](u64 total) {
            u64 bound = __double2ull_rz(ceil(__dmul_rn((double)how.top_p, __ull2double_rn(total))));
            return bound < 1 ? 1 : bound > total ? total : bound;
        });
        row.least_rank = reached;
    }
    row.least_weight = __double2ull_rz(ceil(__dmul_rn((double)how.min_p, (double)PEAK_WEIGHT)));
    if (reached != NOT_FOUND) reached = row.reach(false, [&](u64 total) { return __umul64hi(how.random, total) + 1; });
    if (row.block == 0 && threadIdx.x == 0) {
        bool has_nan = false;
        for (int other = 0; other < row.blocks; other++) has_nan |= in_block(&shared, other)->has_nan != 0;
        // The greatest is not finite, or nothing has reached the bound.
        drawn[blockIdx.y] = has_nan || reached == NOT_FOUND || reached == 0 ? NOT_DRAWN : ~(u32)reached;
    }
    // Blocks do not end while others look into them.
    cluster_sync();
}
