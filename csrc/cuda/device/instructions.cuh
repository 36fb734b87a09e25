// Instructions of the Ampere generation and later that CUDA C++ has no word for: copies
// from global to shared memory that a thread does not wait for, and products of small
// matrices by the tensor cores.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/data_type.h"
#include "cuda/device/element_types.h"
#include "cuda/device/shared_arrays.cuh"

namespace negative_cosine {
namespace cuda {

// Copies 4, 8 or 16 bytes between addresses that are multiples of kBytes, or writes
// zeros if they are not wanted: what is dropped is never read. The thread sees them
// when it has waited for their group, other threads after the next barrier.
template <int kBytes, typename Element>
__device__ __forceinline__ void copy_async(SharedElement<Element>* to, const void* from,
                                           bool wanted);

// Makes a group of the thread's copies since the last call.
static __device__ __forceinline__ void commit_copies();

// Waits until at most the kPending latest groups are in flight.
template <int kPending>
__device__ __forceinline__ void wait_for_copies();

// Four matrices of 8 rows of 16 bytes. Lanes 8 m .. 8 m + 7 give the addresses of the
// rows of matrix m; a lane gets word lane % 4 of row lane / 4 of each matrix: two
// elements of 16 bits, or one of 32.
template <typename Element>
__device__ __forceinline__ void load_matrices(const SharedElement<Element>* row,
                                              uint32_t (&matrices)[4]);

// The same of the transposed matrices, of 16-bit elements.
template <typename Element>
__device__ __forceinline__ void load_transposed(const SharedElement<Element>* row,
                                                uint32_t (&matrices)[4]);

// sums += left * right for 16 x 16 and 16 x 8 elements, with float32 sums. A lane holds
//   left:   rows lane / 4 (0, 2) and 8 more (1, 3), columns 2 (lane % 4) and the next
//           (0, 1) and 8 more (2, 3)
//   right:  column lane / 4, rows 2 (lane % 4) and the next, and 8 more
//   sums:   rows lane / 4 (0, 1) and 8 more (2, 3), columns 2 (lane % 4) and the next
template <typename Element>
__device__ __forceinline__ void multiply_matrices(const uint32_t (&left)[4],
                                                  uint32_t right_0, uint32_t right_1,
                                                  Element, float (&sums)[4]);

// The same for 16 x 8 and 8 x 8 elements: columns of the left and rows of the right are
// lane % 4 and 4 more.
static __device__ __forceinline__ void multiply_matrices(const uint32_t (&left)[4],
                                                         uint32_t right_0,
                                                         uint32_t right_1, Tf32,
                                                         float (&sums)[4]);

// Rounded to nearest, ties away from zero.
static __device__ __forceinline__ uint32_t round_to_tf32(float value);

// 2^power with an error of up to two units in its last place, as CUDA's exp2f, which
// uses this instruction; 0 where that is less than the smallest normal number.
static __device__ __forceinline__ float approximate_exp2(float power);

// Two numbers as 16-bit elements side by side, rounded to nearest, ties to even.
static __device__ __forceinline__ uint32_t round_pair(float low, float high, Float16);
static __device__ __forceinline__ uint32_t round_pair(float low, float high, BFloat16);

#if __CUDA_ARCH__ >= 800

static __device__ __forceinline__ uint32_t shared_address(const void* address) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(address));
}

template <int kBytes, typename Element>
__device__ __forceinline__ void copy_async(SharedElement<Element>* to, const void* from,
                                           bool wanted) {
  if constexpr (kBytes == 16) {  // past the first-level cache
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
        "l"(from), "r"(wanted ? 16 : 0)
        : "memory");
  } else {
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)),
        "l"(from), "n"(kBytes), "r"(wanted ? kBytes : 0)
        : "memory");
  }
}

static __device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

template <typename Element>
__device__ __forceinline__ void load_matrices(const SharedElement<Element>* row,
                                              uint32_t (&matrices)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]),
                 "=r"(matrices[3])
               : "r"(shared_address(row))
               : "memory");
}

template <typename Element>
__device__ __forceinline__ void load_transposed(const SharedElement<Element>* row,
                                                uint32_t (&matrices)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]),
                 "=r"(matrices[3])
               : "r"(shared_address(row))
               : "memory");
}

template <typename Element>
__device__ __forceinline__ void multiply_matrices(const uint32_t (&left)[4],
                                                  uint32_t right_0, uint32_t right_1,
                                                  Element, float (&sums)[4]) {
  if constexpr (std::is_same_v<Element, BFloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0),
          "r"(right_1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0),
          "r"(right_1));
  }
}

static __device__ __forceinline__ void multiply_matrices(const uint32_t (&left)[4],
                                                         uint32_t right_0,
                                                         uint32_t right_1, Tf32,
                                                         float (&sums)[4]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0),
        "r"(right_1));
}

static __device__ __forceinline__ uint32_t round_to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

static __device__ __forceinline__ float approximate_exp2(float power) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(power));
  return result;
}

static __device__ __forceinline__ uint32_t round_pair(float low, float high, Float16) {
  uint32_t bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

static __device__ __forceinline__ uint32_t round_pair(float low, float high, BFloat16) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

#else  // Turing, on which no tile kernel is launched

template <int kBytes, typename Element>
__device__ __forceinline__ void copy_async(SharedElement<Element>*, const void*, bool) {
  __trap();
}
static __device__ __forceinline__ void commit_copies() {}
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {}
template <typename Element>
__device__ __forceinline__ void load_matrices(const SharedElement<Element>*,
                                              uint32_t (&)[4]) {
  __trap();
}
template <typename Element>
__device__ __forceinline__ void load_transposed(const SharedElement<Element>*,
                                                uint32_t (&)[4]) {
  __trap();
}
template <typename Element>
__device__ __forceinline__ void multiply_matrices(const uint32_t (&)[4], uint32_t,
                                                  uint32_t, Element, float (&)[4]) {
  __trap();
}
static __device__ __forceinline__ void multiply_matrices(const uint32_t (&)[4],
                                                         uint32_t, uint32_t, Tf32,
                                                         float (&)[4]) {
  __trap();
}
static __device__ __forceinline__ uint32_t round_to_tf32(float) { return 0; }
static __device__ __forceinline__ float approximate_exp2(float) { return 0; }
static __device__ __forceinline__ uint32_t round_pair(float, float, Float16) {
  return 0;
}
static __device__ __forceinline__ uint32_t round_pair(float, float, BFloat16) {
  return 0;
}

#endif

}  // namespace cuda
}  // namespace negative_cosine
