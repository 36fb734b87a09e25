// The scheduler. Every thread of a block is a fiber, and one runs at a time.
//
// A lane runs until it waits: at a collective of its warp, at the block's barrier, or
// for good when it returns. When no lane of a warp can run, the collectives whose lanes
// have all come are carried out, and their lanes go on. Lanes that then still wait
// would wait for ever on a GPU: that is a fault. When all warps stand still, all their
// threads must be at the barrier, which then opens.
//
// A lane is parked that waits for what other warps do, until they wake it.
#include "block.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arrival_barriers.h"
#include "copies.h"
#include "emulation/emulator.h"
#include "emulation/shared_element.h"
#include "fault.h"
#include "fiber.h"
#include "named_barriers.h"
#include "order.h"
#include "random.h"
#include "registers.h"
#include "shared_arrays.h"
#include "traffic.h"
#include "warpgroups.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace emulator {

Moment now{};

namespace {

struct Thread {
  Context context;
  uint3 index;
  unsigned number;  // in the block
  Collective collective;
  uint64_t result;
  uint32_t ticks;  // of its clock, since the warp's last synchronisation
  Parked parked;
};

// Lanes are bits: each that exists is in exactly one of the five sets.
struct Warp {
  Thread* lanes;
  unsigned existing;
  unsigned ready;
  unsigned at_collective;
  unsigned at_barrier;
  unsigned parked;
  unsigned exited;
  uint32_t syncs;  // what its lanes' clocks were when all of them last synchronised
};

unsigned bit(unsigned lane) { return 1u << lane; }
unsigned first_lane(unsigned lanes) {
  return static_cast<unsigned>(__builtin_ctz(lanes));
}

class Scheduler {
 public:
  void run_grid(dim3 grid, dim3 block, const std::function<void()>& kernel);
  void set_schedule(uint64_t seed);

  // Called by the thread that runs.
  uint64_t take_part(const Collective& collective);
  void synchronise_block();
  void park(const Parked& parked);
  void wake(unsigned number);
  void tick();
  void synchronise_warp(unsigned number);
  uint32_t syncs_of(unsigned warp) const { return warps_[warp].syncs; }
  unsigned warps() const { return static_cast<unsigned>(warps_.size()); }
  void call_for_warp(Warp* warp);
  Thread& running();
  Warp& warp_of(const Thread& thread) { return warps_[thread.number / kWarpSize]; }
  // The entry of every fiber: returns to the scheduler when the thread has, and begins
  // the next block's thread when the scheduler comes back.
  [[noreturn]] void run_threads();

