// The caller's threads, as the passes on the CPU use them.
#pragma once

#include <cstdint>
#include <functional>

namespace negative_cosine {

// Runs `work(begin, end)` over a partition of [0, count) on the caller's threads.
// `cost` estimates one item in processor cycles, so that small work stays on one
// thread. The results never depend on the partition.
using ParallelFor =
    std::function<void(int64_t count, int64_t cost,
                       const std::function<void(int64_t begin, int64_t end)>& work)>;

}  // namespace negative_cosine
