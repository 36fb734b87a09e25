// The barriers that count arrivals, of the block that runs.
#pragma once

namespace emulator {

void begin_block_in_arrival_barriers();

}  // namespace emulator
