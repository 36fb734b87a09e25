// The readers of one element since its last write, in blocks that keep an order: lanes
// of several warps, each at its own time, and products.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace emulator {

struct Reader {
  unsigned thread;
  uint32_t clock;
};

class Readers {
 public:
  void add(Reader reader);
  void add_lanes(unsigned warp, uint32_t lanes, uint32_t clock);
  // One that did not come before what the running thread does.
  std::optional<Reader> unordered() const;
  void clear() { groups_.clear(); }

 private:
  // Lanes of a warp that read at one time; or its products, of which the last counts.
  struct Group {
    uint32_t clock;
    uint32_t lanes;  // none: products
    unsigned warp;
  };

  void add_product(unsigned warp, uint32_t clock);
  void forget_lanes(unsigned warp, uint32_t lanes);

  std::vector<Group> groups_;
};

// Lists that are in use, by their numbers.
uint32_t new_list_of_readers();
Readers& list_of_readers(uint32_t number);
void free_list_of_readers(uint32_t number);
// All of them: no element's trace counts any more.
void free_lists_of_readers();

}  // namespace emulator
