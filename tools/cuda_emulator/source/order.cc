#include "order.h"

#include <algorithm>
#include <array>

#include "emulation/shared_element.h"
#include "readers.h"

namespace emulator {

bool order_is_kept = false;

namespace {

constexpr unsigned kMaxWarps = kMaxThreads / kWarpSize;

// What a whole warp knows: what each of its lanes does.
struct OrderOfWarp {
  Clocks known;
  bool is_known = false;
  uint32_t at_barrier = 0;  // its lanes' clocks after the block's last barrier
  uint32_t finished_products = 0;
};

unsigned warps = 0;
std::vector<Clocks> clocks_of_threads;
std::array<OrderOfWarp, kMaxWarps> order_of_warps;
// When each thread has shown its writes, in order.
std::array<std::vector<uint32_t>, kMaxThreads> shows;

// --- Clocks ------------------------------------------------------------------------

size_t place_in_clocks(unsigned thread) {
  return thread < kFirstProducts ? kMaxWarps + thread : thread - kFirstProducts;
}

size_t size_of_clocks() { return kMaxWarps + warps * kWarpSize; }

// Compilers make a few instructions of 32 clocks at once, if they know that they are
// different ones.
static_assert(kMaxWarps == kWarpSize, "clocks are a multiple of 32");

void take_later(Clocks* clocks, const Clocks& others) {
  for (size_t first = 0; first < clocks->size(); first += kWarpSize) {
    uint32_t* __restrict__ mine = clocks->data() + first;
    const uint32_t* __restrict__ other = others.data() + first;
    for (unsigned i = 0; i < kWarpSize; ++i) mine[i] = std::max(mine[i], other[i]);
  }
}

void take_earlier(Clocks* clocks, const Clocks& others) {
  for (size_t first = 0; first < clocks->size(); first += kWarpSize) {
    uint32_t* __restrict__ mine = clocks->data() + first;
    const uint32_t* __restrict__ other = others.data() + first;
    for (unsigned i = 0; i < kWarpSize; ++i) mine[i] = std::min(mine[i], other[i]);
  }
}

bool are_before(const uint32_t* clocks, const uint32_t* known, uint32_t known_of_all) {
  unsigned later = 0;
  for (unsigned i = 0; i < kWarpSize; ++i) {
    later |= clocks[i] > std::max(known[i], known_of_all) ? 1u : 0u;
  }
  return later == 0;
}

// What all lanes of a warp did before that time.
void raise_lanes(Clocks* clocks, unsigned warp, uint32_t clock) {
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    uint32_t& of_lane = (*clocks)[place_in_clocks(warp * kWarpSize + lane)];
    of_lane = std::max(of_lane, clock);
  }
}

Clocks& clocks_of_lane(unsigned warp, unsigned lane) {
  return clocks_of_threads[warp * kWarpSize + lane];
}

const Clocks& clocks_of_warp(unsigned warp) {
  OrderOfWarp& order = order_of_warps[warp];
  if (order.is_known) return order.known;
  order.known = clocks_of_lane(warp, 0);
  for (unsigned lane = 1; lane < kWarpSize; ++lane) {
    take_earlier(&order.known, clocks_of_lane(warp, lane));
  }
  raise_lanes(&order.known, warp, syncs_of(warp));
  order.is_known = true;
  return order.known;
}

// Until when the running thread knows what another one has done.
uint32_t known_until(unsigned thread) {
  const unsigned mine = warp_of_thread(now.thread);
  if (thread == now.thread) return now.syncs + 1;
  if (now.thread >= kFirstProducts)
    return clocks_of_warp(mine)[place_in_clocks(thread)];
  const uint32_t known = clocks_of_threads[now.thread][place_in_clocks(thread)];
  if (warp_of_thread(thread) != mine) return known;
  return std::max(known, thread < kFirstProducts
                             ? now.last_sync
                             : order_of_warps[mine].finished_products);
}

}  // namespace

void keep_order() {
  if (order_is_kept) return;
  order_is_kept = true;
  begin_block_in_order(warps);
}