 private:
  void lay_out(dim3 block);
  void run_block(uint64_t number);
  bool advance(Warp* warp);
  void run_ready_lanes(Warp* warp);
  void run(Thread* thread, const Warp& warp);
  void stand_for(Thread* thread, const Warp& warp);
  void call_kernel();
  void pause();
  bool all_exited() const;
  void blame_parked_threads() const;
  void open_barrier();
  void end_block();
  void raise_if_any(const std::optional<FaultOfThread>& fault) const;

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> order_of_warps_;
  Context context_;  // the scheduler's own
  Thread* running_ = nullptr;
  const std::function<void()>* kernel_ = nullptr;
  std::optional<Fault> fault_;  // of the thread that ran last
  unsigned prepared_ = 0;       // fibers that wait for a thread to run
  bool in_order_ = true;
  Random random_{0};
};

Scheduler scheduler;

// --- Faults ------------------------------------------------------------------------

std::string text_of(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

[[noreturn]] void raise_fault_of(const Thread& thread, cudaError_t error,
                                 const std::string& message) {
  throw Fault{error, message + "; in block " + text_of(blockIdx) + ", thread " +
                         text_of(thread.index)};
}

[[noreturn]] void raise_fault_of(const Thread& thread, const std::string& message) {
  raise_fault_of(thread, cudaErrorLaunchFailure, message);
}

std::string name_of(const Collective& collective) {
  switch (collective.operation) {
    case Operation::kShuffle:
      return "__shfl_sync";
    case Operation::kShuffleXor:
      return "__shfl_xor_sync";
    case Operation::kShuffleDown:
      return "__shfl_down_sync";
    case Operation::kShuffleUp:
      return "__shfl_up_sync";
    case Operation::kBallot:
      return "__ballot_sync";
    case Operation::kAny:
      return "__any_sync";
    case Operation::kAll:
      return "__all_sync";
    case Operation::kMatchAny:
      return "__match_any_sync";
    case Operation::kSyncWarp:
      return "__syncwarp";
    case Operation::kWarpCall:
      return collective.call->name;
  }
  return "";
}

std::string text_of(const Collective& collective) {
  return name_of(collective) + " with mask " + hexadecimal(collective.mask);
}

// --- Collectives of a warp ---------------------------------------------------------

bool is_shuffle(Operation operation) { return operation <= Operation::kShuffleUp; }

bool are_the_same(const Collective& left, const Collective& right) {
  return left.operation == right.operation && left.mask == right.mask &&
         left.value_size == right.value_size && left.call == right.call;
}

// The lane that a shuffle reads, as PTX defines it: groups of `width` lanes, and a lane
// whose source is beyond its group reads itself.
unsigned source_lane(const Collective& shuffle, unsigned lane) {
  const unsigned in_group = static_cast<unsigned>(shuffle.width) - 1;
  const unsigned first = lane & ~in_group;
  const unsigned last = lane | in_group;
  const unsigned operand = shuffle.operand % kWarpSize;
  switch (shuffle.operation) {
    case Operation::kShuffle:
      return first | (operand & in_group);
    case Operation::kShuffleUp:
      return lane < first + operand ? lane : lane - operand;
    case Operation::kShuffleDown:
      return lane + operand > last ? lane : lane + operand;
    default:
      return (lane ^ operand) > last ? lane : lane ^ operand;
  }
}

void complete_shuffle(const Warp& warp, unsigned lanes) {
  for (unsigned left = lanes; left != 0; left &= left - 1) {
    const unsigned lane = first_lane(left);
    Thread& thread = warp.lanes[lane];
    const unsigned source = source_lane(thread.collective, lane);
    if ((lanes & bit(source)) == 0) {
      raise_fault_of(thread, "shuffle reads from lane " + std::to_string(source) +
                                 ", which is inactive: " + text_of(thread.collective));
    }
    thread.result = warp.lanes[source].collective.value;
  }
}

unsigned lanes_with_value(const Warp& warp, unsigned lanes, uint64_t value) {
  unsigned equal = 0;
  for (unsigned left = lanes; left != 0; left &= left - 1) {
    const unsigned lane = first_lane(left);
    if (warp.lanes[lane].collective.value == value) equal |= bit(lane);
  }
  return equal;
}

unsigned result_of_vote(const Warp& warp, unsigned lanes,
                        const Collective& collective) {
  switch (collective.operation) {
    case Operation::kBallot:
      return lanes_with_value(warp, lanes, 1);
    case Operation::kAny:
      return lanes_with_value(warp, lanes, 1) != 0 ? 1 : 0;
    case Operation::kAll:
      return lanes_with_value(warp, lanes, 0) == 0 ? 1 : 0;
    case Operation::kMatchAny:
      return lanes_with_value(warp, lanes, collective.value);
    default:
      return 0;
  }
}

void complete_vote(const Warp& warp, unsigned lanes) {
  for (unsigned left = lanes; left != 0; left &= left - 1) {
    Thread& thread = warp.lanes[first_lane(left)];
    thread.result = result_of_vote(warp, lanes, thread.collective);
  }
}

void synchronise(Warp* warp) {
  uint32_t most = 0;
  for (unsigned left = order_is_kept ? warp->existing : 0; left != 0;
       left &= left - 1) {
    uint32_t& ticks = warp->lanes[first_lane(left)].ticks;
    most = std::max(most, std::exchange(ticks, 0u));
  }
  warp->syncs += most + 1;
}

void complete(Warp* warp, unsigned lanes) {
  const Operation operation = warp->lanes[first_lane(lanes)].collective.operation;
  if (is_shuffle(operation)) {
    complete_shuffle(*warp, lanes);
  } else if (operation == Operation::kWarpCall) {
    scheduler.call_for_warp(warp);
  } else if (operation != Operation::kSyncWarp) {
    complete_vote(*warp, lanes);
  } else if (lanes == (warp->existing & ~warp->exited)) {
    // A part of the warp orders its memory accesses too; that is not followed here.
    synchronise(warp);
    if (order_is_kept) share_order_in_warp(warp->lanes[0].number / kWarpSize);
  }
  warp->at_collective &= ~lanes;
  warp->ready |= lanes;
}

// Whether every lane that the collective names waits at the same one.
bool all_have_come(const Warp& warp, const Collective& collective) {
  if ((collective.mask & ~warp.at_collective) != 0) return false;
  for (unsigned left = collective.mask; left != 0; left &= left - 1) {
    if (!are_the_same(warp.lanes[first_lane(left)].collective, collective))
      return false;
  }
  return true;
}

std::string what_it_does(const Warp& warp, unsigned lane) {
  if ((warp.existing & bit(lane)) == 0) return "does not exist";
  if ((warp.exited & bit(lane)) != 0) return "has exited";
  if ((warp.at_barrier & bit(lane)) != 0) return "waits at __syncthreads";
  if ((warp.parked & bit(lane)) != 0) return "waits at a barrier";
  return "waits at " + text_of(warp.lanes[lane].collective);
}

// The first waiting lane is blamed, with the first lane that it waits for.
[[noreturn]] void raise_stuck(const Warp& warp) {
  const Thread& thread = warp.lanes[first_lane(warp.at_collective)];
  unsigned missing = 0;
  for (unsigned left = thread.collective.mask; left != 0; left &= left - 1) {
    const unsigned lane = first_lane(left);
    if ((warp.at_collective & bit(lane)) == 0 ||
        !are_the_same(warp.lanes[lane].collective, thread.collective)) {
      missing |= bit(lane);
    }
  }
  const unsigned lane = first_lane(missing);
  raise_fault_of(thread, text_of(thread.collective) + " waits for ever for lane " +
                             std::to_string(lane) + ", which " +
                             what_it_does(warp, lane));
}

void complete_collectives(Warp* warp) {
  for (unsigned left = warp->at_collective; left != 0;) {
    const unsigned lane = first_lane(left);
    const Collective& collective = warp->lanes[lane].collective;
    if (all_have_come(*warp, collective)) {
      left &= ~collective.mask;
      complete(warp, collective.mask);
    } else {
      left &= ~bit(lane);
    }
  }
  const bool may_go_on = (warp->ready | warp->parked) != 0;
  if (!may_go_on && warp->at_collective != 0) raise_stuck(*warp);
}

// --- Threads -----------------------------------------------------------------------

void run_threads_of_scheduler() { scheduler.run_threads(); }

Thread& Scheduler::running() {
  if (running_ == nullptr) {
    throw std::logic_error("the host called a function for the device");
  }
  return *running_;
}

uint64_t Scheduler::take_part(const Collective& collective) {
  Thread& thread = running();
  const unsigned lane = thread.number % kWarpSize;
  if ((collective.mask & bit(lane)) == 0) {
    raise_fault_of(thread, text_of(collective) + " is called by lane " +
                               std::to_string(lane) + ", which is not in the mask");
  }
  const int width = collective.width;
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    raise_fault_of(thread, text_of(collective) + " has the width " +
                               std::to_string(width) + ", not a power of two up to 32");
  }
  thread.collective = collective;
  Warp& warp = warp_of(thread);
  warp.ready &= ~bit(lane);
  warp.at_collective |= bit(lane);
  pause();
  return thread.result;
}

void Scheduler::synchronise_block() {
  Thread& thread = running();
  Warp& warp = warp_of(thread);
  const unsigned lane = thread.number % kWarpSize;
  warp.ready &= ~bit(lane);
  warp.at_barrier |= bit(lane);
  pause();
}

void Scheduler::park(const Parked& parked) {
  Thread& thread = running();
  Warp& warp = warp_of(thread);
  const unsigned lane = thread.number % kWarpSize;
  thread.parked = parked;
  warp.ready &= ~bit(lane);
  warp.parked |= bit(lane);
  pause();
}

void Scheduler::wake(unsigned number) {
  Warp& warp = warp_of(threads_[number]);
  warp.parked &= ~bit(number % kWarpSize);
  warp.ready |= bit(number % kWarpSize);
}

void Scheduler::tick() {
  ++running().ticks;
  ++now.syncs;
}

void Scheduler::synchronise_warp(unsigned number) {
  synchronise(&warps_[number]);
  if (running().number / kWarpSize == number) stand_for(running_, warps_[number]);
}

// What a whole warp does, its first lane answers for.
void Scheduler::call_for_warp(Warp* warp) {
  void* operands[kWarpSize];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    operands[lane] = reinterpret_cast<void*>(warp->lanes[lane].collective.value);
  }
  stand_for(&warp->lanes[0], *warp);
  warp->lanes[0].collective.call->function(operands);
  running_ = nullptr;
}

