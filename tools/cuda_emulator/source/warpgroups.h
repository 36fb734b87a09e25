// The products that the warps of the block that runs have issued.
#pragma once

#include <optional>

#include "fault.h"

namespace emulator {

void begin_block_in_warpgroups();
// A barrier of the block tells what was before apart: products under way read on.
void keep_products_under_way();
std::optional<FaultOfThread> fault_in_warpgroups();

}  // namespace emulator
