// Instructions of Hopper (compute capability 9.0, compiled for sm_90a) that CUDA C++
// has no word for: barriers that count arrivals, and products of matrices by the four
// warps of a warpgroup, which read their factors from shared memory while the warps go
// on.
//
// The formats are those of NVIDIA's "PTX ISA", sections mbarrier, wgmma and "Matrix
// descriptor".
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/data_type.h"
#include "cuda/device/shared_arrays.cuh"

namespace negative_cosine {
namespace cuda {

// --- Barriers that count arrivals ----------------------------------------------------

// A barrier in shared memory goes through phases: one ends when as many threads have
// arrived as it was set up for. A thread waits for the end of the phase whose number is
// even (parity 0) or odd (1); the phase in front of the first counts as odd and ended.
// What a thread did before it arrived, a thread sees that has waited.
using ArrivalBarrier = SharedElement<uint64_t>;

// By one thread, with __syncthreads() before the first use.
static __device__ __forceinline__ void set_up(ArrivalBarrier* barrier, int arrivals);
static __device__ __forceinline__ void arrive(ArrivalBarrier* barrier);
static __device__ __forceinline__ void wait_for_phase(ArrivalBarrier* barrier,
                                                      uint32_t parity);

// As __syncthreads() for so many threads: a whole number of warps that name the same
// barrier, 1 to 15.
static __device__ __forceinline__ void synchronise(int barrier, int threads);

// --- Registers -----------------------------------------------------------------------

// All warps of a warpgroup ask for so many registers a thread: a multiple of 8.
template <int kCount>
__device__ __forceinline__ void give_registers_back();  // leaves kCount
template <int kCount>
__device__ __forceinline__ void take_registers();  // waits until there are kCount

// --- Products by a warpgroup ---------------------------------------------------------

// Where an array lies in shared memory, in bytes.
template <typename Element>
__device__ __forceinline__ uint32_t
shared_address_of(const SharedElement<Element>* element);

// What this thread wrote to shared memory, products see that are issued afterwards, by
// whom this thread has let know: ordinary writes take another way than they do.
static __device__ __forceinline__ void show_writes_to_products();

// Comes before the first product that reads registers that ordinary code has written,
// sums among them.
static __device__ __forceinline__ void begin_products();
// Makes a group of the products since the last call.
static __device__ __forceinline__ void commit_products();
// Waits until at most the kPending latest groups are under way. Until then their sums
// may be neither read nor written, and what they read must stay as it is.
template <int kPending>
__device__ __forceinline__ void wait_for_products();

// The sums of a warpgroup's 64 rows and kColumns columns. Warp w of it has rows 16 w
// and the 15 others, a lane of them those of a fragment (tiles/shape.cuh) of each 8
// columns.
template <int kColumns>
using WarpgroupSums = float[kColumns / 8][4];

// sums = left * right, or += where kAdds, for 64 x 16 and 16 x kColumns elements, both
// in shared memory as descriptors say: row by row of `left`, and column by column of
// `right`.
template <int kColumns, bool kAdds, typename Element>
__device__ __forceinline__ void multiply_shared(uint64_t left, uint64_t right, Element,
                                                WarpgroupSums<kColumns>& sums);

// sums += left * right, the left as multiply_matrices() takes it (instructions.cuh), 16
// rows of each warp, and `right` in shared memory row by row.
template <int kColumns, typename Element>
__device__ __forceinline__ void multiply_registers(const uint32_t (&left)[4],
                                                   uint64_t right, Element,
                                                   WarpgroupSums<kColumns>& sums);

// Sums that ordinary code has written: it has done so in front of this, and the
// compiler moves none of it behind. Comes before begin_products().
template <int kFragmentsOfSums>
__device__ __forceinline__ void finish_writes(float (&sums)[kFragmentsOfSums][4]);

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)

template <typename Element>
__device__ __forceinline__ uint32_t
shared_address_of(const SharedElement<Element>* element) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(element));
}

static __device__ __forceinline__ void set_up(ArrivalBarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(
                   shared_address_of<uint64_t>(barrier)),
               "r"(arrivals)
               : "memory");
}

