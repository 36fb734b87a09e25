// Kernels of arrival barriers, named barriers and requests for registers, with one
// fault each, and the same kernels without it.
//
// They take 256 threads, of which the first half produces and the second consumes, and
// 4096 bytes of shared memory.
#include <cuda_runtime.h>

#include "emulation/instructions.h"
#include "emulation/warpgroups.h"
#include "planted_faults.h"

namespace planted {
namespace {

using namespace emulator;

constexpr int kHalf = 128;
constexpr int kStages = 2;
constexpr int kRounds = 5;

__device__ int thread_in_block() { return static_cast<int>(threadIdx.x); }
__device__ int thread_in_half() { return thread_in_block() % kHalf; }
__device__ bool produces() { return thread_in_block() < kHalf; }
__device__ int first_of_block() { return static_cast<int>(blockIdx.x * blockDim.x); }
__device__ float number_of_thread(const Arguments& a) {
  return __ldg(a.input + first_of_block() + thread_in_block());
}
__device__ void store(const Arguments& a, float number) {
  __stcs(a.output + first_of_block() + thread_in_block(), number);
}

// --- Arrival barriers --------------------------------------------------------------

// What may be wrong with what follows.
struct Mistakes {
  bool no_set_up = false;
  bool no_barrier_after_set_up = false;
  bool set_up_twice = false;
  bool no_arrivals = false;
  bool too_many_arrivals = false;
  bool consumer_does_not_wait = false;
  bool producer_does_not_wait = false;
  bool arrive_before_writing = false;
  bool arrive_before_reading = false;
  bool only_some_readers_arrive = false;
  bool wait_for_the_wrong_parity = false;
  bool read_the_word = false;
  bool write_the_word = false;
  bool parity_of_two = false;
  bool no_arrivals_to_set_up_for = false;
};

struct Stages {
  SharedElement<float>* numbers;
  ArrivalBarrier* full;
  ArrivalBarrier* empty;
};

__device__ void set_up_stages(const Stages& stages, const Mistakes& wrong) {
  if (thread_in_block() != 0) return;
  for (int stage = 0; stage < kStages && !wrong.no_set_up; ++stage) {
    set_up(stages.full + stage, wrong.no_arrivals_to_set_up_for ? 0 : kHalf);
    set_up(stages.empty + stage, wrong.only_some_readers_arrive ? 96 : kHalf);
  }
  if (wrong.set_up_twice) set_up(stages.full + 1, kHalf);
}

// The producers put a number for each consumer into a stage, round after round.
__device__ void produce(const Arguments& a, const Stages& stages,
                        const Mistakes& wrong) {
  const float number = number_of_thread(a);
  for (int round = 0; round < kRounds; ++round) {
    const int stage = round % kStages;
    const auto parity = static_cast<uint32_t>(round / kStages + 1) % 2;
    if (!wrong.producer_does_not_wait) wait_for_phase(stages.empty + stage, parity);
    if (wrong.arrive_before_writing) arrive(stages.full + stage);
    stages.numbers[stage * kHalf + thread_in_half()] =
        number + static_cast<float>(round);
    if (!wrong.arrive_before_writing && !wrong.no_arrivals) {
      arrive(stages.full + stage);
    }
    if (wrong.too_many_arrivals && thread_in_half() == 7) arrive(stages.full + stage);
  }
  store(a, number);
}

__device__ void consume(const Arguments& a, const Stages& stages,
                        const Mistakes& wrong) {
  float sum = 0;
  const bool arrives = !wrong.only_some_readers_arrive || thread_in_half() >= 32;
  for (int round = 0; round < kRounds; ++round) {
    const int stage = round % kStages;
    auto parity = static_cast<uint32_t>(round / kStages) % 2;
    if (wrong.wait_for_the_wrong_parity) parity = 1 - parity;
    if (wrong.parity_of_two) parity += 2;
    if (!wrong.consumer_does_not_wait) wait_for_phase(stages.full + stage, parity);
    if (wrong.arrive_before_reading) arrive(stages.empty + stage);
    sum += stages.numbers[stage * kHalf + kHalf - 1 - thread_in_half()];
    if (!wrong.arrive_before_reading && arrives) arrive(stages.empty + stage);
  }
  store(a, sum);
}

__device__ void pass_on(const Arguments& a, const Mistakes& wrong) {
  SharedArrays arrays;
  Stages stages;
  stages.numbers = arrays.take<float>(kStages * kHalf);
  stages.full = arrays.take<uint64_t>(kStages);
  stages.empty = arrays.take<uint64_t>(kStages);
  set_up_stages(stages, wrong);
  if (!wrong.no_barrier_after_set_up) __syncthreads();
  if (wrong.read_the_word && thread_in_block() == 3) {
    store(a, static_cast<float>(static_cast<uint64_t>(stages.full[0])));
  }
  if (wrong.write_the_word && thread_in_block() == 3) stages.empty[1] = 0;
  if (produces()) {
    produce(a, stages, wrong);
  } else {
    consume(a, stages, wrong);
  }
}

template <bool Mistakes::* kMistake>
__global__ void pass_on_with(Arguments a) {
  Mistakes wrong;
  wrong.*kMistake = a.wrong;
  pass_on(a, wrong);
}

// One number for all consumers, twice: each warp has to have read the first.
__global__ void overwrite_what_one_of_many_reads(Arguments a) {
  SharedArrays arrays;
  auto* number = arrays.take<float>(1);
  auto* full = arrays.take<uint64_t>(1);
  auto* empty = arrays.take<uint64_t>(1);
  if (thread_in_block() == 0) {
    set_up(full, 1);
    set_up(empty, a.wrong ? 96 : kHalf);
  }
  __syncthreads();
  const bool arrives = !a.wrong || thread_in_block() / 32 != 5;
  float sum = produces() ? number_of_thread(a) : 0;
  for (uint32_t round = 0; round < 2; ++round) {
    if (thread_in_block() == 0) {
      wait_for_phase(empty, 1 - round);
      *number = number_of_thread(a);
      arrive(full);
    } else if (!produces()) {
      wait_for_phase(full, round);
      sum += *number;
      if (arrives) arrive(empty);
    }
  }
  store(a, sum);
}

// One lane of each warp arrives for all of it.
__device__ void pass_on_by_one_lane(const Arguments& a, bool sync_before_arrival,
                                    bool sync_after_wait) {
  SharedArrays arrays;
  auto* numbers = arrays.take<float>(kHalf);
  auto* full = arrays.take<uint64_t>(1);
  if (thread_in_block() == 0) set_up(full, 4);
  __syncthreads();
  const float number = number_of_thread(a);
  if (produces()) {
    numbers[thread_in_half()] = number;
    if (sync_before_arrival) __syncwarp();
    if (thread_in_block() % 32 == 31) arrive(full);
    store(a, number);
  } else {
    if (thread_in_block() % 32 == 0) wait_for_phase(full, 0);
    if (sync_after_wait) __syncwarp();
    store(a, numbers[kHalf - 1 - thread_in_half()]);
  }
}

__global__ void arrive_before_the_other_lanes(Arguments a) {
  pass_on_by_one_lane(a, !a.wrong, true);
}

__global__ void read_before_the_lane_that_waits(Arguments a) {
  pass_on_by_one_lane(a, true, !a.wrong);
}

// All but one warp have returned.
__global__ void wait_alone_for_a_phase(Arguments a) {
  SharedArrays arrays;
  auto* barrier = arrays.take<uint64_t>(1);
  if (thread_in_block() == 0) set_up(barrier, kHalf);
  __syncthreads();
  store(a, number_of_thread(a));
  if (produces() && (!a.wrong || thread_in_block() != 5)) arrive(barrier);
  if (thread_in_block() >= 224) wait_for_phase(barrier, 0);
}

__global__ void wait_at_a_phase_and_a_barrier(Arguments a) {
  SharedArrays arrays;
  auto* barrier = arrays.take<uint64_t>(1);
  if (thread_in_block() == 0) set_up(barrier, 1);
  __syncthreads();
  if (!a.wrong && thread_in_block() == 0) arrive(barrier);
  if (!produces()) wait_for_phase(barrier, 0);
  __syncthreads();
  if (a.wrong && thread_in_block() == 0) arrive(barrier);
  store(a, number_of_thread(a));
}

// --- Named barriers ----------------------------------------------------------------

// Each half reverses its numbers by itself, in two rounds; barriers of it are all that
// orders them.
__device__ void reverse_halves(const Arguments& a, bool wait_for_numbers,
                               bool wait_for_readers) {
  SharedArrays arrays;
  auto* numbers = arrays.take<float>(2 * kHalf);
  auto* of_half = numbers + (produces() ? 0 : kHalf);
  const int barrier = produces() ? 1 : 15;
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    if (round > 0 && wait_for_readers) synchronise(barrier, kHalf);
    of_half[thread_in_half()] = number_of_thread(a);
    if (wait_for_numbers) synchronise(barrier, kHalf);
    sum += of_half[kHalf - 1 - thread_in_half()];
    sum += 0 * of_half[0];
  }
  store(a, sum);
}

__global__ void read_without_a_named_barrier(Arguments a) {
  reverse_halves(a, !a.wrong, true);
}

__global__ void overwrite_without_a_named_barrier(Arguments a) {
  reverse_halves(a, true, !a.wrong);
}

// A barrier of half of the block orders nothing in the other half.
__global__ void take_a_named_barrier_for_the_blocks(Arguments a) {
  SharedArrays arrays;
  auto* numbers = arrays.take<float>(2 * kHalf);
  numbers[thread_in_block()] = 0;
  __syncthreads();
  numbers[thread_in_block()] = number_of_thread(a);
  if (a.wrong) {
    synchronise(produces() ? 1 : 2, kHalf);
  } else {
    synchronise(1, 2 * kHalf);
  }
  store(a, numbers[2 * kHalf - 1 - thread_in_block()]);
}

__device__ void synchronise_as(const Arguments& a, bool comes, int barrier,
                               int threads) {
  if (comes) synchronise(barrier, threads);
  store(a, number_of_thread(a));
}

__global__ void leave_out_a_warp(Arguments a) {
  synchronise_as(a, !a.wrong || thread_in_block() / 32 != 3, 1, 2 * kHalf);
}

__global__ void leave_out_a_lane(Arguments a) {
  synchronise_as(a, !a.wrong || thread_in_block() != 33, 1, 2 * kHalf);
}

__global__ void name_different_numbers_of_threads(Arguments a) {
  synchronise_as(a, true, 3, a.wrong && produces() ? kHalf : 2 * kHalf);
}

__global__ void name_part_of_a_warp(Arguments a) {
  synchronise_as(a, true, 3, a.wrong ? 2 * kHalf - 16 : 2 * kHalf);
}

__global__ void name_the_barrier_of_the_block(Arguments a) {
  synchronise_as(a, true, a.wrong ? 0 : 1, 2 * kHalf);
}

__global__ void name_a_barrier_too_many(Arguments a) {
  synchronise_as(a, true, a.wrong ? 16 : 15, 2 * kHalf);
}

// --- Registers ---------------------------------------------------------------------

// 384 threads, to which a launch gives 168 registers each: less than a
// multiprocessor's, which would be enough.
__global__ void ask_for_too_many_registers(Arguments a) {
  if (!produces()) {
    take_registers<232>();
  } else if (a.wrong) {
    give_registers_back<48>();
  } else {
    give_registers_back<40>();
  }
  store(a, number_of_thread(a));
}

__global__ void ask_for_registers_in_part_of_a_warpgroup(Arguments a) {
  if (produces() && (!a.wrong || thread_in_block() / 32 != 2)) {
    give_registers_back<40>();
  }
  store(a, number_of_thread(a));
}

__global__ void give_more_registers_than_there_are(Arguments a) {
  give_registers_back<40>();
  if (a.wrong) give_registers_back<48>();
  store(a, number_of_thread(a));
}

__global__ void take_less_registers_than_there_are(Arguments a) {
  if (a.wrong) take_registers<64>();
  store(a, number_of_thread(a));
}

}  // namespace

