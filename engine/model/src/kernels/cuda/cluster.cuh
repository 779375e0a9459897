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

// What blocks of a cluster send to a block arrives in an inbox of that block: a barrier in its shared memory that counts bytes. So nobody
// waits until stores can be seen by all, as a barrier of the cluster would. A cluster of one block stores, and waits for its threads.
//
// One thread of each block opens its inboxes, all say that the block is there, and nobody sends before the others are there.
__device__ __forceinline__ void open_inbox(u64 *inbox, u32 bytes) {
#if __CUDA_ARCH__ >= 900
    u32 at = (u32)__cvta_generic_to_shared(inbox);
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
#endif
}
__device__ __forceinline__ void say_there() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_until_there() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// Where `shared` lies in another block.
__device__ __forceinline__ u32 address_in(const void *shared, int block) {
    u32 own = (u32)__cvta_generic_to_shared(shared), theirs = own;
#if __CUDA_ARCH__ >= 900
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(theirs) : "r"(own), "r"(block));
#endif
    return theirs;
}

// Sends a value to where `to` and `inbox` are in another block.
template <bool SHARED> __device__ __forceinline__ void send(float *to, u64 *inbox, int block, float value) {
    if (!SHARED) {
        *to = value;
        return;
    }
#if __CUDA_ARCH__ >= 900
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(address_in(to, block)), "f"(value), "r"(address_in(inbox, block)) : "memory");
#endif
}
template <bool SHARED> __device__ __forceinline__ void send(float2 *to, u64 *inbox, int block, float2 value) {
    if (!SHARED) {
        *to = value;
        return;
    }
#if __CUDA_ARCH__ >= 900
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(address_in(to, block)), "f"(value.x), "f"(value.y), "r"(address_in(inbox, block)) : "memory");
#endif
}
template <bool SHARED> __device__ __forceinline__ void send(float4 *to, u64 *inbox, int block, float4 value) {
    if (!SHARED) {
        *to = value;
        return;
    }
#if __CUDA_ARCH__ >= 900
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address_in(to, block)), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w), "r"(address_in(inbox, block)) : "memory");
#endif
}

// Waits until all that was announced has come, in a cluster of one until all threads have stored it. Every thread takes part. An inbox
// is filled once in a launch.
template <bool SHARED> __device__ __forceinline__ void wait_for_inbox(u64 *inbox) {
    if (!SHARED) {
        __syncthreads();
        return;
    }
#if __CUDA_ARCH__ >= 900
    u32 at = (u32)__cvta_generic_to_shared(inbox), done;
    do {
        asm volatile("{ .reg .pred done; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], 0; selp.u32 %0, 1, 0, done; }" : "=r"(done) : "r"(at) : "memory");
    } while (!done);
#endif
}
