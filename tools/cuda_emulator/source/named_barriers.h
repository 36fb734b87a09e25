// Barriers of some of a block's warps.
#pragma once

namespace emulator {

void begin_block_in_named_barriers();

}  // namespace emulator
