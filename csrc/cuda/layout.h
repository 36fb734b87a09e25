// How the scratch memory of the passes is divided: sizes and offsets in bytes.
#pragma once

#include <cstdint>

#include "core/params.h"

namespace negative_cosine {
namespace cuda {

// The forward pass's parts, one behind the other.
struct ForwardLayout {
  explicit ForwardLayout(const LossParams& params);

  int64_t parts_offset;  // behind the blocks' losses
  int64_t total;
};

// The gradient pass's parts, one behind the other.
struct GradientLayout {
  explicit GradientLayout(const LossParams& params);

  int64_t parts_offset = 256;  // behind the sum of the coefficients
  int64_t sums_offset;
  int64_t table_offset;
  int64_t total;
};

// Whether the gradient pass sorts the pairs by document, and inverts no permutation.
bool needs_rows_of_docs(const LossParams& params);

}  // namespace cuda
}  // namespace negative_cosine