void begin_launch_in_order() { order_is_kept = false; }

void begin_block_in_order(unsigned warps_of_block) {
  warps = warps_of_block;
  if (!order_is_kept) return;
  free_lists_of_readers();
  clocks_of_threads.resize(warps * kWarpSize);
  for (Clocks& clocks : clocks_of_threads) clocks.assign(size_of_clocks(), 0);
  for (OrderOfWarp& order : order_of_warps) {
    order.is_known = false;
    order.at_barrier = order.finished_products = 0;
  }
  for (auto& of_thread : shows) of_thread.clear();
}

void release(Clocks* clocks) {
  const unsigned warp = warp_of_thread(now.thread);
  clocks->resize(size_of_clocks(), 0);
  take_later(clocks, clocks_of_threads[now.thread]);
  raise_lanes(clocks, warp, now.last_sync);
  (*clocks)[place_in_clocks(now.thread)] = now.syncs + 1;
  (*clocks)[place_in_clocks(kFirstProducts + warp)] =
      order_of_warps[warp].finished_products;
  tick();
}

void acquire(unsigned thread, const Clocks& clocks) {
  take_later(&clocks_of_threads[thread], clocks);
  order_of_warps[warp_of_thread(thread)].is_known = false;
}

bool knows(const Clocks& clocks) {
  const unsigned mine = warp_of_thread(now.thread);
  uint32_t& own = clocks_of_threads[now.thread][place_in_clocks(now.thread)];
  own = now.syncs + 1;
  for (unsigned warp = 0; warp < warps; ++warp) {
    const size_t first = place_in_clocks(warp * kWarpSize);
    const uint32_t at_barrier = order_of_warps[warp].at_barrier;
    const uint32_t known_of_all =
        warp == mine ? std::max(at_barrier, now.last_sync) : at_barrier;
    if (!are_before(&clocks[first], &clocks_of_threads[now.thread][first],
                    known_of_all)) {
      return false;
    }
  }
  return true;
}

void order_warps(const std::vector<unsigned>& ordered) {
  Clocks all(size_of_clocks(), 0);
  for (const unsigned warp : ordered) {
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      take_later(&all, clocks_of_lane(warp, lane));
    }
    synchronise_warp(warp);
    raise_lanes(&all, warp, syncs_of(warp));
    all[place_in_clocks(kFirstProducts + warp)] =
        order_of_warps[warp].finished_products;
  }
  for (const unsigned warp : ordered) {
    for (unsigned lane = 0; lane < kWarpSize; ++lane) clocks_of_lane(warp, lane) = all;
    order_of_warps[warp].is_known = false;
  }
}

void share_order_in_warp(unsigned warp) {
  Clocks all = clocks_of_lane(warp, 0);
  for (unsigned lane = 1; lane < kWarpSize; ++lane) {
    take_later(&all, clocks_of_lane(warp, lane));
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) clocks_of_lane(warp, lane) = all;
  order_of_warps[warp].is_known = false;
}

void order_block() {
  free_lists_of_readers();
  for (unsigned warp = 0; warp < warps; ++warp) {
    order_of_warps[warp].at_barrier = syncs_of(warp);
    order_of_warps[warp].is_known = false;
  }
}

bool happened_before(unsigned thread, uint32_t clock) {
  return clock < known_until(thread);
}

uint32_t finished_products(unsigned warp) {
  return order_of_warps[warp].finished_products;
}

void finish_products(unsigned warp, uint32_t count) {
  order_of_warps[warp].finished_products = count;
}

void show_writes() {
  shows[now.thread].push_back(now.syncs);
  tick();
}

bool was_shown(unsigned thread, uint32_t clock) {
  const std::vector<uint32_t>& times = shows[thread];
  const auto show = std::lower_bound(times.begin(), times.end(), clock);
  if (show == times.end()) return false;
  const uint32_t at_barrier = order_of_warps[warp_of_thread(thread)].at_barrier;
  return *show < std::max(known_until(thread), at_barrier);
}

}  // namespace emulator
