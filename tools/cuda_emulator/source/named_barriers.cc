// A barrier opens when so many warps have come as its threads are, with all their
// lanes.
#include "named_barriers.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "block.h"
#include "device.h"
#include "emulation/warpgroups.h"
#include "fault.h"
#include "order.h"

namespace emulator {
namespace {

constexpr int kBarriers = 16;

struct Barrier {
  int threads = 0;  // that it waits for: none while nobody waits
  unsigned warps_missing = 0;
  std::vector<unsigned> waiting{};                        // threads
  std::array<unsigned, kMaxThreads / kWarpSize> lanes{};  // of each warp that have come
};

std::array<Barrier, kBarriers> barriers;

std::string text_of(unsigned barrier, unsigned threads) {
  return "synchronise of barrier " + std::to_string(barrier) + " for " +
         std::to_string(threads) + " threads";
}

std::string text_of_wait(const Parked& parked) {
  return text_of(parked.what, parked.detail);
}

void check(int number, int threads) {
  require_exact_capability(9, 0, "synchronise");
  const bool exists = number >= 1 && number < kBarriers;
  const auto whole_warps = static_cast<int>(kWarpSize);
  if (exists && threads > 0 && threads % whole_warps == 0) return;
  raise_fault(cudaErrorLaunchFailure,
              "synchronise of barrier " + std::to_string(number) + " for " +
                  std::to_string(threads) +
                  " threads: barriers are 1 to 15, for whole warps");
}

void open(Barrier* barrier) {
  std::vector<unsigned> whole_warps;
  for (unsigned warp = 0; warp < barrier->lanes.size(); ++warp) {
    if (barrier->lanes[warp] == kWarpSize) whole_warps.push_back(warp);
  }
  order_warps(whole_warps);
  std::vector<unsigned> stay;
  for (const unsigned thread : barrier->waiting) {
    if (barrier->lanes[thread / kWarpSize] != kWarpSize) {
      stay.push_back(thread);
    } else if (thread != running_thread()) {
      wake(thread);
    }
  }
  for (const unsigned warp : whole_warps) barrier->lanes[warp] = 0;
  barrier->waiting = stay;
  barrier->warps_missing = static_cast<unsigned>(barrier->threads) / kWarpSize;
  if (stay.empty()) barrier->threads = 0;
}

}  // namespace

void begin_block_in_named_barriers() {
  for (Barrier& barrier : barriers) barrier = Barrier{};
}

void synchronise(int number, int threads) {
  check(number, threads);
  keep_order();
  Barrier& barrier = barriers[static_cast<size_t>(number)];
  if (barrier.threads == 0) {
    barrier.threads = threads;
    barrier.warps_missing = static_cast<unsigned>(threads) / kWarpSize;
  }
  if (barrier.threads != threads) {
    raise_fault(cudaErrorLaunchFailure,
                text_of(static_cast<unsigned>(number), static_cast<unsigned>(threads)) +
                    ", at which others wait for " + std::to_string(barrier.threads));
  }
  const unsigned thread = running_thread();
  barrier.waiting.push_back(thread);
  const bool is_whole_warp = ++barrier.lanes[thread / kWarpSize] == kWarpSize;
  if (is_whole_warp && --barrier.warps_missing == 0) return open(&barrier);
  park({text_of_wait, static_cast<unsigned>(number), static_cast<unsigned>(threads)});
}

}  // namespace emulator
