// Copies from global to shared memory that go on while a thread does something else.
#pragma once

#include "numerics.cuh"

// Copies 16 bytes; zeros, where there is nothing to copy.
__device__ __forceinline__ void copy_ahead(void *to, const void *from, bool there = true) {
    u32 shared = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(there ? 16 : 0) : "memory");
}

// Copies 4 bytes.
__device__ __forceinline__ void copy_word_ahead(u32 *to, const void *from) {
    u32 shared = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(from) : "memory");
}

// Ends a group of copies.
__device__ __forceinline__ void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for this thread's groups, but for the last LATER of them.
template <int LATER> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
}

// The same, with at most 3 of them.
__device__ __forceinline__ void wait_for_all_but(int later) {
    if (later == 3) wait_for_copies<3>();
    else if (later == 2) wait_for_copies<2>();
    else if (later == 1) wait_for_copies<1>();
    else wait_for_copies<0>();
}

// Waits for the oldest of this thread's groups, of which there is one for each of 1, 2, 4 or 8 stages, and MORE before them.
template <int MORE> __device__ __forceinline__ void wait_for_oldest(int stages) {
    if (stages == 8) wait_for_copies<7 + MORE>();
    else if (stages == 4) wait_for_copies<3 + MORE>();
    else if (stages == 2) wait_for_copies<1 + MORE>();
    else wait_for_copies<MORE>();
}