void Scheduler::stand_for(Thread* thread, const Warp& warp) {
  running_ = thread;
  threadIdx = thread->index;
  now.thread = static_cast<uint16_t>(thread->number);
  now.last_sync = warp.syncs;
  now.syncs = warp.syncs + thread->ticks;
}

void Scheduler::pause() { switch_context(&running_->context, &context_); }

void Scheduler::run(Thread* thread, const Warp& warp) {
  stand_for(thread, warp);
  switch_context(&context_, &thread->context);
  running_ = nullptr;
  if (fault_) throw *std::exchange(fault_, std::nullopt);
}

// Exceptions must not leave their stack, so the fault is handed over.
void Scheduler::call_kernel() {
  try {
    (*kernel_)();
  } catch (Fault& fault) {
    fault_ = std::move(fault);
  } catch (const std::exception& error) {
    fault_ = Fault{cudaErrorUnknown, error.what()};
  }
}

void Scheduler::run_threads() {
  for (;;) {
    call_kernel();
    Thread& thread = running();
    Warp& warp = warp_of(thread);
    const unsigned lane = thread.number % kWarpSize;
    warp.ready &= ~bit(lane);
    warp.exited |= bit(lane);
    pause();
  }
}

// --- Blocks ------------------------------------------------------------------------

void Scheduler::run_ready_lanes(Warp* warp) {
  if (in_order_) {
    for (unsigned left = warp->ready; left != 0; left &= left - 1) {
      run(&warp->lanes[first_lane(left)], *warp);
    }
    return;
  }
  unsigned order[kWarpSize];
  unsigned count = 0;
  for (unsigned left = warp->ready; left != 0; left &= left - 1) {
    order[count++] = first_lane(left);
  }
  random_.shuffle(order, count);
  for (unsigned i = 0; i < count; ++i) run(&warp->lanes[order[i]], *warp);
}

