// Products of whole matrices by a warpgroup of 128 threads, for every shape and type.
//
// The input holds the left factor of 64 rows, and behind it the right one, in elements
// of 16 bits; their depth is `repeats`. Each sum starts from its place in the output.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "emulation/instructions.h"
#include "emulation/warpgroups.h"
#include "planted_faults.h"
#include "swizzled_tiles.h"

namespace planted {
namespace {

using namespace emulator;
using Float16 = __half;
using BFloat16 = __nv_bfloat16;

constexpr Factor factor_of(Float16) { return Factor::kFloat16; }
constexpr Factor factor_of(BFloat16) { return Factor::kBFloat16; }

constexpr int kRows = 64;

__device__ int thread_in_block() { return static_cast<int>(threadIdx.x); }

// From row after row of `depth` elements, so that steps along the depth are in a row of
// 128 bytes.
template <typename Element>
__device__ void copy_along_depth(const Element* from, int rows, int depth,
                                 SharedElement<Element>* to) {
  for (int packet = thread_in_block(); packet < rows * depth / 8; packet += 128) {
    const int row = packet / (depth / 8);
    const int k = packet % (depth / 8) * 8;
    copy_async<16>(to + place_along_depth(row, k, rows), from + row * depth + k, true);
  }
}

// From `depth` rows of elements, column after column.
template <int kColumns, typename Element>
__device__ void copy_along_columns(const Element* from, int depth,
                                   SharedElement<Element>* to) {
  for (int packet = thread_in_block(); packet < kColumns * depth / 8; packet += 128) {
    const int k = packet / (kColumns / 8);
    const int column = packet % (kColumns / 8) * 8;
    copy_async<16>(to + place_along_columns(column, k, depth),
                   from + k * kColumns + column, true);
  }
}

template <int kColumns>
__device__ int place_of_sum(int eight, int sum) {
  const int row = thread_in_block() / 4 % 8 + thread_in_block() / 32 * 16 + sum / 2 * 8;
  return row * kColumns + 8 * eight + thread_in_block() % 4 * 2 + sum % 2;
}

template <typename Element>
__device__ uint32_t pair_at(const Element* elements) {
  return __ldg(reinterpret_cast<const uint32_t*>(elements));
}

template <typename Element>
__device__ void load_left(const Element* left, int depth, int k,
                          uint32_t (&fragment)[4]) {
  const int row = thread_in_block() / 32 * 16 + thread_in_block() % 32 / 4;
  const Element* first = left + row * depth + k + thread_in_block() % 4 * 2;
  fragment[0] = pair_at(first);
  fragment[1] = pair_at(first + 8 * depth);
  fragment[2] = pair_at(first + 8);
  fragment[3] = pair_at(first + 8 * depth + 8);
}

template <int kColumns, typename Element>
__device__ void multiply_step_shared(uint32_t left, uint32_t right, int k,
                                     float (&sums)[kColumns / 8][4]) {
  const uint32_t in_row = k % 64 * 2;
  const uint32_t tile = k / 64 * 128;
  multiply_shared<kColumns>(descriptor_of(left + tile * kRows + in_row),
                            descriptor_of(right + tile * kColumns + in_row), true,
                            factor_of(Element{}), sums);
}

template <int kColumns, typename Element, bool kLeftIsShared>
__global__ void multiply_with_warpgroup(Arguments a) {
  const int depth = a.repeats;
  const auto* numbers = reinterpret_cast<const Element*>(a.input);
  SwizzledSharedArrays arrays;
  auto* left = arrays.take<Element>(kRows * depth);
  auto* right = arrays.take<Element>(kColumns * depth);
  if (kLeftIsShared) {
    copy_along_depth(numbers, kRows, depth, left);
    copy_along_depth(numbers + kRows * depth, kColumns, depth, right);
  } else {
    copy_along_columns<kColumns>(numbers + kRows * depth, depth, right);
  }
  commit_copies();
  wait_for_copies(0);
  show_writes_to_products();
  __syncthreads();

  float sums[kColumns / 8][4];
  for (int eight = 0; eight < kColumns / 8; ++eight) {
    for (int sum = 0; sum < 4; ++sum) {
      sums[eight][sum] = static_cast<float>(place_of_sum<kColumns>(eight, sum));
    }
  }
  begin_products();
  for (int k = 0; k < depth; k += 16) {
    if (kLeftIsShared) {
      multiply_step_shared<kColumns, Element>(shared_address_of(left),
                                              shared_address_of(right), k, sums);
    } else {
      uint32_t fragment[4];
      load_left(numbers, depth, k, fragment);
      multiply_registers<kColumns>(
          fragment, descriptor_of(shared_address_of(right) + k * 128, depth * 128),
          factor_of(Element{}), sums);
    }
  }
  commit_products();
  wait_for_products(0);
  for (int eight = 0; eight < kColumns / 8; ++eight) {
    for (int sum = 0; sum < 4; ++sum) {
      __stcs(a.output + place_of_sum<kColumns>(eight, sum), sums[eight][sum]);
    }
  }
}

}  // namespace

const std::vector<Entry>& warpgroup_product_entries() {
  static const std::vector<Entry> entries = {
      {"multiply_float16_64_shared", multiply_with_warpgroup<64, Float16, true>},
      {"multiply_float16_128_shared", multiply_with_warpgroup<128, Float16, true>},
      {"multiply_bfloat16_64_shared", multiply_with_warpgroup<64, BFloat16, true>},
      {"multiply_bfloat16_128_shared", multiply_with_warpgroup<128, BFloat16, true>},
      {"multiply_float16_64_registers", multiply_with_warpgroup<64, Float16, false>},
      {"multiply_float16_128_registers", multiply_with_warpgroup<128, Float16, false>},
      {"multiply_bfloat16_64_registers", multiply_with_warpgroup<64, BFloat16, false>},
      {"multiply_bfloat16_128_registers",
       multiply_with_warpgroup<128, BFloat16, false>},
  };
  return entries;
}

}  // namespace planted
