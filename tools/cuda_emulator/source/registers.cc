// Who asks for more waits until others have given theirs back: when all have asked,
// there must be as many as the launch gave the block.
#include "registers.h"

#include <algorithm>
#include <array>
#include <string>

#include "block.h"
#include "device.h"
#include "emulation/collectives.h"
#include "emulation/warpgroups.h"

namespace emulator {
namespace {

constexpr int kRegisters = 65536;  // of a multiprocessor
constexpr int kMostOfThread = 255;
constexpr unsigned kWarpsOfGroup = 4;

struct Request {
  int count;
  bool more;
};

// Of a thread of each warp, as last asked for: 0 where it was not.
std::array<int, kMaxThreads / kWarpSize> registers_of_warps;

// What a thread has from the start: as much as the launch leaves it.
int share_of_launch() {
  const int threads = static_cast<int>(warps_of_block() * kWarpSize);
  return std::min(kRegisters / threads / 8 * 8, kMostOfThread);
}

int registers_of(unsigned warp) {
  const int asked = registers_of_warps[warp];
  return asked == 0 ? share_of_launch() : asked;
}

void change_registers(void* const (&operands)[32]) {
  const Request& request = *static_cast<Request*>(operands[0]);
  const unsigned warp = running_thread() / kWarpSize;
  const int before = registers_of(warp);
  if (request.more ? request.count < before : request.count > before) {
    raise_fault(cudaErrorLaunchFailure,
                std::string(request.more ? "take_registers" : "give_registers_back") +
                    " of " + std::to_string(request.count) + " where there are " +
                    std::to_string(before));
  }
  registers_of_warps[warp] = request.count;
}

constexpr WarpCall kTake = {"take_registers", change_registers};
constexpr WarpCall kGive = {"give_registers_back", change_registers};

std::optional<FaultOfThread> fault_in_warpgroup(unsigned first) {
  const unsigned end = std::min(first + kWarpsOfGroup, warps_of_block());
  for (unsigned warp = first; warp < end; ++warp) {
    if (registers_of_warps[warp] == registers_of_warps[first]) continue;
    return FaultOfThread{warp * kWarpSize,
                         "warp " + std::to_string(warp) + " has asked for " +
                             std::to_string(registers_of_warps[warp]) +
                             " registers a thread, another of its warpgroup for " +
                             std::to_string(registers_of_warps[first])};
  }
  return std::nullopt;
}

}  // namespace

void begin_block_in_registers() { registers_of_warps.fill(0); }

void ask_for_registers(int count, bool more) {
  const WarpCall& call = more ? kTake : kGive;
  require_exact_capability(9, 0, call.name);
  Request request = {count, more};
  take_part_in(call, &request);
}

std::optional<FaultOfThread> fault_in_registers() {
  int all = 0;
  for (unsigned warp = 0; warp < warps_of_block(); ++warp) {
    if (warp % kWarpsOfGroup == 0) {
      if (auto fault = fault_in_warpgroup(warp)) return fault;
    }
    all += static_cast<int>(kWarpSize) * registers_of(warp);
  }
  const int of_launch =
      share_of_launch() * static_cast<int>(warps_of_block() * kWarpSize);
  if (all <= of_launch) return std::nullopt;
  return FaultOfThread{0, "take_registers waits for ever: the block's warps ask for " +
                              std::to_string(all) + " registers of " +
                              std::to_string(of_launch)};
}

}  // namespace emulator