// In order, a warp runs as far as it can; otherwise the warps take turns.
bool Scheduler::advance(Warp* warp) {
  if (warp->ready == 0) return false;
  do {
    run_ready_lanes(warp);
    complete_collectives(warp);
  } while (in_order_ && warp->ready != 0);
  return true;
}

bool Scheduler::all_exited() const {
  for (const Warp& warp : warps_) {
    if (warp.exited != warp.existing) return false;
  }
  return true;
}

void Scheduler::blame_parked_threads() const {
  for (const Warp& warp : warps_) {
    if (warp.parked == 0) continue;
    const Thread& thread = warp.lanes[first_lane(warp.parked)];
    raise_fault_of(thread, thread.parked.text(thread.parked) + " waits for ever");
  }
}

void Scheduler::open_barrier() {
  for (const Warp& warp : warps_) {
    if (warp.exited == 0) continue;
    raise_fault_of(warp.lanes[first_lane(warp.exited)],
                   "__syncthreads waits for ever for a thread that has exited");
  }
  ++now.barriers;
  for (Warp& warp : warps_) std::swap(warp.ready, warp.at_barrier);
  if (!order_is_kept) return;
  for (Warp& warp : warps_) synchronise(&warp);
  order_block();
  keep_products_under_way();
}

void Scheduler::raise_if_any(const std::optional<FaultOfThread>& fault) const {
  if (fault) raise_fault_of(threads_[fault->thread], fault->message);
}

void Scheduler::end_block() {
  if (any_copies_under_way()) {
    const Thread& thread = threads_[thread_with_copies_under_way()];
    raise_fault_of(thread,
                   "copy_async without a wait_for_copies before the block ends");
  }
  raise_if_any(fault_in_warpgroups());
  raise_if_any(fault_in_registers());
  if (traffic_is_counted) end_block_in_traffic();
}

