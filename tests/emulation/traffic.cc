// Lanes run one after another, so the accesses that a GPU would make at once come
// apart.
//
// They are put together again: a lane's n-th execution of one place in the code belongs
// to the same access of its warp as the other lanes' n-th execution of that place.
#include "traffic.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "block.h"

namespace emulator {

bool traffic_is_counted = false;

namespace {

constexpr unsigned kSectorBytes = 32;

struct WarpAccess {
  Access access = Access::kRead;
  std::vector<uint64_t> sectors;  // those of each lane that came
};

// Thread or warp, place in the code.
using Visitor = std::pair<unsigned, const void*>;
using NthAccess = std::tuple<unsigned, const void*, uint64_t>;

std::vector<LaunchStatistics> launches;
std::map<Visitor, uint64_t> executions;
std::map<NthAccess, WarpAccess> open_accesses;

void close_access(WarpAccess* access) {
  std::vector<uint64_t>& sectors = access->sectors;
  std::sort(sectors.begin(), sectors.end());
  const auto end = std::unique(sectors.begin(), sectors.end());
  const auto distinct = static_cast<uint64_t>(end - sectors.begin());
  LaunchStatistics& launch = launches.back();
  (access->access == Access::kRead ? launch.sectors_read : launch.sectors_written) +=
      distinct;
}

void count_bytes(Access access, size_t size) {
  LaunchStatistics& launch = launches.back();
  (access == Access::kRead ? launch.bytes_read : launch.bytes_written) += size;
  if (access == Access::kRead && size == 16) ++launch.reads_of_16_bytes;
}

}  // namespace

void count_traffic(bool on) { traffic_is_counted = on; }
void reset_statistics() { launches.clear(); }
std::vector<LaunchStatistics> statistics() { return launches; }

void begin_launch_in_traffic(const cudaLaunchConfig_t& config) {
  executions.clear();
  open_accesses.clear();
  LaunchStatistics launch;
  launch.grid = config.gridDim;
  launch.block = config.blockDim;
  launch.threads = count_of(config.gridDim) * count_of(config.blockDim);
  launches.push_back(launch);
}

void end_block_in_traffic() {
  for (auto& entry : open_accesses) close_access(&entry.second);
  open_accesses.clear();
  executions.clear();
}

void count_access(Access access, const void* site, const void* address, size_t size) {
  count_bytes(access, size);
  const unsigned thread = running_thread();
  const uint64_t execution = executions[{thread, site}]++;
  const NthAccess key{thread / kWarpSize, site, execution};
  WarpAccess& warp_access = open_accesses[key];
  warp_access.access = access;
  // Accesses are aligned and at most 16 bytes long: each lies within one sector.
  warp_access.sectors.push_back(reinterpret_cast<uint64_t>(address) / kSectorBytes);
  if (warp_access.sectors.size() < kWarpSize) return;
  close_access(&warp_access);
  open_accesses.erase(key);
}

void count_atomic() { ++launches.back().atomics; }

void count_shared_read(unsigned wavefronts, unsigned conflicts) {
  launches.back().shared_wavefronts += wavefronts;
  launches.back().bank_conflicts += conflicts;
}

}  // namespace emulator
