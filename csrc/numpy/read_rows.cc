// Compiled once for each instruction set, as the kernels are.
#include "numpy/read_rows.h"

#include "cpu/rows/rows.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// Rows are asked for ahead as the kernels ask for them.
double sum_of_rows(const float* matrix, int64_t dim, const int32_t* indices,
                   int64_t begin, int64_t end) {
  constexpr int64_t kAhead = 8;
  constexpr int kSums = 4;  // more than the adder's latency needs
  const RowShape<float> shape(dim);
  FloatVector sums[kSums] = {};
  float rest = 0;
  for (int64_t i = begin; i < end; ++i) {
    if (i + kAhead < end) prefetch_row(shape, matrix + indices[i + kAhead] * dim);
    const float* row = matrix + indices[i] * dim;
    int64_t v = 0;
    for (; v + kSums <= shape.whole; v += kSums) {
      for (int s = 0; s < kSums; ++s) sums[s] += load(row + (v + s) * kLanes<float>);
    }
    for (; v < shape.whole; ++v) sums[0] += load(row + v * kLanes<float>);
    for (int64_t e = v * kLanes<float>; e < dim; ++e) rest += row[e];
  }
  return double{sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]))} + rest;
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
