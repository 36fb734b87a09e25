// Kernels of products by a warpgroup with one fault each, and the same kernels without
// it.
//
// They take 128 threads and 32 KiB of shared memory. Factors are ones of Float16 with
// 64 rows or columns and a depth of 64: each sum is 64.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "emulation/instructions.h"
#include "emulation/warpgroups.h"
#include "planted_faults.h"
#include "swizzled_tiles.h"

namespace planted {
namespace {

using namespace emulator;
using Half = __half;

constexpr int kRows = 64;
constexpr int kElements = kRows * 64;
constexpr Half kOne{0x3c00};
constexpr uint32_t kTwoOnes = 0x3c003c00u;

using Sums = float[8][4];
using Matrix = SharedElement<Half>*;

__device__ int thread_in_block() { return static_cast<int>(threadIdx.x); }
__device__ int lane_of_thread() { return thread_in_block() % warpSize; }
__device__ float number_of_thread(const Arguments& a) {
  return __ldg(a.input + blockIdx.x * blockDim.x + threadIdx.x);
}
__device__ void store(const Arguments& a, float number) {
  __stcs(a.output + blockIdx.x * blockDim.x + threadIdx.x, number);
}

// --- The usual course of things ----------------------------------------------------

// What may be wrong with it.
struct Mistakes {
  bool leave_an_element_out = false;
  bool no_barrier = false;
  bool no_show = false;
  bool show_before_writing = false;
  bool show_after_the_barrier = false;
  bool no_begin = false;
  bool no_begin_after_a_wait = false;
  bool no_commit = false;
  bool no_wait = false;
  bool write_sums = false;
  bool write_under_way = false;
  bool write_under_way_after_a_barrier = false;
  bool copy_under_way = false;
  bool a_lane_stays_away = false;
  bool a_lane_names_another_matrix = false;
  bool a_warp_does_less = false;
  bool overlapping_sums = false;
};

__device__ void write_ones(Matrix ones, const Mistakes& wrong) {
  for (int e = thread_in_block(); e < kElements; e += 128) {
    if (!wrong.leave_an_element_out || e != 777) ones[e] = kOne;
  }
}

__device__ void write_factors(Matrix left, Matrix right, const Mistakes& wrong) {
  if (wrong.show_before_writing) show_writes_to_products();
  write_ones(left, Mistakes{});
  write_ones(right, wrong);
  const bool shows = !wrong.no_show && !wrong.show_before_writing;
  if (shows && !wrong.show_after_the_barrier) show_writes_to_products();
  if (!wrong.no_barrier) __syncthreads();
  if (wrong.show_after_the_barrier) show_writes_to_products();
}

__device__ void multiply_all(Matrix left, Matrix right, Sums& sums) {
  for (uint32_t k = 0; k < 4; ++k) {
    multiply_shared<64>(descriptor_of(shared_address_of(left) + 32 * k),
                        descriptor_of(shared_address_of(right) + 32 * k), k > 0,
                        Factor::kFloat16, sums);
  }
}

__device__ void disturb(const Arguments& a, Matrix left, Matrix right, Sums& sums,
                        const Mistakes& wrong) {
  if (wrong.write_sums && thread_in_block() == 40) sums[7][3] += 1;
  if (wrong.write_under_way && thread_in_block() == 0) right[5] = kOne;
  if (wrong.write_under_way_after_a_barrier) {
    __syncthreads();
    if (thread_in_block() == 127) left[kElements - 1] = kOne;
  }
  if (wrong.copy_under_way) {
    if (thread_in_block() == 64) copy_async<16>(right, a.input, true);
    commit_copies();
    wait_for_copies(0);
  }
}

__device__ void multiply_as(Matrix left, Matrix right, Sums& sums,
                            const Mistakes& wrong) {
  if (wrong.a_lane_stays_away && thread_in_block() == 65) return;
  const bool is_other = wrong.a_lane_names_another_matrix && thread_in_block() == 65;
  multiply_all(is_other ? right : left, right, sums);
  if (wrong.overlapping_sums) {
    auto& half = reinterpret_cast<Sums&>(sums[4]);
    multiply_all(left, right, half);
  }
}

__device__ void multiply_ones(const Arguments& a, const Mistakes& wrong) {
  SwizzledSharedArrays arrays;
  Matrix left = arrays.take<Half>(kElements);
  Matrix right = arrays.take<Half>(kElements);
  write_factors(left, right, wrong);
  float room[16][4];
  Sums& sums = reinterpret_cast<Sums&>(room);
  if (!wrong.no_begin) begin_products();
  multiply_as(left, right, sums, wrong);
  if (!wrong.no_commit) commit_products();
  disturb(a, left, right, sums, wrong);
  if (!wrong.no_wait) wait_for_products(0);
  if (!wrong.no_begin_after_a_wait) begin_products();
  if (!wrong.a_warp_does_less || thread_in_block() / 32 != 2) {
    multiply_all(left, right, sums);
  }
  if (!wrong.no_commit) commit_products();
  if (!wrong.no_wait) wait_for_products(0);
  store(a, number_of_thread(a) + (wrong.no_wait ? 0 : sums[lane_of_thread() % 8][3]));
}

template <bool Mistakes::* kMistake>
__global__ void multiply_ones_with(Arguments a) {
  Mistakes wrong;
  wrong.*kMistake = a.wrong;
  multiply_ones(a, wrong);
}

// --- Sums under way ----------------------------------------------------------------

// Of two groups, the first one's sums are there when the second may be under way.
__global__ void read_the_sums_of_the_wrong_group(Arguments a) {
  SwizzledSharedArrays arrays;
  Matrix left = arrays.take<Half>(kElements);
  Matrix right = arrays.take<Half>(kElements);
  write_factors(left, right, Mistakes{});
  Sums first, second;
  begin_products();
  multiply_all(left, right, first);
  commit_products();
  multiply_all(left, right, second);
  commit_products();
  wait_for_products(1);
  const float sum = a.wrong ? second[2][1] : first[2][1];
  wait_for_products(0);
  store(a, number_of_thread(a) + sum + second[2][1] - first[2][1]);
}

// The second group adds to the first one's sums: nobody sees what those were.
__global__ void read_sums_that_a_product_adds_to(Arguments a) {
  SwizzledSharedArrays arrays;
  Matrix ones = arrays.take<Half>(kElements);
  write_factors(ones, ones, Mistakes{});
  const uint64_t descriptor = descriptor_of(shared_address_of(ones));
  Sums sums;
  begin_products();
  multiply_shared<64>(descriptor, descriptor, false, Factor::kFloat16, sums);
  commit_products();
  for (int step = 1; step < 4; ++step) {
    multiply_shared<64>(descriptor, descriptor, true, Factor::kFloat16, sums);
  }
  commit_products();
  wait_for_products(1);
  const float before = a.wrong ? sums[4][0] : 64;
  wait_for_products(0);
  store(a, number_of_thread(a) + sums[4][0] + before - 64);
}

// --- Copies and other writes -------------------------------------------------------

// Copies of the input: what the products are, nobody asks.
__device__ void multiply_copies(const Arguments& a, bool show_too_early, bool show) {
  SwizzledSharedArrays arrays;
  Matrix numbers = arrays.take<Half>(kElements);
  for (int e = 8 * thread_in_block(); e < kElements; e += 8 * 128) {
    copy_async<16>(numbers + e, a.input, true);
  }
  commit_copies();
  if (show_too_early) show_writes_to_products();
  wait_for_copies(0);
  if (show) show_writes_to_products();
  __syncthreads();
  Sums sums;
  begin_products();
  multiply_all(numbers, numbers, sums);
  commit_products();
  wait_for_products(0);
  store(a, number_of_thread(a));
}

__global__ void multiply_copies_that_are_not_shown(Arguments a) {
  multiply_copies(a, false, !a.wrong);
}

__global__ void show_copies_before_their_wait(Arguments a) {
  multiply_copies(a, true, !a.wrong);
}

__global__ void multiply_what_a_copy_is_under_way_to(Arguments a) {
  SwizzledSharedArrays arrays;
  Matrix left = arrays.take<Half>(kElements);
  Matrix right = arrays.take<Half>(kElements);
  write_factors(left, right, Mistakes{});
  __syncthreads();
  if (a.wrong && thread_in_block() == 3) copy_async<16>(left + 8, a.input, true);
  commit_copies();
  __syncthreads();
  Sums sums;
  begin_products();
  multiply_all(left, right, sums);
  commit_products();
  wait_for_products(0);
  wait_for_copies(0);
  store(a, number_of_thread(a) + sums[0][0]);
}

// --- Stages that a warpgroup consumes ----------------------------------------------

struct StageMistakes {
  bool release_before_the_wait = false;
  bool show_after_arriving = false;
  bool no_wait_for_numbers = false;
  bool a_warp_does_not_release = false;
};

// 256 threads: the first warpgroup writes what the second multiplies, three times over.
__device__ void multiply_stages(const Arguments& a, const StageMistakes& wrong) {
  SwizzledSharedArrays arrays;
  Matrix ones = arrays.take<Half>(kElements);
  auto* full = arrays.take<uint64_t>(1);
  auto* empty = arrays.take<uint64_t>(1);
  if (thread_in_block() == 0) {
    set_up(full, 128);
    set_up(empty, wrong.a_warp_does_not_release ? 3 : 4);
  }
  __syncthreads();
  float sum = 0;
  for (uint32_t round = 0; round < 3; ++round) {
    if (thread_in_block() < 128) {
      wait_for_phase(empty, 1 - round % 2);
      write_ones(ones, Mistakes{});
      if (!wrong.show_after_arriving) show_writes_to_products();
      arrive(full);
      if (wrong.show_after_arriving) show_writes_to_products();
      continue;
    }
    if (!wrong.no_wait_for_numbers) wait_for_phase(full, round % 2);
    Sums sums;
    begin_products();
    multiply_all(ones, ones, sums);
    commit_products();
    // The wait is the whole warp's: any lane may tell that it is over.
    const bool releases = lane_of_thread() == 9 && (!wrong.a_warp_does_not_release ||
                                                    thread_in_block() / 32 != 6);
    const bool too_early = wrong.release_before_the_wait && round == 1;
    if (releases && too_early) arrive(empty);
    wait_for_products(0);
    if (releases && !too_early) arrive(empty);
    sum += sums[3][2];
  }
  store(a, number_of_thread(a) + sum);
}

template <bool StageMistakes::* kMistake>
__global__ void multiply_stages_with(Arguments a) {
  StageMistakes wrong;
  wrong.*kMistake = a.wrong;
  multiply_stages(a, wrong);
}

// --- Descriptors -------------------------------------------------------------------

// What is wrong of a descriptor, as bits to flip.
template <bool kInRegisters>
__device__ void multiply_flipped(const Arguments& a, uint64_t flipped) {
  SwizzledSharedArrays arrays;
  Matrix right = arrays.take<Half>(kElements);
  arrays.take<float>(16);
  write_factors(right, right, Mistakes{});
  const uint64_t descriptor =
      descriptor_of(shared_address_of(right)) ^ (a.wrong ? flipped : 0);
  Sums sums = {};
  begin_products();
  if (kInRegisters) {
    const uint32_t left[4] = {kTwoOnes, kTwoOnes, kTwoOnes, kTwoOnes};
    multiply_registers<64>(left, descriptor, Factor::kFloat16, sums);
  } else {
    multiply_shared<64>(descriptor, descriptor, false, Factor::kFloat16, sums);
  }
  commit_products();
  wait_for_products(0);
  store(a, number_of_thread(a) + sums[1][2]);
}

template <int kBit, uint64_t kBits>
__global__ void multiply_flipped_shared(Arguments a) {
  multiply_flipped<false>(a, kBits << kBit);
}
template <int kBit, uint64_t kBits>
__global__ void multiply_flipped_registers(Arguments a) {
  multiply_flipped<true>(a, kBits << kBit);
}

// Arrays whose memory a device may put at any multiple of 128.
__global__ void multiply_what_may_be_misaligned(Arguments a) {
  SwizzledSharedArrays swizzled;
  SharedArrays others;
  Matrix ones = a.wrong ? others.take<Half>(kElements) : swizzled.take<Half>(kElements);
  write_factors(ones, ones, Mistakes{});
  Sums sums;
  begin_products();
  multiply_all(ones, ones, sums);
  commit_products();
  wait_for_products(0);
  store(a, number_of_thread(a) + sums[0][0]);
}

}  // namespace

const std::vector<Entry>& warpgroup_entries() {
  static const std::vector<Entry> entries = {
      {"multiply_what_nothing_wrote",
       multiply_ones_with<&Mistakes::leave_an_element_out>},
      {"multiply_without_a_barrier", multiply_ones_with<&Mistakes::no_barrier>},
      {"multiply_what_is_not_shown", multiply_ones_with<&Mistakes::no_show>},
      {"show_before_writing", multiply_ones_with<&Mistakes::show_before_writing>},
      {"show_after_the_barrier", multiply_ones_with<&Mistakes::show_after_the_barrier>},
      {"multiply_without_begin", multiply_ones_with<&Mistakes::no_begin>},
      {"multiply_without_begin_after_a_wait",
       multiply_ones_with<&Mistakes::no_begin_after_a_wait>},
      {"never_commit_products", multiply_ones_with<&Mistakes::no_commit>},
      {"never_wait_for_products", multiply_ones_with<&Mistakes::no_wait>},
      {"write_sums_before_the_wait", multiply_ones_with<&Mistakes::write_sums>},
      {"write_what_a_product_reads", multiply_ones_with<&Mistakes::write_under_way>},
      {"write_what_a_product_reads_after_a_barrier",
       multiply_ones_with<&Mistakes::write_under_way_after_a_barrier>},
      {"copy_to_what_a_product_reads", multiply_ones_with<&Mistakes::copy_under_way>},
      {"multiply_without_a_lane_of_the_group",
       multiply_ones_with<&Mistakes::a_lane_stays_away>},
      {"multiply_two_matrices_at_once",
       multiply_ones_with<&Mistakes::a_lane_names_another_matrix>},
      {"multiply_less_in_one_warp", multiply_ones_with<&Mistakes::a_warp_does_less>},
      {"multiply_to_overlapping_sums", multiply_ones_with<&Mistakes::overlapping_sums>},
      {"read_the_sums_of_the_wrong_group", read_the_sums_of_the_wrong_group},
      {"read_sums_that_a_product_adds_to", read_sums_that_a_product_adds_to},
      {"multiply_copies_that_are_not_shown", multiply_copies_that_are_not_shown},
      {"show_copies_before_their_wait", show_copies_before_their_wait},
      {"multiply_what_a_copy_is_under_way_to", multiply_what_a_copy_is_under_way_to},
      {"release_before_the_wait",
       multiply_stages_with<&StageMistakes::release_before_the_wait>},
      {"show_after_arriving",
       multiply_stages_with<&StageMistakes::show_after_arriving>},
      {"multiply_before_a_phase_has_ended",
       multiply_stages_with<&StageMistakes::no_wait_for_numbers>},
      {"write_what_a_warp_has_not_released",
       multiply_stages_with<&StageMistakes::a_warp_does_not_release>},
      {"multiply_with_no_swizzle", multiply_flipped_shared<62, 1>},
      {"multiply_with_a_base_offset", multiply_flipped_shared<49, 1>},
      {"multiply_with_unused_bits", multiply_flipped_registers<30, 1>},
      {"multiply_from_within_eight_rows", multiply_flipped_shared<0, 128 / 16>},
      {"multiply_from_the_middle_of_a_step", multiply_flipped_shared<0, 1>},
      {"multiply_from_the_middle_of_a_row", multiply_flipped_registers<0, 2>},
      {"multiply_with_an_uneven_stride", multiply_flipped_shared<32, 8>},
      {"multiply_beyond_an_array", multiply_flipped_shared<0, 4096 / 16>},
      {"multiply_beyond_all_arrays", multiply_flipped_registers<0, 16384 / 16>},
      {"multiply_numbers_of_another_size", multiply_flipped_registers<0, 8192 / 16>},
      {"multiply_what_may_be_misaligned", multiply_what_may_be_misaligned},
  };
  return entries;
}

}  // namespace planted
