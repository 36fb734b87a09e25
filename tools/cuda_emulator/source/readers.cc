#include "readers.h"

#include <algorithm>

#include "block.h"
#include "order.h"

namespace emulator {
namespace {

std::vector<Readers> lists;
std::vector<uint32_t> unused;
uint32_t in_use = 0;  // the first so many lists, but for the unused

}  // namespace

void Readers::add(Reader reader) {
  const unsigned warp = warp_of_thread(reader.thread);
  if (reader.thread >= kFirstProducts) return add_product(warp, reader.clock);
  add_lanes(warp, 1u << (reader.thread % kWarpSize), reader.clock);
}

void Readers::add_lanes(unsigned warp, uint32_t lanes, uint32_t clock) {
  forget_lanes(warp, lanes);
  for (Group& group : groups_) {
    if (group.warp != warp || group.lanes == 0 || group.clock != clock) continue;
    group.lanes |= lanes;
    return;
  }
  groups_.push_back({clock, lanes, warp});
}

void Readers::add_product(unsigned warp, uint32_t clock) {
  for (Group& group : groups_) {
    if (group.warp != warp || group.lanes != 0) continue;
    group.clock = clock;
    return;
  }
  groups_.push_back({clock, 0, warp});
}

// They have read again.
void Readers::forget_lanes(unsigned warp, uint32_t lanes) {
  for (size_t g = 0; g < groups_.size();) {
    Group& group = groups_[g];
    const bool had_any = group.warp == warp && (group.lanes & lanes) != 0;
    if (had_any) group.lanes &= ~lanes;
    if (had_any && group.lanes == 0) {
      group = groups_.back();
      groups_.pop_back();
    } else {
      ++g;
    }
  }
}

std::optional<Reader> Readers::unordered() const {
  for (const Group& group : groups_) {
    const Reader product{kFirstProducts + group.warp, group.clock};
    if (group.lanes == 0 && !happened_before(product.thread, product.clock)) {
      return product;
    }
    for (uint32_t left = group.lanes; left != 0; left &= left - 1) {
      const auto lane = static_cast<unsigned>(__builtin_ctz(left));
      const Reader reader{group.warp * kWarpSize + lane, group.clock};
      if (!happened_before(reader.thread, reader.clock)) return reader;
    }
  }
  return std::nullopt;
}

uint32_t new_list_of_readers() {
  if (unused.empty()) {
    if (in_use == lists.size()) lists.emplace_back();
    return in_use++;
  }
  const uint32_t number = unused.back();
  unused.pop_back();
  return number;
}

Readers& list_of_readers(uint32_t number) { return lists[number]; }

void free_list_of_readers(uint32_t number) {
  lists[number].clear();
  unused.push_back(number);
}

void free_lists_of_readers() {
  for (uint32_t number = 0; number < in_use; ++number) lists[number].clear();
  unused.clear();
  in_use = 0;
}

}  // namespace emulator