static __device__ __forceinline__ void arrive(ArrivalBarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(
                   shared_address_of<uint64_t>(barrier))
               : "memory");
}

static __device__ __forceinline__ void wait_for_phase(ArrivalBarrier* barrier,
                                                      uint32_t parity) {
  uint32_t has_ended;
  do {
    asm volatile(
        "{\n"
        ".reg .pred has_ended;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 has_ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, has_ended;\n"
        "}"
        : "=r"(has_ended)
        : "r"(shared_address_of<uint64_t>(barrier)), "r"(parity)
        : "memory");
  } while (has_ended == 0);
}

static __device__ __forceinline__ void synchronise(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

template <int kCount>
__device__ __forceinline__ void give_registers_back() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

static __device__ __forceinline__ void show_writes_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

template <int kFragmentsOfSums>
__device__ __forceinline__ void finish_writes(float (&sums)[kFragmentsOfSums][4]) {
#pragma unroll
  for (auto& fragment : sums) {
#pragma unroll
    for (float& sum : fragment) asm volatile("" : "+f"(sum)::"memory");
  }
}

static __device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// The operands of an instruction are part of its text: all sums of 64 columns are 32
// numbers of a lane, all of 128 columns 64. `mode` is "+" where it adds to them, "="
// where it does not read them.
#define NEGATIVE_COSINE_SUMS_8(mode, f)                                         \
  mode "f"(sums[f][0]), mode "f"(sums[f][1]), mode "f"(sums[f][2]),             \
      mode "f"(sums[f][3]), mode "f"(sums[f + 1][0]), mode "f"(sums[f + 1][1]), \
      mode "f"(sums[f + 1][2]), mode "f"(sums[f + 1][3])
#define NEGATIVE_COSINE_SUMS_32(mode, f)                                \
  NEGATIVE_COSINE_SUMS_8(mode, f), NEGATIVE_COSINE_SUMS_8(mode, f + 2), \
      NEGATIVE_COSINE_SUMS_8(mode, f + 4), NEGATIVE_COSINE_SUMS_8(mode, f + 6)
#define NEGATIVE_COSINE_SUMS_64(mode) \
  NEGATIVE_COSINE_SUMS_32(mode, 0), NEGATIVE_COSINE_SUMS_32(mode, 8)

#define NEGATIVE_COSINE_NAMES_32                                           \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, " \
  "%30, %31"
#define NEGATIVE_COSINE_NAMES_64                                             \
  NEGATIVE_COSINE_NAMES_32                                                   \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, " \
  "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "   \
  "%60, %61, %62, %63"

// Behind the factors come: whether it adds, their signs, and what is transposed.
#define NEGATIVE_COSINE_MULTIPLY_SHARED(columns, type, names, left_, right_, adds,  \
                                        all)                                        \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " adds                       \
               ", 0;\n"                                                             \
               "wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type \
               " {" names "}, " left_ ", " right_ ", adds, 1, 1, 0, 0;\n}"          \
               : all                                                                \
               : "l"(left), "l"(right))
#define NEGATIVE_COSINE_MULTIPLY_SHARED_64(type, adds, mode)                          \
  NEGATIVE_COSINE_MULTIPLY_SHARED("64", type, NEGATIVE_COSINE_NAMES_32, "%32", "%33", \
                                  adds, NEGATIVE_COSINE_SUMS_32(mode, 0))
#define NEGATIVE_COSINE_MULTIPLY_SHARED_128(type, adds, mode)                          \
  NEGATIVE_COSINE_MULTIPLY_SHARED("128", type, NEGATIVE_COSINE_NAMES_64, "%64", "%65", \
                                  adds, NEGATIVE_COSINE_SUMS_64(mode))