const std::vector<Entry>& barrier_entries() {
  static const std::vector<Entry> entries = {
      {"use_a_barrier_that_nothing_set_up", pass_on_with<&Mistakes::no_set_up>},
      {"use_a_barrier_too_early", pass_on_with<&Mistakes::no_barrier_after_set_up>},
      {"set_up_a_barrier_twice", pass_on_with<&Mistakes::set_up_twice>},
      {"set_up_a_barrier_for_nobody",
       pass_on_with<&Mistakes::no_arrivals_to_set_up_for>},
      {"never_arrive", pass_on_with<&Mistakes::no_arrivals>},
      {"arrive_too_often", pass_on_with<&Mistakes::too_many_arrivals>},
      {"read_before_a_phase_has_ended",
       pass_on_with<&Mistakes::consumer_does_not_wait>},
      {"produce_without_waiting", pass_on_with<&Mistakes::producer_does_not_wait>},
      {"arrive_before_writing", pass_on_with<&Mistakes::arrive_before_writing>},
      {"arrive_before_reading", pass_on_with<&Mistakes::arrive_before_reading>},
      {"overwrite_what_a_warp_has_not_released",
       pass_on_with<&Mistakes::only_some_readers_arrive>},
      {"overwrite_what_one_of_many_reads", overwrite_what_one_of_many_reads},
      {"wait_for_the_wrong_parity", pass_on_with<&Mistakes::wait_for_the_wrong_parity>},
      {"wait_for_a_parity_of_two", pass_on_with<&Mistakes::parity_of_two>},
      {"read_a_barriers_word", pass_on_with<&Mistakes::read_the_word>},
      {"write_a_barriers_word", pass_on_with<&Mistakes::write_the_word>},
      {"arrive_before_the_other_lanes", arrive_before_the_other_lanes},
      {"read_before_the_lane_that_waits", read_before_the_lane_that_waits},
      {"wait_alone_for_a_phase", wait_alone_for_a_phase},
      {"wait_at_a_phase_and_a_barrier", wait_at_a_phase_and_a_barrier},
      {"read_without_a_named_barrier", read_without_a_named_barrier},
      {"overwrite_without_a_named_barrier", overwrite_without_a_named_barrier},
      {"take_a_named_barrier_for_the_blocks", take_a_named_barrier_for_the_blocks},
      {"leave_out_a_warp", leave_out_a_warp},
      {"leave_out_a_lane", leave_out_a_lane},
      {"name_different_numbers_of_threads", name_different_numbers_of_threads},
      {"name_part_of_a_warp", name_part_of_a_warp},
      {"name_the_barrier_of_the_block", name_the_barrier_of_the_block},
      {"name_a_barrier_too_many", name_a_barrier_too_many},
      {"ask_for_too_many_registers", ask_for_too_many_registers},
      {"ask_for_registers_in_part_of_a_warpgroup",
       ask_for_registers_in_part_of_a_warpgroup},
      {"give_more_registers_than_there_are", give_more_registers_than_there_are},
      {"take_less_registers_than_there_are", take_less_registers_than_there_are},
  };
  return entries;
}

}  // namespace planted
