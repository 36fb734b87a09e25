// A barrier is known by its place in shared memory. Phase 0 comes first; the one in
// front of it counts as ended, and as odd.
#include "arrival_barriers.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "block.h"
#include "device.h"
#include "emulation/warpgroups.h"
#include "fault.h"
#include "order.h"
#include "shared_arrays.h"

namespace emulator {
namespace {

constexpr int kMostArrivals = (1 << 20) - 1;

struct Barrier {
  unsigned place;
  int arrivals;  // of a phase
  int missing;   // in the one that runs
  unsigned phase = 0;
  unsigned set_up_by;
  uint64_t set_up_at;  // barriers that the block had passed
  Clocks handed_on{};  // by those that arrived in this phase or an earlier one
  Clocks at_end{};     // of the phase before
  std::vector<unsigned> waiting{};
};

std::map<unsigned, Barrier> barriers;  // by their places

std::string text_of(unsigned place) {
  return "the arrival barrier at byte " + std::to_string(place);
}

std::string text_of_wait(const Parked& parked) {
  return "wait_for_phase of " + text_of(parked.what) + " with parity " +
         std::to_string(parked.detail);
}

unsigned place_of(const char* use, const ArrivalBarrier* barrier) {
  require_exact_capability(9, 0, use);
  return locate_in_shared_arrays((std::string(use) + " at").c_str(), barrier, 8);
}

Barrier& barrier_to(const char* use, const ArrivalBarrier* element) {
  const unsigned place = place_of(use, element);
  const auto found = barriers.find(place);
  if (found == barriers.end()) {
    raise_fault(cudaErrorLaunchFailure, std::string(use) + " of " + text_of(place) +
                                            ", which nothing has set up");
  }
  Barrier& barrier = found->second;
  if (barrier.set_up_at == now.barriers && barrier.set_up_by != running_thread()) {
    raise_fault(cudaErrorLaunchFailure,
                std::string(use) + " of " + text_of(place) + ", which thread " +
                    std::to_string(barrier.set_up_by) +
                    " of the block set up without a __syncthreads since");
  }
  return barrier;
}

bool has_ended(const Barrier& barrier, uint32_t parity) {
  return (barrier.phase + 1) % 2 == parity;
}

void end_phase(Barrier* barrier) {
  barrier->missing = barrier->arrivals;
  ++barrier->phase;
  barrier->at_end = barrier->handed_on;
  std::vector<unsigned> waiting;
  waiting.swap(barrier->waiting);
  for (const unsigned thread : waiting) {
    acquire(thread, barrier->at_end);
    wake(thread);
  }
}

}  // namespace

void begin_block_in_arrival_barriers() { barriers.clear(); }

void set_up(ArrivalBarrier* element, int arrivals) {
  const unsigned place = place_of("set_up", element);
  if (barriers.count(place) != 0) {
    raise_fault(cudaErrorLaunchFailure,
                "set_up of " + text_of(place) + ", which is in use");
  }
  if (arrivals < 1 || arrivals > kMostArrivals) {
    raise_fault(cudaErrorLaunchFailure, "set_up of " + text_of(place) + " for " +
                                            std::to_string(arrivals) + " arrivals");
  }
  element->set_up_barrier();
  keep_order();
  Barrier barrier{place, arrivals, arrivals, 0, running_thread(), now.barriers};
  barriers.emplace(place, std::move(barrier));
}

// Who arrives in a phase has to know that the one before has ended: else it might have
// come a little earlier, and been one too many there.
void arrive(ArrivalBarrier* element) {
  Barrier& barrier = barrier_to("arrive", element);
  if (barrier.phase > 0 && !knows(barrier.at_end)) {
    raise_fault(cudaErrorLaunchFailure,
                "arrive at " + text_of(barrier.place) + ": more than the " +
                    std::to_string(barrier.arrivals) +
                    " arrivals of a phase, for nothing tells this one that the phase "
                    "before has ended");
  }
  release(&barrier.handed_on);
  if (--barrier.missing == 0) end_phase(&barrier);
}

void wait_for_phase(ArrivalBarrier* element, uint32_t parity) {
  Barrier& barrier = barrier_to("wait_for_phase", element);
  if (parity > 1) {
    raise_fault(cudaErrorLaunchFailure, "wait_for_phase of " + text_of(barrier.place) +
                                            " with parity " + std::to_string(parity));
  }
  if (has_ended(barrier, parity)) {
    if (barrier.phase > 0) acquire(running_thread(), barrier.at_end);
    return;
  }
  barrier.waiting.push_back(running_thread());
  park({text_of_wait, barrier.place, parity});
}

}  // namespace emulator
