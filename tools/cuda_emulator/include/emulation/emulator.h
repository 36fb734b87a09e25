// What tests may ask of the emulator, beyond CUDA's own API.
//
// One operating system thread at a time may use the emulator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "emulation/runtime_api.h"

namespace emulator {

// 0: lanes, warps and blocks run in their order. Other seeds: in an order drawn from a
// generator that starts from the seed, warps taking turns at every collective.
void set_schedule(uint64_t seed);

// What one launch asked of memory: zero unless count_traffic(true) came before.
struct LaunchStatistics {
  dim3 grid;
  dim3 block;
  uint64_t threads = 0;
  uint64_t shared_bytes = 0;  // of a block, that the launch asks for
  uint64_t bytes_read = 0;    // as asked for, repeats included
  uint64_t bytes_written = 0;
  // 32-byte sectors: the distinct ones of each access by a warp, summed over accesses.
  uint64_t sectors_read = 0;
  uint64_t sectors_written = 0;
  uint64_t reads_of_16_bytes = 0;
  uint64_t reads_of_8_bytes = 0;
  uint64_t reads_of_4_bytes = 0;
  uint64_t atomics = 0;  // in none of the figures above
  // Turns of shared memory: at best one for each matrix of load_matrices and
  // load_transposed, and one for the packets of eight lanes; and how many more.
  uint64_t shared_wavefronts = 0;
  uint64_t packet_wavefronts = 0;
  uint64_t bank_conflicts = 0;
};

void count_traffic(bool on);
void reset_statistics();
std::vector<LaunchStatistics> statistics();  // of every launch since the reset

// How often each function of CUDA's API was called since the reset, by its name.
std::map<std::string, uint64_t> api_calls();

// The device's memory, in bytes: allocations beyond it fail.
void set_memory_limit(size_t bytes);
// What the device says that it is; the kernels run in any case.
void set_capability(int major, int minor);
constexpr int kUsualMultiprocessors = 4;
void set_multiprocessors(int count);
// What the kernels were compiled for, 75 for 7.5: by default, the device.
void set_code_version(int version);
// What the driver is for, as CUDA writes its versions: 12080 is 12.8, 0 is no driver.
void set_driver_version(int version);
// Whether products of matrices are added as tensor cores do it: cut off where the
// largest of them and the sum so far have their last bits, and then added. If not, each
// addition rounds to nearest, which is nearer to the exact sum.
void truncate_products(bool on);
// What to call when one of these has made another device of it: for programs that keep
// what they once asked.
void on_other_device(std::function<void()> forget);

}  // namespace emulator
