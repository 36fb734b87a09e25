// Memory is kept from block to block: what an earlier block wrote counts as not
// written, see SharedHistory.
#include "shared_arrays.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "emulation/shared_arrays.h"
#include "emulation/tiles.h"
#include "fault.h"
#include "traffic.h"

namespace emulator {
namespace {

// Each array starts at a multiple of it: a row of all 32 banks.
constexpr size_t kAlignment = 128;

struct Free {
  void operator()(void* memory) const { free(memory); }
};

struct Array {
  KindOfArray kind;
  size_t place;  // on a device: from the start of shared memory, in bytes
  std::unique_ptr<void, Free> memory;

  size_t device_bytes() const {
    return static_cast<size_t>(kind.count) * static_cast<size_t>(kind.element_bytes);
  }
  uint64_t first() const {
    return reinterpret_cast<uint64_t>(memory.get()) + kGuards * kind.stride;
  }
};

std::vector<Array> arrays;  // the first `in_use` of them are the block's
size_t in_use = 0;
size_t bytes_of_launch = 0;

bool are_the_same(const KindOfArray& left, const KindOfArray& right) {
  return left.type == right.type && left.count == right.count &&
         left.is_swizzled == right.is_swizzled;
}

std::string text_of(const KindOfArray& kind) {
  return std::to_string(kind.count) + " elements of " +
         std::to_string(kind.element_bytes) + " bytes";
}

void check_order(const KindOfArray& kind, size_t number) {
  const KindOfArray& first = arrays[number].kind;
  if (are_the_same(first, kind)) return;
  raise_fault(
      cudaErrorLaunchFailure,
      "SharedArrays: another thread of the block took " + text_of(first) +
          " as array " + std::to_string(number) + ", this one takes " + text_of(kind) +
          (kind.element_bytes == first.element_bytes ? " (of another type)" : ""));
}

size_t place_after(size_t number) {
  if (number == 0) return 0;
  const Array& before = arrays[number - 1];
  return (before.place + before.device_bytes() + kAlignment - 1) / kAlignment *
         kAlignment;
}

void check_room(const KindOfArray& kind, size_t place) {
  const size_t bytes =
      static_cast<size_t>(kind.count) * static_cast<size_t>(kind.element_bytes);
  if (kind.count >= 0 && place + bytes <= bytes_of_launch) return;
  raise_fault(cudaErrorLaunchFailure,
              "SharedArrays: " + text_of(kind) + " at byte " + std::to_string(place) +
                  " of the " + std::to_string(bytes_of_launch) +
                  " bytes of shared memory that the launch asked for");
}

std::unique_ptr<void, Free> memory_for(const KindOfArray& kind) {
  const size_t elements = static_cast<size_t>(kind.count) + 2 * kGuards;
  return std::unique_ptr<void, Free>(calloc(elements, kind.stride));
}

}  // namespace

void begin_launch_in_shared_arrays(size_t bytes) { bytes_of_launch = bytes; }
void begin_block_in_shared_arrays() { in_use = 0; }

TakenArray take_array(const KindOfArray& kind, size_t earlier) {
  if (earlier < in_use) {
    check_order(kind, earlier);
    return {arrays[earlier].memory.get(), false};
  }
  const size_t place = place_after(earlier);
  check_room(kind, place);
  ++in_use;
  if (earlier < arrays.size() && are_the_same(arrays[earlier].kind, kind)) {
    arrays[earlier].place = place;
    return {arrays[earlier].memory.get(), false};
  }
  Array array{kind, place, memory_for(kind)};
  void* memory = array.memory.get();
  if (earlier < arrays.size()) {
    arrays[earlier] = std::move(array);
  } else {
    arrays.push_back(std::move(array));
  }
  return {memory, true};
}

unsigned locate_in_shared_arrays(const char* access, const void* element, int bytes) {
  const uint64_t address = reinterpret_cast<uint64_t>(element);
  for (size_t number = 0; number < in_use; ++number) {
    const Array& array = arrays[number];
    const uint64_t guards = kGuards * array.kind.stride;
    const uint64_t all =
        2 * guards + array.kind.stride * static_cast<uint64_t>(array.kind.count);
    if (address - (array.first() - guards) >= all) continue;
    const auto index = static_cast<int64_t>(address - array.first()) /
                       static_cast<int64_t>(array.kind.stride);
    const int64_t byte = index * array.kind.element_bytes;
    if (byte < 0 || byte + bytes > static_cast<int64_t>(array.device_bytes())) {
      raise_fault(cudaErrorLaunchFailure,
                  std::string(access) + " " + std::to_string(bytes) +
                      " bytes of shared memory from element " + std::to_string(index) +
                      " of an array of " + text_of(array.kind));
    }
    const uint64_t place = array.place + static_cast<uint64_t>(byte);
    if (place % static_cast<unsigned>(bytes) != 0) {
      raise_fault(cudaErrorMisalignedAddress,
                  std::string(access) + " byte " + std::to_string(place) +
                      " of shared memory, which is no multiple of " +
                      std::to_string(bytes));
    }
    return static_cast<unsigned>(place);
  }
  raise_fault(cudaErrorIllegalAddress,
              std::string(access) + " what is in no array of SharedArrays");
}

size_t array_at(const char* access, unsigned place) {
  for (size_t number = 0; number < in_use; ++number) {
    const Array& array = arrays[number];
    if (place - array.place >= array.device_bytes()) continue;
    if (array.kind.element_bytes == 2 && array.kind.is_swizzled) return number;
    raise_fault(cudaErrorLaunchFailure,
                std::string(access) + " of an array of " + text_of(array.kind) +
                    (array.kind.is_swizzled
                         ? ": factors are of 2 bytes"
                         : " of SharedArrays, which need not start at a multiple of "
                           "1024 bytes"));
  }
  raise_fault(cudaErrorIllegalAddress, std::string(access) + " of byte " +
                                           std::to_string(place) +
                                           " of shared memory, which is in no array");
}

ElementInArray element_at(const char* access, size_t number, unsigned place) {
  const Array& array = arrays[number];
  const size_t index = (place - array.place) / 2;
  if (place < array.place || index >= static_cast<size_t>(array.kind.count)) {
    raise_fault(cudaErrorIllegalAddress,
                std::string(access) + " of byte " + std::to_string(place) +
                    " of shared memory, which is not in the array where its matrix "
                    "starts");
  }
  const uint64_t element = array.first() + index * array.kind.stride;
  ElementInArray found;
  std::memcpy(&found.bits, reinterpret_cast<const void*>(element), sizeof found.bits);
  found.history = reinterpret_cast<SharedHistory*>(element + array.kind.history_offset);
  return found;
}

void check_shared_access(const char* access, const void* first_element, int bytes) {
  const unsigned place = locate_in_shared_arrays(access, first_element, bytes);
  if (traffic_is_counted && bytes == kPacketBytes) {
    count_packet(__builtin_return_address(0), place);
  }
}

}  // namespace emulator