void Scheduler::run_block(uint64_t number) {
  blockIdx = {static_cast<unsigned>(number % gridDim.x),
              static_cast<unsigned>(number / gridDim.x % gridDim.y),
              static_cast<unsigned>(number / gridDim.x / gridDim.y)};
  now.barriers_at_start_of_block = ++now.barriers;
  begin_block_in_shared_arrays();
  begin_block_in_order(warps());
  begin_block_in_arrival_barriers();
  begin_block_in_named_barriers();
  begin_block_in_registers();
  begin_block_in_warpgroups();
  for (Warp& warp : warps_) {
    warp.ready = warp.existing;
    warp.at_collective = warp.at_barrier = warp.parked = warp.exited = 0;
    synchronise(&warp);
  }
  for (;;) {
    if (!in_order_) random_.shuffle(order_of_warps_.data(), order_of_warps_.size());
    bool any_ran = false;
    for (const unsigned warp : order_of_warps_) any_ran |= advance(&warps_[warp]);
    if (any_ran) continue;
    if (all_exited()) return end_block();
    blame_parked_threads();
    open_barrier();
  }
}

void Scheduler::lay_out(dim3 block) {
  const auto count = static_cast<unsigned>(count_of(block));
  for (unsigned number = 0; number < count; ++number) {
    threads_[number].number = number;
    threads_[number].ticks = 0;
    threads_[number].index = {number % block.x, number / block.x % block.y,
                              number / block.x / block.y};
  }
  for (; prepared_ < count; ++prepared_) {
    prepare(&threads_[prepared_].context, prepared_, run_threads_of_scheduler);
  }
  warps_.assign((count + kWarpSize - 1) / kWarpSize, Warp{});
  for (unsigned number = 0; number < count; ++number) {
    Warp& warp = warps_[number / kWarpSize];
    warp.lanes = &threads_[number / kWarpSize * kWarpSize];
    warp.existing |= bit(number % kWarpSize);
  }
  order_of_warps_.resize(warps_.size());
  std::iota(order_of_warps_.begin(), order_of_warps_.end(), 0u);
}

void Scheduler::run_grid(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  // Contexts must not move, so there is room for the largest block from the start.
  if (threads_.empty()) threads_.resize(kMaxThreads);
  lay_out(block);
  gridDim = grid;
  blockDim = block;
  kernel_ = &kernel;
  begin_launch_in_order();
  const uint64_t blocks = count_of(grid);
  std::vector<uint64_t> order(in_order_ ? 0 : blocks);
  std::iota(order.begin(), order.end(), uint64_t{0});
  random_.shuffle(order.data(), order.size());
  try {
    for (uint64_t turn = 0; turn < blocks; ++turn) {
      run_block(in_order_ ? turn : order[turn]);
    }
  } catch (...) {
    // The abandoned threads' fibers stand anywhere: the next launch prepares them anew.
    prepared_ = 0;
    running_ = nullptr;
    forget_copies();
    throw;
  }
}

void Scheduler::set_schedule(uint64_t seed) {
  in_order_ = seed == 0;
  random_ = Random(seed);
}

}  // namespace

void set_schedule(uint64_t seed) { scheduler.set_schedule(seed); }

void run_grid(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  scheduler.run_grid(grid, block, kernel);
}

uint64_t take_part(const Collective& collective) {
  return scheduler.take_part(collective);
}

void synchronise_block() { scheduler.synchronise_block(); }

unsigned lanes_that_run() {
  const Warp& warp = scheduler.warp_of(scheduler.running());
  return warp.existing & ~warp.exited;
}

void park(const Parked& parked) { scheduler.park(parked); }
void wake(unsigned thread) { scheduler.wake(thread); }
void tick() { scheduler.tick(); }
void synchronise_warp(unsigned warp) { scheduler.synchronise_warp(warp); }
uint32_t syncs_of(unsigned warp) { return scheduler.syncs_of(warp); }
unsigned warps_of_block() { return scheduler.warps(); }

unsigned running_thread() { return scheduler.running().number; }

void raise_fault(cudaError_t error, const std::string& message) {
  raise_fault_of(scheduler.running(), error, message);
}

std::string hexadecimal(unsigned long long value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  do {
    text.insert(text.begin(), kDigits[value % 16]);
    value /= 16;
  } while (value != 0);
  return "0x" + text;
}

}  // namespace emulator
