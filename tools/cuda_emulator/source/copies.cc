// A thread's copies in the order of their start. Its groups are named by the copy that
// follows each one's last: as in PTX a group may be empty, and copies that no group
// holds yet are waited for by nobody.
#include "copies.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "block.h"
#include "device.h"
#include "emulation/tiles.h"
#include "fault.h"
#include "shared_arrays.h"

namespace emulator {
namespace {

struct CopiesOfThread {
  std::vector<ElementsOfCopy> copies;
  std::vector<size_t> ends_of_groups;
};

std::array<CopiesOfThread, kMaxThreads> copies_of_threads;
size_t copies_under_way = 0;

void arrive(const ElementsOfCopy& elements) {
  for (int element = 0; element < elements.count; ++element) {
    reinterpret_cast<SharedHistory*>(reinterpret_cast<char*>(elements.first) +
                                     static_cast<size_t>(element) * elements.stride)
        ->on_arrival();
  }
}

}  // namespace

void check_copy(const void* to, const void* from, int bytes) {
  require_capability(8, 0, "copy_async");
  locate_in_shared_arrays("copy_async to", to, bytes);
  // Addresses of PTX's operands are aligned; taken strictly, also where nothing is
  // read.
  if (reinterpret_cast<uint64_t>(from) % static_cast<uint64_t>(bytes) != 0) {
    raise_fault(
        cudaErrorMisalignedAddress,
        "copy_async from an address that is no multiple of " + std::to_string(bytes));
  }
}

void add_copy(const ElementsOfCopy& elements) {
  copies_of_threads[running_thread()].copies.push_back(elements);
  ++copies_under_way;
}

void commit_copies() {
  require_capability(8, 0, "commit_copies");
  CopiesOfThread& thread = copies_of_threads[running_thread()];
  thread.ends_of_groups.push_back(thread.copies.size());
}

void wait_for_copies(int pending) {
  require_capability(8, 0, "wait_for_copies");
  CopiesOfThread& thread = copies_of_threads[running_thread()];
  const size_t groups = thread.ends_of_groups.size();
  const size_t stay = std::min(groups, static_cast<size_t>(pending));
  if (stay == groups) return;
  const size_t arrived = thread.ends_of_groups[groups - stay - 1];
  for (size_t copy = 0; copy < arrived; ++copy) arrive(thread.copies[copy]);
  thread.copies.erase(thread.copies.begin(),
                      thread.copies.begin() + static_cast<ptrdiff_t>(arrived));
  thread.ends_of_groups.erase(
      thread.ends_of_groups.begin(),
      thread.ends_of_groups.end() - static_cast<ptrdiff_t>(stay));
  for (size_t& end : thread.ends_of_groups) end -= arrived;
  copies_under_way -= arrived;
}

bool any_copies_under_way() { return copies_under_way != 0; }

unsigned thread_with_copies_under_way() {
  unsigned thread = 0;
  while (copies_of_threads[thread].copies.empty()) ++thread;
  return thread;
}

void forget_copies() {
  for (CopiesOfThread& thread : copies_of_threads) {
    thread.copies.clear();
    thread.ends_of_groups.clear();
  }
  copies_under_way = 0;
}

}  // namespace emulator
