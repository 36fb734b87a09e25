// Kernels with one fault each, and the same kernels without it: the emulator's own
// test.
//
// Each takes the same arguments, writes all `count` outputs, and commits its fault only
// where it is told to.
#include <cuda_runtime.h>

#include "planted_faults.h"

namespace planted {
namespace {

template <typename T>
using Shared = emulator::SharedElement<T>;

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kMaxThreads = 1024;

__device__ int thread_in_grid() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}
__device__ int thread_in_block() { return static_cast<int>(threadIdx.x); }
__device__ int lane() { return static_cast<int>(threadIdx.x) % warpSize; }

__device__ const float4* as_vectors(const float* numbers) {
  return reinterpret_cast<const float4*>(numbers);
}

// --- Global memory -----------------------------------------------------------------

__global__ void read_out_of_bounds(Arguments a) {
  const int i = thread_in_grid();
  const int next = a.wrong ? i + 1 : min(i + 1, a.count - 1);
  __stcs(a.output + i, __ldg(a.input + next));
}

__global__ void read_before_the_start(Arguments a) {
  const int i = thread_in_grid();
  const int previous = a.wrong ? i - 1 : max(i - 1, 0);
  __stcs(a.output + i, __ldg(a.input + previous));
}

// The last block has more threads than there are numbers.
__global__ void write_out_of_bounds(Arguments a) {
  const int i = thread_in_grid();
  const float value = __ldg(a.input + min(i, a.count - 1));
  if (a.wrong || i < a.count) __stcs(a.output + i, value);
}

__global__ void load_a_misaligned_vector(Arguments a) {
  const int i = thread_in_grid();
  const int first = a.wrong ? min(i, a.count - 4) : i / 4 * 4;
  const float4 four = __ldg(as_vectors(a.input + first));
  __stcs(a.output + i, four.x + four.y + four.z + four.w);
}

__global__ void read_uninitialised_memory(Arguments a) {
  const int i = thread_in_grid();
  if (!a.wrong) __stcg(a.scratch + i, __ldg(a.input + i));
  __stcs(a.output + i, __ldcg(a.scratch + i));
}

__global__ void read_own_writes_through_the_constant_cache(Arguments a) {
  const int i = thread_in_grid();
  __stcg(a.scratch + i, __ldg(a.input + i));
  __stcs(a.output + i, a.wrong ? __ldg(a.scratch + i) : __ldcg(a.scratch + i));
}

// The host's pointer in place of a device's.
__global__ void read_host_memory(Arguments a) {
  const float of_the_host = 1.0f;
  const int i = thread_in_grid();
  __stcs(a.output + i, __ldg(a.wrong ? &of_the_host : a.input + i));
}

// Around the emulator's checks, as a kernel must not go.
__global__ void dereference(Arguments a) {
  a.output[thread_in_grid()] = a.input[thread_in_grid()];
}

// --- Warps -------------------------------------------------------------------------

// The first half of the warp exchanges with its neighbours, or with the other half.
__global__ void shuffle_from_an_inactive_lane(Arguments a) {
  const int i = thread_in_grid();
  float value = __ldg(a.input + i);
  if (lane() < 16) value = __shfl_xor_sync(0x0000ffffu, value, a.wrong ? 16 : 1);
  __stcs(a.output + i, value);
}

__global__ void shuffle_with_a_lane_missing_from_the_mask(Arguments a) {
  const int i = thread_in_grid();
  const unsigned mask = a.wrong ? 0xfffffffeu : kAllLanes;
  __stcs(a.output + i, __shfl_xor_sync(mask, __ldg(a.input + i), 1));
}

__global__ void shuffle_with_a_lane_that_has_exited(Arguments a) {
  const int i = thread_in_grid();
  const float value = __ldg(a.input + i);
  if (a.wrong && lane() == 31) return;
  __stcs(a.output + i, __shfl_xor_sync(kAllLanes, value, 1));
}

// Half the warp votes first and then exchanges, the other half the other way round.
__global__ void wait_at_different_collectives(Arguments a) {
  const int i = thread_in_grid();
  float value = __ldg(a.input + i);
  const bool vote_first = !a.wrong || lane() < 16;
  if (vote_first) __ballot_sync(kAllLanes, 1);
  value = __shfl_down_sync(kAllLanes, value, 1);
  if (!vote_first) __ballot_sync(kAllLanes, 1);
  __stcs(a.output + i, value);
}

// --- Shared memory and barriers ----------------------------------------------------

__global__ void read_unwritten_shared_memory(Arguments a) {
  __shared__ Shared<float> numbers[kMaxThreads];
  const int i = thread_in_grid();
  const int last = static_cast<int>(blockDim.x) - 1;
  if (!a.wrong || thread_in_block() != 0) {
    numbers[thread_in_block()] = __ldg(a.input + i);
  }
  __syncthreads();
  __stcs(a.output + i, numbers[last - thread_in_block()]);
}

__global__ void read_without_a_barrier(Arguments a) {
  __shared__ Shared<float> numbers[kMaxThreads];
  const int i = thread_in_grid();
  const int last = static_cast<int>(blockDim.x) - 1;
  numbers[thread_in_block()] = __ldg(a.input + i);
  __syncthreads();
  numbers[thread_in_block()] += 1.0f;
  if (!a.wrong) __syncthreads();
  __stcs(a.output + i, numbers[last - thread_in_block()]);
}

// The first round's numbers are still being read when the second's are written.
__global__ void overwrite_without_a_barrier(Arguments a) {
  __shared__ Shared<float> numbers[kMaxThreads];
  const int i = thread_in_grid();
  const int last = static_cast<int>(blockDim.x) - 1;
  float sum = 0.0f;
  for (int round = 0; round < 2; ++round) {
    numbers[thread_in_block()] = __ldg(a.input + i);
    __syncthreads();
    sum += numbers[last - thread_in_block()];
    if (!a.wrong) __syncthreads();
  }
  __stcs(a.output + i, sum);
}

// Neighbours of one warp exchange: for them __syncwarp is enough.
__global__ void exchange_without_a_warp_barrier(Arguments a) {
  __shared__ Shared<float> numbers[kMaxThreads];
  const int i = thread_in_grid();
  numbers[thread_in_block()] = __ldg(a.input + i);
  __syncwarp();
  numbers[thread_in_block()] += 1.0f;
  if (!a.wrong) __syncwarp();
  __stcs(a.output + i, numbers[thread_in_block() ^ 1]);
}

// For threads of different warps __syncwarp is not enough.
__global__ void take_a_warp_barrier_for_the_blocks(Arguments a) {
  __shared__ Shared<float> numbers[kMaxThreads];
  const int i = thread_in_grid();
  const int last = static_cast<int>(blockDim.x) - 1;
  numbers[thread_in_block()] = __ldg(a.input + i);
  __syncthreads();
  numbers[thread_in_block()] += 1.0f;
  __syncwarp();
  if (!a.wrong) __syncthreads();
  __stcs(a.output + i, numbers[last - thread_in_block()]);
}

__global__ void return_before_the_barrier(Arguments a) {
  const int i = thread_in_grid();
  __stcs(a.output + i, __ldg(a.input + i));
  if (a.wrong && thread_in_block() == 5) return;
  __syncthreads();
}

__global__ void wait_at_barrier_and_shuffle(Arguments a) {
  const int i = thread_in_grid();
  float value = __ldg(a.input + i);
  if (a.wrong && lane() == 7) __syncthreads();
  value = __shfl_xor_sync(kAllLanes, value, 1);
  if (!a.wrong || lane() != 7) __syncthreads();
  __stcs(a.output + i, value);
}

// --- Order -------------------------------------------------------------------------

__device__ float sum_of_warp(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

// Adds the warps' sums in the order of the warps, or in that of their arrival.
__global__ void add_in_the_order_of_arrival(Arguments a) {
  __shared__ Shared<float> sums[kMaxThreads / 32];
  const int i = thread_in_grid();
  const int warps = static_cast<int>(blockDim.x) / warpSize;
  const float sum = sum_of_warp(__ldg(a.input + i));
  if (lane() == 0) {
    const int place = a.wrong ? static_cast<int>(atomicAdd(a.ticket, 1u)) % warps
                              : thread_in_block() / warpSize;
    sums[place] = sum;
  }
  __syncthreads();
  float total = 0.0f;
  for (int warp = 0; warp < warps; ++warp) total += sums[warp];
  __stcs(a.output + i, total);
}

// Each block's number, or the block's place in the order of arrival.
__global__ void number_blocks_in_the_order_of_arrival(Arguments a) {
  __shared__ Shared<unsigned> number[1];
  if (thread_in_block() == 0) {
    const unsigned arrival = atomicAdd(a.ticket, 1u);
    number[0] = a.wrong ? arrival : blockIdx.x;
  }
  __syncthreads();
  __stcs(a.output + thread_in_grid(), number[0]);
}

// --- Traffic -----------------------------------------------------------------------

__global__ void copy_and_read_twice(Arguments a) {
  const int i = thread_in_grid();
  float value = __ldg(a.input + i);
  if (a.wrong) value = 0.5f * (value + __ldg(a.input + i));
  __stcs(a.output + i, value);
}

// Neighbouring lanes read neighbours, or numbers that are 8 apart: one sector each.
__global__ void copy_with_a_stride(Arguments a) {
  const int i = thread_in_grid();
  const int apart = i * 8 % a.count + i * 8 / a.count;
  const int from = a.wrong ? apart : i;
  __stcs(a.output + from, __ldg(a.input + from));
}

// A quarter of the threads copies four numbers each.
__global__ void copy_vectors(Arguments a) {
  const int i = thread_in_grid();
  if (i >= a.count / 4) return;
  __stcs(reinterpret_cast<float4*>(a.output) + i, __ldg(as_vectors(a.input) + i));
}

// Loops, halves of warps, and as many atomics as threads.
__global__ void copy_in_a_loop(Arguments a) {
  const int threads = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = thread_in_grid(); i < a.count; i += threads) {
    __stcs(a.output + i, __ldg(a.input + i));
  }
  atomicAdd(a.ticket, 1u);
}

// --- Collectives, and the emulator's speed -----------------------------------------

// Each of twelve lines of `count` / 12 outputs holds what one collective gave.
__global__ void use_every_collective(Arguments a) {
  const int i = thread_in_grid();
  const float value = __ldg(a.input + i);
  const int number = static_cast<int>(value);
  const double results[] = {
      __shfl_sync(kAllLanes, value, 3),
      __shfl_sync(kAllLanes, static_cast<double>(value), lane() + 1, 8),
      static_cast<double>(__shfl_xor_sync(kAllLanes, number, 5)),
      static_cast<double>(
          __shfl_xor_sync(kAllLanes, static_cast<unsigned>(number), 12, 8)),
      static_cast<double>(
          __shfl_down_sync(kAllLanes, static_cast<long long>(number), 2)),
      __shfl_down_sync(kAllLanes, value, 3, 16),
      static_cast<double>(
          __shfl_up_sync(kAllLanes, static_cast<unsigned long long>(number), 2)),
      __shfl_up_sync(kAllLanes, value, 3, 4),
      static_cast<double>(__popc(__ballot_sync(kAllLanes, number % 3 == 0))),
      static_cast<double>(__any_sync(kAllLanes, number == 40)),
      static_cast<double>(__all_sync(kAllLanes, number >= 32)),
      static_cast<double>(
          __ffs(static_cast<int>(__match_any_sync(kAllLanes, number % 7)))),
  };
  const int threads = static_cast<int>(gridDim.x * blockDim.x);
  for (int line = 0; line < 12; ++line) {
    __stcs(a.output + line * threads + i, static_cast<float>(results[line]));
  }
}

__global__ void shuffle_many_times(Arguments a) {
  const int i = thread_in_grid();
  float value = __ldg(a.input + i);
  for (int repeat = 0; repeat < a.repeats; ++repeat) {
    value = __shfl_xor_sync(kAllLanes, value, 1);
  }
  __stcs(a.output + i, value);
}

__global__ void read_many_times(Arguments a) {
  const int i = thread_in_grid();
  float value = 0.0f;
  for (int repeat = 0; repeat < a.repeats; ++repeat) {
    value = max(value, __ldg(a.input + (i + repeat) % a.count));
  }
  __stcs(a.output + i, value);
}

constexpr Entry kEntries[] = {
    {"read_out_of_bounds", read_out_of_bounds},
    {"read_before_the_start", read_before_the_start},
    {"write_out_of_bounds", write_out_of_bounds},
    {"load_a_misaligned_vector", load_a_misaligned_vector},
    {"read_uninitialised_memory", read_uninitialised_memory},
    {"read_own_writes_through_the_constant_cache",
     read_own_writes_through_the_constant_cache},
    {"read_host_memory", read_host_memory},
    {"dereference", dereference},
    {"shuffle_from_an_inactive_lane", shuffle_from_an_inactive_lane},
    {"shuffle_with_a_lane_missing_from_the_mask",
     shuffle_with_a_lane_missing_from_the_mask},
    {"shuffle_with_a_lane_that_has_exited", shuffle_with_a_lane_that_has_exited},
    {"wait_at_different_collectives", wait_at_different_collectives},
    {"read_unwritten_shared_memory", read_unwritten_shared_memory},
    {"read_without_a_barrier", read_without_a_barrier},
    {"overwrite_without_a_barrier", overwrite_without_a_barrier},
    {"exchange_without_a_warp_barrier", exchange_without_a_warp_barrier},
    {"take_a_warp_barrier_for_the_blocks", take_a_warp_barrier_for_the_blocks},
    {"return_before_the_barrier", return_before_the_barrier},
    {"wait_at_barrier_and_shuffle", wait_at_barrier_and_shuffle},
    {"add_in_the_order_of_arrival", add_in_the_order_of_arrival},
    {"number_blocks_in_the_order_of_arrival", number_blocks_in_the_order_of_arrival},
    {"copy_and_read_twice", copy_and_read_twice},
    {"copy_with_a_stride", copy_with_a_stride},
    {"copy_vectors", copy_vectors},
    {"copy_in_a_loop", copy_in_a_loop},
    {"use_every_collective", use_every_collective},
    {"shuffle_many_times", shuffle_many_times},
    {"read_many_times", read_many_times},
};

std::vector<Entry> all_entries() {
  std::vector<Entry> entries(std::begin(kEntries), std::end(kEntries));
  for (const auto* others : {&tile_entries(), &barrier_entries(), &warpgroup_entries(),
                             &warpgroup_product_entries()}) {
    entries.insert(entries.end(), others->begin(), others->end());
  }
  return entries;
}

}  // namespace

Kernel kernel_named(const std::string& name) {
  for (const Entry& entry : all_entries()) {
    if (name == entry.name) return entry.kernel;
  }
  return nullptr;
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const Entry& entry : all_entries()) names.push_back(entry.name);
  return names;
}

}  // namespace planted
