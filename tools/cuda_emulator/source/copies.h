// The asynchronous copies that threads have started and not yet waited for.
#pragma once

namespace emulator {

bool any_copies_under_way();
// The number in its block of the first such thread.
unsigned thread_with_copies_under_way();
void forget_copies();

}  // namespace emulator
