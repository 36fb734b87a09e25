// Instructions of the Ampere generation and later that CUDA C++ has no word for: copies
// from global to shared memory that a thread does not wait for, and products of small
// matrices by the tensor cores.
//
// The emulator (tests/emulation) puts functions of its own in place of these, which
// check what each instruction asks for.
#pragma once

#include "core/data_type.h"
#include "cuda/device.cuh"

#if defined(NEGATIVE_COSINE_EMULATION)
#include "emulation/instructions.h"
#else

namespace negative_cosine {
namespace cuda {

static __device__ __forceinline__ uint32_t shared_address(const void* address) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(address));
}

// 16 bytes to an address of shared memory that is a multiple of 16, and zeros where
// they are not wanted: what is dropped is never read. They have arrived when the thread
// has waited for their group, and for other threads behind the next barrier.
template <typename Element>
__device__ __forceinline__ void copy_async(SharedElement<Element>* to, const void* from,
                                           bool wanted) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
      "l"(from), "r"(wanted ? 16 : 0)
      : "memory");
}

// Makes a group of the thread's copies since the last call.
static __device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the kPending latest groups are under way.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four matrices of 8 x 8 16-bit elements. Lanes 8 m .. 8 m + 7 give the addresses of
// the rows of matrix m, 16 bytes each; a lane gets elements 2 (lane % 4) and the next
// of row lane / 4 of each matrix.
template <typename Element>
__device__ __forceinline__ void load_matrices(const SharedElement<Element>* row,
                                              uint32_t (&matrices)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]),
                 "=r"(matrices[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same of the transposed matrices.
template <typename Element>
__device__ __forceinline__ void load_transposed(const SharedElement<Element>* row,
                                                uint32_t (&matrices)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]),
                 "=r"(matrices[3])
               : "r"(shared_address(row))
               : "memory");
}

// sums += left * right for 16 x 16 and 16 x 8 elements, with float32 sums. A lane holds
//   left:   rows lane / 4 (0, 2) and 8 more (1, 3), columns 2 (lane % 4) and the next
//           (0, 1) and 8 more (2, 3)
//   right:  column lane / 4, rows 2 (lane % 4) and the next, and 8 more
//   sums:   rows lane / 4 (0, 1) and 8 more (2, 3), columns 2 (lane % 4) and the next
static __device__ __forceinline__ void multiply_matrices(const uint32_t (&left)[4],
                                                         uint32_t right_0,
                                                         uint32_t right_1, BFloat16,
                                                         float (&sums)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0),
        "r"(right_1));
}

static __device__ __forceinline__ void multiply_matrices(const uint32_t (&left)[4],
                                                         uint32_t right_0,
                                                         uint32_t right_1, Float16,
                                                         float (&sums)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0),
        "r"(right_1));
}

}  // namespace cuda
}  // namespace negative_cosine

#endif
