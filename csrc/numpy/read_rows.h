// Only reading the rows that a pass meets: the floor that benchmarks measure beside it.
#pragma once

#include <cstdint>

namespace negative_cosine::cpu {

// The sum of all elements of matrix[indices[begin..end-1]]: without a result that
// depends on them the reads would be optimised away.
using SumOfRows = double(const float* matrix, int64_t dim, const int32_t* indices,
                         int64_t begin, int64_t end);

namespace portable {
SumOfRows sum_of_rows;
}
#if defined(__x86_64__)
namespace avx2 {
SumOfRows sum_of_rows;
}
namespace avx512 {
SumOfRows sum_of_rows;
}
#endif

}  // namespace negative_cosine::cpu
