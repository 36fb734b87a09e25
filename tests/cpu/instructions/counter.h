// Counts the instructions of a piece of work: no clock, so no noise.
//
// It needs nothing but x86-64's trap flag, under Linux: with it set, every instruction
// ends in a signal, whose handler counts. That takes some microseconds each.
#pragma once

#include <cstdint>
#include <functional>

namespace negative_cosine {

// The instructions that `work` runs on the calling thread, outside the kernel.
int64_t count_instructions(const std::function<void()>& work);

}  // namespace negative_cosine
