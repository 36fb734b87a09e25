// Lanes run one after another, so the accesses that a GPU would make at once come
// apart.
//
// They are put together again: a lane's n-th execution of one place in the code belongs
// to the same access of its warp as the other lanes' n-th execution of that place.
#include "traffic.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "block.h"
#include "emulation/shared_element.h"

namespace emulator {

bool traffic_is_counted = false;

namespace {

constexpr unsigned kSectorBytes = 32;

struct WarpAccess {
  Access access = Access::kRead;
  std::vector<uint64_t> sectors;  // those of each lane that came
};

// Places in shared memory of the lanes that came.
struct WarpPackets {
  unsigned places[kWarpSize];
  unsigned lanes = 0;  // a bit each
};

// Thread or warp, place in the code.
using Visitor = std::pair<unsigned, const void*>;
using NthAccess = std::tuple<unsigned, const void*, uint64_t>;
// The same between two synchronisations: some lanes may come by more often than others.
using NthPacket = std::tuple<unsigned, const void*, uint64_t, uint32_t, uint64_t>;
struct PacketsOfThread {
  uint64_t barriers = 0;
  uint32_t syncs = 0;
  uint64_t count = 0;
};

std::vector<LaunchStatistics> launches;
std::map<std::string, uint64_t> calls;
std::map<Visitor, uint64_t> executions;
std::map<NthAccess, WarpAccess> open_accesses;
std::map<Visitor, PacketsOfThread> packets_of_threads;
std::map<NthPacket, WarpPackets> open_packets;

NthPacket next_packet(unsigned thread, const void* site) {
  PacketsOfThread& packets = packets_of_threads[{thread, site}];
  if (packets.barriers != now.barriers || packets.syncs != now.syncs) {
    packets = {now.barriers, now.syncs, 0};
  }
  return {thread / kWarpSize, site, now.barriers, now.syncs, packets.count++};
}

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
  if (access != Access::kRead) return;
  launch.reads_of_16_bytes += size == 16;
  launch.reads_of_8_bytes += size == 8;
  launch.reads_of_4_bytes += size == 4;
}

// Eight lanes' packets are all banks: they move together.
void close_packets(const WarpPackets& packets) {
  LaunchStatistics& launch = launches.back();
  for (unsigned first = 0; first < kWarpSize; first += kLanesOfPackets) {
    unsigned places[kLanesOfPackets];
    unsigned came = 0;
    for (unsigned lane = first; lane < first + kLanesOfPackets; ++lane) {
      if ((packets.lanes >> lane & 1) != 0) places[came++] = packets.places[lane];
    }
    if (came == 0) continue;
    std::fill(places + came, places + kLanesOfPackets, places[0]);
    const unsigned turns = turns_of_packets(places);
    launch.packet_wavefronts += turns;
    launch.bank_conflicts += turns - 1;
  }
}

}  // namespace

unsigned turns_of_packets(const unsigned (&places)[kLanesOfPackets]) {
  std::set<unsigned> in_banks[kPacketsOfBanks];
  for (const unsigned place : places) {
    in_banks[place / kPacketBytes % kPacketsOfBanks].insert(place);
  }
  size_t most = 0;
  for (const auto& packets : in_banks) most = std::max(most, packets.size());
  return static_cast<unsigned>(most);
}

void count_traffic(bool on) { traffic_is_counted = on; }
void reset_statistics() {
  launches.clear();
  calls.clear();
}
std::vector<LaunchStatistics> statistics() { return launches; }
std::map<std::string, uint64_t> api_calls() { return calls; }
void count_call(const char* function) { ++calls[function]; }

void begin_launch_in_traffic(const cudaLaunchConfig_t& config) {
  executions.clear();
  open_accesses.clear();
  open_packets.clear();
  packets_of_threads.clear();
  LaunchStatistics launch;
  launch.grid = config.gridDim;
  launch.block = config.blockDim;
  launch.threads = count_of(config.gridDim) * count_of(config.blockDim);
  launch.shared_bytes = config.dynamicSmemBytes;
  launches.push_back(launch);
}

void end_block_in_traffic() {
  for (auto& entry : open_accesses) close_access(&entry.second);
  open_accesses.clear();
  for (const auto& entry : open_packets) close_packets(entry.second);
  open_packets.clear();
  executions.clear();
  packets_of_threads.clear();
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

void count_matrix(unsigned turns) {
  launches.back().shared_wavefronts += turns;
  launches.back().bank_conflicts += turns - 1;
}

void count_packet(const void* site, unsigned place) {
  const unsigned thread = running_thread();
  const NthPacket key = next_packet(thread, site);
  WarpPackets& packets = open_packets[key];
  packets.places[thread % kWarpSize] = place;
  packets.lanes |= 1u << (thread % kWarpSize);
  if (packets.lanes != 0xffffffffu) return;
  close_packets(packets);
  open_packets.erase(key);
}

}  // namespace emulator
