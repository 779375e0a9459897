// Blocks that see each other's shared memory. Devices before capability 9.0 have no clusters: there a block is by itself.
#pragma once

#include <cooperative_groups.h>

#include "numerics.cuh"

// Where another block of the cluster has what this one has at `shared`.
template <typename T> __device__ __forceinline__ T *in_block(T *shared, int block) {
#if __CUDA_ARCH__ >= 900
    return cooperative_groups::this_cluster().map_shared_rank(shared, block);
#else
    return shared;
#endif
}

// Waits for every thread of the cluster; what they have written before can be seen then.
__device__ __forceinline__ void cluster_sync() {
#if __CUDA_ARCH__ >= 900
    cooperative_groups::this_cluster().sync();
#else
    __syncthreads();
#endif
}
