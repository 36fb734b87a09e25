// Kernels of asynchronous copies and matrix products with one fault each, and the same
// kernels without it.
//
// They take the arguments of those in planted_faults.cu, and 2048 bytes of shared
// memory for 128 threads.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "emulation/instructions.h"
#include "planted_faults.h"

namespace planted {
namespace {

using namespace emulator;
using Float16 = __half;
using BFloat16 = __nv_bfloat16;

__device__ int threads_of_block() { return static_cast<int>(blockDim.x); }
__device__ int thread_in_block() { return static_cast<int>(threadIdx.x); }
__device__ int first_of_block() {
  return static_cast<int>(blockIdx.x) * threads_of_block();
}
__device__ int thread_in_grid() { return first_of_block() + thread_in_block(); }
__device__ int lane_of_thread() { return thread_in_block() % warpSize; }

constexpr Factor factor_of(Float16) { return Factor::kFloat16; }
constexpr Factor factor_of(BFloat16) { return Factor::kBFloat16; }

// --- Asynchronous copies -----------------------------------------------------------

// Each array holds a number for every thread; the first quarter of them copy four each.
__device__ SharedElement<float>* take_numbers(SharedArrays* arrays) {
  return arrays->take<float>(threads_of_block());
}

__device__ bool copies() { return thread_in_block() < threads_of_block() / 4; }

__device__ void copy_numbers(const Arguments& a, SharedElement<float>* numbers) {
  const int first = 4 * thread_in_block();
  if (copies())
    copy_async<16>(numbers + first, a.input + first_of_block() + first, true);
  commit_copies();
}

__device__ void store_reversed(const Arguments& a,
                               const SharedElement<float>* numbers) {
  const int last = threads_of_block() - 1;
  __stcs(a.output + thread_in_grid(), numbers[last - thread_in_block()]);
}

__global__ void read_before_the_wait(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  copy_numbers(a, numbers);
  if (!a.wrong) wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
  wait_for_copies(0);
}

__global__ void write_before_the_wait(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  copy_numbers(a, numbers);
  if (!a.wrong) wait_for_copies(0);
  __syncthreads();
  numbers[thread_in_block()] = __ldg(a.input + thread_in_grid());
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

__global__ void copy_twice_to_one_place(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  copy_numbers(a, numbers);
  if (!a.wrong) wait_for_copies(0);
  copy_numbers(a, numbers);
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

// When the latest of two groups may be under way, the first has arrived.
__global__ void wait_for_the_wrong_group(Arguments a) {
  SharedArrays arrays;
  auto* first = take_numbers(&arrays);
  auto* second = take_numbers(&arrays);
  copy_numbers(a, first);
  copy_numbers(a, second);
  wait_for_copies(1);
  __syncthreads();
  store_reversed(a, a.wrong ? second : first);
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, second);
}

// A copy that no group holds is one that no wait ends.
__global__ void wait_without_a_group(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  const int first = 4 * thread_in_block();
  if (copies())
    copy_async<16>(numbers + first, a.input + first_of_block() + first, true);
  if (!a.wrong) commit_copies();
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

__global__ void wait_without_a_barrier(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  numbers[thread_in_block()] = 0.0f;
  __syncthreads();
  copy_numbers(a, numbers);
  wait_for_copies(0);
  if (!a.wrong) __syncthreads();
  store_reversed(a, numbers);
}

// Of the second round's copies the first round's readers know nothing.
__global__ void copy_over_what_is_read(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  for (int round = 0; round < 2; ++round) {
    copy_numbers(a, numbers);
    wait_for_copies(0);
    __syncthreads();
    store_reversed(a, numbers);
    if (!a.wrong) __syncthreads();
  }
}

__global__ void never_wait_for_a_copy(Arguments a) {
  SharedArrays arrays;
  copy_numbers(a, take_numbers(&arrays));
  if (!a.wrong) wait_for_copies(0);
  __stcs(a.output + thread_in_grid(), __ldg(a.input + thread_in_grid()));
}

__global__ void copy_to_a_misaligned_place(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  const int to = a.wrong ? thread_in_block() : 4 * thread_in_block();
  if (copies()) {
    copy_async<16>(numbers + to, a.input + first_of_block() + 4 * thread_in_block(),
                   true);
  }
  commit_copies();
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

__global__ void copy_from_a_misaligned_address(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  const int from = first_of_block() + 4 * thread_in_block();
  if (copies()) {
    copy_async<16>(numbers + 4 * thread_in_block(),
                   a.input + (a.wrong ? min(from + 1, a.count - 4) : from), true);
  }
  commit_copies();
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

__global__ void copy_beyond_an_array(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  const int first = 4 * thread_in_block();
  if (copies() || (a.wrong && first == threads_of_block())) {
    copy_async<16>(numbers + first,
                   a.input + first_of_block() + first % threads_of_block(), true);
  }
  commit_copies();
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

__global__ void copy_what_the_launch_wrote(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  __stcg(a.scratch + thread_in_grid(), __ldg(a.input + thread_in_grid()));
  __syncthreads();
  Arguments of_copy = a;
  if (a.wrong) of_copy.input = a.scratch;
  copy_numbers(of_copy, numbers);
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

// Numbers from the next block on, and zeros where there is none.
__global__ void copy_what_is_not_there(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  const int from = first_of_block() + threads_of_block() + 4 * thread_in_block();
  if (copies()) {
    copy_async<16>(numbers + 4 * thread_in_block(), a.input + from,
                   a.wrong || from < a.count);
  }
  commit_copies();
  wait_for_copies(0);
  __syncthreads();
  store_reversed(a, numbers);
}

// --- Sums that warps exchange --------------------------------------------------------

// In two rounds every lane gives each warp its number, and adds up what the same lanes
// gave to its own warp.
__device__ void add_up_what_warps_give(const Arguments& a, bool wait_for_numbers,
                                       bool wait_for_readers) {
  SharedArrays arrays;
  const int warps = threads_of_block() / warpSize;
  auto* given = arrays.take<float>(warps * threads_of_block());
  const int own = thread_in_block() / warpSize * threads_of_block();
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    if (round > 0 && wait_for_readers) __syncthreads();
    for (int to = 0; to < warps; ++to) {
      given[to * threads_of_block() + thread_in_block()] =
          __ldg(a.input + thread_in_grid());
    }
    if (wait_for_numbers) __syncthreads();
    for (int from = 0; from < warps; ++from) {
      sum += given[own + from * warpSize + lane_of_thread()];
    }
  }
  __stcs(a.output + thread_in_grid(), sum);
}

__global__ void add_up_before_all_have_given(Arguments a) {
  add_up_what_warps_give(a, !a.wrong, true);
}

__global__ void give_before_all_have_added_up(Arguments a) {
  add_up_what_warps_give(a, true, !a.wrong);
}

// --- Arrays ------------------------------------------------------------------------

__global__ void take_arrays_in_another_order(Arguments a) {
  SharedArrays arrays;
  const bool other_order = a.wrong && thread_in_block() == 5;
  if (other_order) arrays.take<double>(1);
  auto* numbers = take_numbers(&arrays);
  if (!other_order) arrays.take<double>(1);
  numbers[thread_in_block()] = __ldg(a.input + thread_in_grid());
  __syncthreads();
  store_reversed(a, numbers);
}

// The second array starts behind the first, at a multiple of 128 bytes.
__global__ void take_more_than_the_launch_asked_for(Arguments a) {
  SharedArrays arrays;
  arrays.take<char>(1);
  auto* numbers = arrays.take<float>(a.wrong ? 481 : 480);
  numbers[thread_in_block()] = __ldg(a.input + thread_in_grid());
  __syncthreads();
  store_reversed(a, numbers);
}

__global__ void read_beyond_an_array(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  numbers[thread_in_block()] = __ldg(a.input + thread_in_grid());
  __syncthreads();
  const int last = threads_of_block() - (a.wrong ? 0 : 1);
  __stcs(a.output + thread_in_grid(), numbers[last - thread_in_block()]);
}

__global__ void write_before_an_array(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  numbers[thread_in_block()] = __ldg(a.input + thread_in_grid());
  if (a.wrong && thread_in_block() == 0) numbers[-1] = 0.0f;
  __syncthreads();
  store_reversed(a, numbers);
}

// A pair of neighbours that starts at an odd number is none that one load can read.
__global__ void read_a_misaligned_pair(Arguments a) {
  SharedArrays arrays;
  auto* numbers = take_numbers(&arrays);
  numbers[thread_in_block()] = __ldg(a.input + thread_in_grid());
  __syncwarp();
  const bool wrong = a.wrong && thread_in_block() >= 2;
  const auto* pair = numbers + (thread_in_block() / 2 * 2 - (wrong ? 1 : 0));
  check_shared_access("read of", pair, 8);
  __stcs(a.output + thread_in_grid(), pair[thread_in_block() % 2]);
}

// --- Matrices of a warp ------------------------------------------------------------

// A row of 8 elements for each thread: of a matrix's 64 places, each holds its number.
__device__ SharedElement<Float16>* take_rows(SharedArrays* arrays) {
  return arrays->take<Float16>(8 * threads_of_block());
}

__device__ void write_row(SharedElement<Float16>* rows) {
  for (int e = 0; e < 8; ++e) {
    const int place = 8 * (thread_in_block() % 8) + e;
    rows[8 * thread_in_block() + e] = Float16{static_cast<uint16_t>(place)};
  }
}

__device__ void store_with(const Arguments& a, uint32_t matrix) {
  __stcs(a.output + thread_in_grid(),
         __ldg(a.input + thread_in_grid()) + static_cast<float>(matrix & 0xffffu));
}

__global__ void load_unwritten_matrices(Arguments a) {
  SharedArrays arrays;
  auto* rows = take_rows(&arrays);
  if (!a.wrong || lane_of_thread() != 3) write_row(rows);
  __syncwarp();
  uint32_t matrices[4];
  load_matrices<Float16>(rows + 8 * thread_in_block(), matrices);
  store_with(a, matrices[0]);
}

// Lanes give the addresses of rows that their neighbours wrote.
__global__ void load_matrices_without_a_barrier(Arguments a) {
  SharedArrays arrays;
  auto* rows = take_rows(&arrays);
  write_row(rows);
  __syncwarp();
  write_row(rows);
  if (!a.wrong) __syncwarp();
  uint32_t matrices[4];
  load_transposed<Float16>(rows + 8 * (thread_in_block() ^ 8), matrices);
  store_with(a, matrices[3]);
}

__global__ void load_a_misaligned_row(Arguments a) {
  SharedArrays arrays;
  auto* rows = take_rows(&arrays);
  write_row(rows);
  __syncthreads();
  const int apart = a.wrong && thread_in_block() == 9 ? 4 : 0;
  uint32_t matrices[4];
  load_matrices<Float16>(rows + 8 * thread_in_block() + apart, matrices);
  store_with(a, matrices[1]);
}

__global__ void load_a_row_beyond_an_array(Arguments a) {
  SharedArrays arrays;
  auto* rows = take_rows(&arrays);
  write_row(rows);
  __syncthreads();
  const int beyond = a.wrong && thread_in_block() == threads_of_block() - 1 ? 8 : 0;
  uint32_t matrices[4];
  load_matrices<Float16>(rows + 8 * thread_in_block() + beyond, matrices);
  store_with(a, matrices[2]);
}

// Rows in an array that the kernel declares: nothing says that a device aligns it.
__global__ void load_matrices_from_a_declared_array(Arguments a) {
  __shared__ SharedElement<Float16> declared[8 * 1024];
  SharedArrays arrays;
  auto* rows = take_rows(&arrays);
  write_row(declared);
  write_row(rows);
  __syncthreads();
  uint32_t matrices[4];
  load_matrices<Float16>((a.wrong ? declared : rows) + 8 * thread_in_block(), matrices);
  store_with(a, matrices[0]);
}

template <typename Element>
__device__ float sum_of_ones(bool takes_part, uint32_t two_ones) {
  const uint32_t left[4] = {two_ones, two_ones, two_ones, two_ones};
  float sums[4] = {};
  if (takes_part)
    multiply_matrices(left, two_ones, two_ones, factor_of(Element{}), sums);
  return sums[0];
}

// 16 products of ones.
__global__ void multiply_without_a_lane(Arguments a) {
  const bool takes_part = !a.wrong || lane_of_thread() != 31;
  const float sum = sum_of_ones<Float16>(takes_part, 0x3c003c00u);
  __stcs(a.output + thread_in_grid(), __ldg(a.input + thread_in_grid()) + sum);
}

// One half of the warp takes its numbers for those of another type.
__global__ void multiply_two_types_at_once(Arguments a) {
  const float sum = a.wrong && lane_of_thread() < 16
                        ? sum_of_ones<Float16>(true, 0x3c003c00u)
                        : sum_of_ones<BFloat16>(true, 0x3f803f80u);
  __stcs(a.output + thread_in_grid(), __ldg(a.input + thread_in_grid()) + sum);
}

// --- A product of matrices ---------------------------------------------------------

constexpr int kSize = 16;

// `numbers` are rows of 16 elements; in shared memory one starts every kStride
// elements.
template <typename Element, int kStride>
__device__ void copy_matrix(const Element* numbers, SharedElement<Element>* matrix) {
  const int row = lane_of_thread() / 2;
  const int column = 8 * (lane_of_thread() % 2);
  copy_async<16>(matrix + row * kStride + column, numbers + row * kSize + column, true);
}

// In the output, of a lane's sums in the left or the right half of its columns.
__device__ int place_of_sum(int half, int sum) {
  const int row = lane_of_thread() / 4 + sum / 2 * 8;
  const int column = 8 * half + 2 * (lane_of_thread() % 4) + sum % 2;
  return row * kSize + column;
}

// One warp's product of two matrices of 16 x 16 elements that the input holds one
// behind the other. The right one lies there as it is, or transposed. Each sum starts
// from its place in the output.
template <typename Element, int kStride, bool kTransposed>
__device__ void multiply_tiles(const Arguments& a) {
  const auto* numbers = reinterpret_cast<const Element*>(a.input);
  SharedArrays arrays;
  auto* left = arrays.take<Element>(kSize * kStride);
  auto* right = arrays.take<Element>(kSize * kStride);
  copy_matrix<Element, kStride>(numbers, left);
  copy_matrix<Element, kStride>(numbers + kSize * kSize, right);
  commit_copies();
  wait_for_copies(0);
  __syncwarp();

  const int lane = lane_of_thread();
  uint32_t of_left[4];
  uint32_t of_right[4];  // two for each half of the columns
  load_matrices<Element>(left + lane % 16 * kStride + lane / 16 * 8, of_left);
  if (kTransposed) {
    load_matrices<Element>(
        right + (lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8, of_right);
  } else {
    load_transposed<Element>(right + lane % 16 * kStride + lane / 16 * 8, of_right);
  }
  for (int half = 0; half < 2; ++half) {
    float sums[4];
    for (int sum = 0; sum < 4; ++sum) {
      sums[sum] = static_cast<float>(place_of_sum(half, sum));
    }
    multiply_matrices(of_left, of_right[2 * half], of_right[2 * half + 1],
                      factor_of(Element{}), sums);
    for (int sum = 0; sum < 4; ++sum) {
      __stcs(a.output + place_of_sum(half, sum), sums[sum]);
    }
  }
}

// Rows three times 16 bytes apart lie in different banks.
constexpr int kApart = 24;

template <typename Element, bool kTransposed>
__global__ void multiply_matrices_of(Arguments a) {
  multiply_tiles<Element, kApart, kTransposed>(a);
}

// Rows 128 bytes apart lie in the same banks.
__global__ void load_rows_from_the_same_banks(Arguments a) {
  if (a.wrong) {
    multiply_tiles<Float16, 64, false>(a);
  } else {
    multiply_tiles<Float16, kApart, false>(a);
  }
}

// All lanes name one row: what is read once is handed to all.
__global__ void load_one_row_for_all(Arguments a) {
  SharedArrays arrays;
  auto* rows = take_rows(&arrays);
  write_row(rows);
  __syncwarp();
  uint32_t matrices[4];
  load_matrices<Float16>(rows + thread_in_block() / 32 * 256, matrices);
  store_with(a, matrices[0]);
}

// Eight lanes' packets side by side, or 128 bytes apart.
__global__ void write_packets_to_the_same_banks(Arguments a) {
  SharedArrays arrays;
  auto* numbers = arrays.take<float>(512);
  const int lane = thread_in_block() % 32;
  auto* of_warp = numbers + thread_in_block() / 32 * 256;
  auto* packet = of_warp + (a.wrong ? lane % 8 * 32 + lane / 8 * 4 : lane * 4);
  const float number = __ldg(a.input + thread_in_grid());
  const float values[4] = {number, number, number, number};
  write_together(values, packet);
  __syncwarp();
  __stcs(a.output + thread_in_grid(), packet[0]);
}

// As many numbers as the launch has room for: `repeats`.
__global__ void take_much_shared_memory(Arguments a) {
  SharedArrays arrays;
  auto* numbers = arrays.take<float>(a.repeats);
  numbers[a.repeats - 1 - thread_in_block()] = __ldg(a.input + thread_in_grid());
  __syncthreads();
  __stcs(a.output + thread_in_grid(), numbers[a.repeats - 1 - thread_in_block()]);
}

__global__ void multiply_many_times(Arguments a) {
  float sum = 0.0f;
  for (int repeat = 0; repeat < a.repeats; ++repeat) {
    sum += sum_of_ones<Float16>(true, 0x3c003c00u);
  }
  __stcs(a.output + thread_in_grid(), sum);
}

__global__ void load_matrices_many_times(Arguments a) {
  SharedArrays arrays;
  auto* rows = take_rows(&arrays);
  write_row(rows);
  __syncwarp();
  uint32_t matrices[4] = {};
  for (int repeat = 0; repeat < a.repeats; ++repeat) {
    load_matrices<Float16>(rows + 8 * thread_in_block(), matrices);
  }
  store_with(a, matrices[0]);
}

}  // namespace

const std::vector<Entry>& tile_entries() {
  static const std::vector<Entry> entries = {
      {"read_before_the_wait", read_before_the_wait},
      {"write_before_the_wait", write_before_the_wait},
      {"copy_twice_to_one_place", copy_twice_to_one_place},
      {"wait_for_the_wrong_group", wait_for_the_wrong_group},
      {"wait_without_a_group", wait_without_a_group},
      {"wait_without_a_barrier", wait_without_a_barrier},
      {"copy_over_what_is_read", copy_over_what_is_read},
      {"never_wait_for_a_copy", never_wait_for_a_copy},
      {"copy_to_a_misaligned_place", copy_to_a_misaligned_place},
      {"copy_from_a_misaligned_address", copy_from_a_misaligned_address},
      {"copy_beyond_an_array", copy_beyond_an_array},
      {"copy_what_the_launch_wrote", copy_what_the_launch_wrote},
      {"copy_what_is_not_there", copy_what_is_not_there},
      {"add_up_before_all_have_given", add_up_before_all_have_given},
      {"give_before_all_have_added_up", give_before_all_have_added_up},
      {"take_arrays_in_another_order", take_arrays_in_another_order},
      {"take_more_than_the_launch_asked_for", take_more_than_the_launch_asked_for},
      {"read_beyond_an_array", read_beyond_an_array},
      {"write_before_an_array", write_before_an_array},
      {"read_a_misaligned_pair", read_a_misaligned_pair},
      {"load_unwritten_matrices", load_unwritten_matrices},
      {"load_matrices_without_a_barrier", load_matrices_without_a_barrier},
      {"load_a_misaligned_row", load_a_misaligned_row},
      {"load_a_row_beyond_an_array", load_a_row_beyond_an_array},
      {"load_matrices_from_a_declared_array", load_matrices_from_a_declared_array},
      {"multiply_without_a_lane", multiply_without_a_lane},
      {"multiply_two_types_at_once", multiply_two_types_at_once},
      {"multiply_float16", multiply_matrices_of<Float16, false>},
      {"multiply_float16_transposed", multiply_matrices_of<Float16, true>},
      {"multiply_bfloat16", multiply_matrices_of<BFloat16, false>},
      {"multiply_bfloat16_transposed", multiply_matrices_of<BFloat16, true>},
      {"load_rows_from_the_same_banks", load_rows_from_the_same_banks},
      {"load_one_row_for_all", load_one_row_for_all},
      {"write_packets_to_the_same_banks", write_packets_to_the_same_banks},
      {"take_much_shared_memory", take_much_shared_memory},
      {"multiply_many_times", multiply_many_times},
      {"load_matrices_many_times", load_matrices_many_times},
  };
  return entries;
}

}  // namespace planted
