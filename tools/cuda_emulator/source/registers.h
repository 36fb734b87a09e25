// How many registers the warps of the block that runs have asked for.
#pragma once

#include <optional>

#include "fault.h"

namespace emulator {

void begin_block_in_registers();
std::optional<FaultOfThread> fault_in_registers();

}  // namespace emulator