template <int kColumns, bool kAdds, typename Element>
__device__ __forceinline__ void multiply_shared(uint64_t left, uint64_t right, Element,
                                                WarpgroupSums<kColumns>& sums) {
  static_assert(kColumns == 64 || kColumns == 128, "which instructions there are");
  constexpr bool kIsBFloat16 = std::is_same_v<Element, BFloat16>;
  if constexpr (kColumns == 64 && kIsBFloat16 && kAdds) {
    NEGATIVE_COSINE_MULTIPLY_SHARED_64("bf16", "1", "+");
  } else if constexpr (kColumns == 64 && kIsBFloat16) {
    NEGATIVE_COSINE_MULTIPLY_SHARED_64("bf16", "0", "=");
  } else if constexpr (kColumns == 64 && kAdds) {
    NEGATIVE_COSINE_MULTIPLY_SHARED_64("f16", "1", "+");
  } else if constexpr (kColumns == 64) {
    NEGATIVE_COSINE_MULTIPLY_SHARED_64("f16", "0", "=");
  } else if constexpr (kIsBFloat16 && kAdds) {
    NEGATIVE_COSINE_MULTIPLY_SHARED_128("bf16", "1", "+");
  } else if constexpr (kIsBFloat16) {
    NEGATIVE_COSINE_MULTIPLY_SHARED_128("bf16", "0", "=");
  } else if constexpr (kAdds) {
    NEGATIVE_COSINE_MULTIPLY_SHARED_128("f16", "1", "+");
  } else {
    NEGATIVE_COSINE_MULTIPLY_SHARED_128("f16", "0", "=");
  }
}

#define NEGATIVE_COSINE_MULTIPLY_REGISTERS(columns, type, names, left_, right_, all) \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type  \
               " {" names "}, {" left_ "}, " right_ ", 1, 1, 1, 1;"                  \
               : all                                                                 \
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right))
#define NEGATIVE_COSINE_MULTIPLY_REGISTERS_64(type)                        \
  NEGATIVE_COSINE_MULTIPLY_REGISTERS("64", type, NEGATIVE_COSINE_NAMES_32, \
                                     "%32, %33, %34, %35", "%36",          \
                                     NEGATIVE_COSINE_SUMS_32("+", 0))
#define NEGATIVE_COSINE_MULTIPLY_REGISTERS_128(type)                        \
  NEGATIVE_COSINE_MULTIPLY_REGISTERS("128", type, NEGATIVE_COSINE_NAMES_64, \
                                     "%64, %65, %66, %67", "%68",           \
                                     NEGATIVE_COSINE_SUMS_64("+"))

template <int kColumns, typename Element>
__device__ __forceinline__ void multiply_registers(const uint32_t (&left)[4],
                                                   uint64_t right, Element,
                                                   WarpgroupSums<kColumns>& sums) {
  static_assert(kColumns == 64 || kColumns == 128, "which instructions there are");
  constexpr bool kIsBFloat16 = std::is_same_v<Element, BFloat16>;
  if constexpr (kColumns == 64 && kIsBFloat16) {
    NEGATIVE_COSINE_MULTIPLY_REGISTERS_64("bf16");
  } else if constexpr (kColumns == 64) {
    NEGATIVE_COSINE_MULTIPLY_REGISTERS_64("f16");
  } else if constexpr (kIsBFloat16) {
    NEGATIVE_COSINE_MULTIPLY_REGISTERS_128("bf16");
  } else {
    NEGATIVE_COSINE_MULTIPLY_REGISTERS_128("f16");
  }
}

#undef NEGATIVE_COSINE_SUMS_8
#undef NEGATIVE_COSINE_SUMS_32
#undef NEGATIVE_COSINE_SUMS_64
#undef NEGATIVE_COSINE_NAMES_32
#undef NEGATIVE_COSINE_NAMES_64
#undef NEGATIVE_COSINE_MULTIPLY_SHARED
#undef NEGATIVE_COSINE_MULTIPLY_SHARED_64
#undef NEGATIVE_COSINE_MULTIPLY_SHARED_128
#undef NEGATIVE_COSINE_MULTIPLY_REGISTERS
#undef NEGATIVE_COSINE_MULTIPLY_REGISTERS_64
#undef NEGATIVE_COSINE_MULTIPLY_REGISTERS_128

#endif  // no other device has them, and their kernels are not compiled for others

}  // namespace cuda
}  // namespace negative_cosine
