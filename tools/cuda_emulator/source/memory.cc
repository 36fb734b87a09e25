// Buffers, their fake addresses, and the check of every access.
//
// A device address is a mark, a buffer's number and an offset. The mark sets bits that
// make it no address for any processor. Offsets start in the middle of their range, so
// that one below zero is still recognised as this buffer's. For each byte a buffer also
// keeps a stamp: never written, written earlier, or written by the launch that runs.
#include "memory.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "emulation/emulator.h"
#include "fault.h"
#include "traffic.h"

namespace emulator {
namespace {

constexpr uint64_t kMark = (uint64_t{1} << 62) | (uint64_t{1} << 54);
constexpr unsigned kNumberBits = 14;
constexpr unsigned kOffsetBits = 40;
constexpr uint64_t kBuffers = uint64_t{1} << kNumberBits;
constexpr uint64_t kOffsetMask = (uint64_t{1} << kOffsetBits) - 1;
constexpr int64_t kFirstOffset = int64_t{1} << (kOffsetBits - 1);
constexpr uint64_t kAddressMask =
    kMark | ((uint64_t{1} << (kOffsetBits + kNumberBits)) - 1);

constexpr unsigned char kNeverWritten = 0;
constexpr unsigned char kWrittenEarlier = 1;
constexpr unsigned char kFirstLaunchStamp = 2;
constexpr unsigned char kLastLaunchStamp = 255;

// What memory holds before it is written: NaN in every floating type, no small integer.
constexpr unsigned char kGarbage = 0xff;

struct Buffer {
  bool live = false;
  std::vector<unsigned char> bytes;
  std::vector<unsigned char> stamps;
};

struct Memory {
  std::array<Buffer, kBuffers> buffers;
  uint64_t last_number = 0;
  size_t allocated = 0;
  size_t limit = size_t{4} << 30;
  unsigned char launch_stamp = kFirstLaunchStamp;
};

Memory memory;

struct Place {
  Buffer* buffer;  // null where the address is not a device's
  int64_t offset;
};

Place place_of(const void* address) {
  const uint64_t bits = reinterpret_cast<uint64_t>(address);
  if ((bits & ~(kAddressMask ^ kMark)) != kMark) return {nullptr, 0};
  return {&memory.buffers[(bits >> kOffsetBits) % kBuffers],
          static_cast<int64_t>(bits & kOffsetMask) - kFirstOffset};
}

void* address_of(uint64_t number) {
  return reinterpret_cast<void*>(kMark | (number << kOffsetBits) |
                                 static_cast<uint64_t>(kFirstOffset));
}

bool contains(const Buffer& buffer, int64_t offset, size_t size) {
  return buffer.live && offset >= 0 && size <= buffer.bytes.size() &&
         static_cast<uint64_t>(offset) <= buffer.bytes.size() - size;
}

std::string describe(const char* access, size_t size, const Place& place) {
  return std::string(access) + " of " + std::to_string(size) + " bytes at offset " +
         std::to_string(place.offset) + " of a buffer of " +
         std::to_string(place.buffer->bytes.size()) + " bytes";
}

std::string describe_bad_range(const char* access, size_t size, const void* address,
                               const Place& place) {
  if (place.buffer == nullptr) {
    return std::string(access) + " of " + std::to_string(size) + " bytes at " +
           hexadecimal(reinterpret_cast<uint64_t>(address)) +
           ", which is not a device address";
  }
  if (!place.buffer->live) {
    return std::string(access) + " of " + std::to_string(size) +
           " bytes in a buffer that is not allocated";
  }
  return std::string("out-of-bounds ") + describe(access, size, place);
}

// Not inlined: they are off the path that every access takes.
[[noreturn, gnu::noinline]] void raise_bad_range(const char* access, size_t size,
                                                 const void* address,
                                                 const Place& place) {
  raise_fault(cudaErrorIllegalAddress,
              describe_bad_range(access, size, address, place));
}

[[noreturn, gnu::noinline]] void raise_misaligned(const char* access, size_t size,
                                                  const Place& place) {
  raise_fault(cudaErrorMisalignedAddress,
              "misaligned " + describe(access, size, place));
}

[[noreturn, gnu::noinline]] void raise_uninitialised(size_t size, const Place& place) {
  raise_fault(cudaErrorLaunchFailure,
              "read of uninitialised memory: " + describe("read", size, place));
}

[[noreturn, gnu::noinline]] void raise_stale_read(const char* access, size_t size,
                                                  const Place& place) {
  raise_fault(cudaErrorLaunchFailure,
              std::string(access) +
                  " of what the same launch wrote: " + describe("read", size, place));
}

inline Place checked_place(const char* access, const void* address, size_t size) {
  const Place place = place_of(address);
  if (place.buffer == nullptr || !contains(*place.buffer, place.offset, size)) {
    raise_bad_range(access, size, address, place);
  }
  if (static_cast<uint64_t>(place.offset) % size != 0) {
    raise_misaligned(access, size, place);
  }
  return place;
}

inline void check_written(const Place& place, size_t size) {
  const unsigned char* stamps = place.buffer->stamps.data() + place.offset;
  for (size_t byte = 0; byte < size; ++byte) {
    if (stamps[byte] == kNeverWritten) raise_uninitialised(size, place);
  }
}

inline void check_not_of_this_launch(const char* access, const Place& place,
                                     size_t size) {
  const unsigned char* stamps = place.buffer->stamps.data() + place.offset;
  for (size_t byte = 0; byte < size; ++byte) {
    if (stamps[byte] == memory.launch_stamp) raise_stale_read(access, size, place);
  }
}

inline unsigned char* bytes_at(const Place& place) {
  return place.buffer->bytes.data() + place.offset;
}

inline void stamp(const Place& place, unsigned char with, size_t size) {
  std::memset(place.buffer->stamps.data() + place.offset, with, size);
}

// Empty where a copy or a fill from the host may touch the range.
std::string range_problem(const char* access, const void* address, size_t size) {
  const Place place = place_of(address);
  if (place.buffer != nullptr && contains(*place.buffer, place.offset, size)) return "";
  return describe_bad_range(access, size, address, place);
}

std::string host_problem(const void* address) {
  return place_of(address).buffer == nullptr
             ? ""
             : "a device address where the host's is due";
}

}  // namespace

// --- Accesses of a kernel ----------------------------------------------------------

// Not inlined, so that the return address names the access in the kernel's code.

[[gnu::noinline]] const void* locate_read(const void* address, size_t size) {
  const Place place = checked_place("read", address, size);
  check_written(place, size);
  if (traffic_is_counted) {
    count_access(Access::kRead, __builtin_return_address(0), address, size);
  }
  return bytes_at(place);
}

[[gnu::noinline]] const void* locate_constant_read(const void* address, size_t size) {
  const Place place = checked_place("read", address, size);
  check_written(place, size);
  check_not_of_this_launch("read through __ldg", place, size);
  if (traffic_is_counted) {
    count_access(Access::kRead, __builtin_return_address(0), address, size);
  }
  return bytes_at(place);
}

[[gnu::noinline]] const void* locate_source_of_copy(const void* address, size_t size) {
  const Place place = checked_place("copy", address, size);
  check_written(place, size);
  check_not_of_this_launch("copy_async", place, size);
  if (traffic_is_counted) {
    count_access(Access::kRead, __builtin_return_address(0), address, size);
  }
  return bytes_at(place);
}

[[gnu::noinline]] void* locate_write(void* address, size_t size) {
  const Place place = checked_place("write", address, size);
  stamp(place, memory.launch_stamp, size);
  if (traffic_is_counted) {
    count_access(Access::kWrite, __builtin_return_address(0), address, size);
  }
  return bytes_at(place);
}

[[gnu::noinline]] void* locate_atomic(void* address, size_t size) {
  const Place place = checked_place("atomic", address, size);
  check_written(place, size);
  stamp(place, memory.launch_stamp, size);
  if (traffic_is_counted) count_atomic();
  return bytes_at(place);
}

// --- The host's side ---------------------------------------------------------------

void begin_launch_in_memory() {
  if (memory.launch_stamp != kLastLaunchStamp) {
    ++memory.launch_stamp;
    return;
  }
  // The stamps are used up: all that was written, was written earlier.
  memory.launch_stamp = kFirstLaunchStamp;
  for (Buffer& buffer : memory.buffers) {
    for (unsigned char& stamp : buffer.stamps) {
      if (stamp != kNeverWritten) stamp = kWrittenEarlier;
    }
  }
}

void* allocate(size_t size) {
  if (size > memory.limit - std::min(memory.allocated, memory.limit)) return nullptr;
  // Numbers are used again as late as possible, so that a freed buffer's addresses stay
  // wrong for long.
  for (uint64_t tries = 0; tries < kBuffers; ++tries) {
    memory.last_number = (memory.last_number + 1) % kBuffers;
    Buffer& buffer = memory.buffers[memory.last_number];
    if (buffer.live) continue;
    buffer.live = true;
    buffer.bytes.assign(size, kGarbage);
    buffer.stamps.assign(size, kNeverWritten);
    memory.allocated += size;
    return address_of(memory.last_number);
  }
  return nullptr;
}

bool release(void* address) {
  const Place place = place_of(address);
  if (place.buffer == nullptr || !place.buffer->live || place.offset != 0) return false;
  memory.allocated -= place.buffer->bytes.size();
  *place.buffer = Buffer();
  return true;
}

size_t bytes_allocated() { return memory.allocated; }
size_t memory_limit() { return memory.limit; }
void set_memory_limit(size_t bytes) { memory.limit = bytes; }

std::string copy_to_device(void* to, const void* from, size_t size) {
  std::string problem = range_problem("copy", to, size);
  if (problem.empty()) problem = host_problem(from);
  if (!problem.empty()) return problem;
  std::memcpy(bytes_at(place_of(to)), from, size);
  stamp(place_of(to), kWrittenEarlier, size);
  return "";
}

std::string copy_to_host(void* to, const void* from, size_t size) {
  std::string problem = range_problem("copy", from, size);
  if (problem.empty()) problem = host_problem(to);
  if (!problem.empty()) return problem;
  std::memcpy(to, bytes_at(place_of(from)), size);
  return "";
}

// Bytes that were never written stay so in the copy.
std::string copy_on_device(void* to, const void* from, size_t size) {
  std::string problem = range_problem("copy", from, size);
  if (problem.empty()) problem = range_problem("copy", to, size);
  if (!problem.empty()) return problem;
  const Place source = place_of(from);
  const Place target = place_of(to);
  std::memmove(bytes_at(target), bytes_at(source), size);
  std::memmove(target.buffer->stamps.data() + target.offset,
               source.buffer->stamps.data() + source.offset, size);
  return "";
}

std::string fill(void* address, int byte, size_t size) {
  const std::string problem = range_problem("fill", address, size);
  if (!problem.empty()) return problem;
  std::memset(bytes_at(place_of(address)), byte, size);
  stamp(place_of(address), kWrittenEarlier, size);
  return "";
}

}  // namespace emulator
