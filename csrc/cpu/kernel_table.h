// The CPU kernels' entry points, one table of them for each instruction set.
//
// A kernel works on a range of rows and touches no other row's outputs, so any
// partition of the rows gives the same bits.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "core/sampler.h"

namespace negative_cosine {

// The round keys of permutations 1..K: keys[round * stride + k - 1].
struct KeyTable {
  FeistelShape shape{};
  const uint32_t* keys = nullptr;
  int64_t stride = 0;  // K rounded up to a multiple of 16
};

// Where the gradient pass finds the rows that drew a document: by inverting the
// permutations, or in the caller's table turned around (see inverted_table.h).
struct RowsOfDocs {
  KeyTable keys;
  const int64_t* table_starts = nullptr;  // [C + 1]
  const int32_t* table_rows = nullptr;
};

// Work memory of one thread, row_scratch_bytes() long and aligned to 64 bytes.
using RowScratch = void*;

struct CpuKernels {
  const char* name;

  void (*inverse_norms)(DataType type, const void* rows, int64_t dim, int64_t begin,
                        int64_t end, void* inverse_norms);

  // Loss, statistics and query direction of rows begin..end-1; under
  // NormalizeOver::kBatch all of them but row_loss, which needs every row.
  void (*forward_rows)(const LossParams& params, const ForwardOutputs& outputs,
                       const void* query_inverse_norms, const KeyTable& keys,
                       RowScratch scratch, int64_t begin, int64_t end);

  // `facts` are RowFacts of the compute type, one for each row of query.
  void (*query_gradient_rows)(const LossParams& params,
                              const GradientArguments& arguments, const void* facts,
                              int64_t begin, int64_t end);

  void (*doc_gradient_rows)(const LossParams& params,
                            const GradientArguments& arguments, const void* facts,
                            const RowsOfDocs& rows_of_docs, RowScratch scratch,
                            int64_t begin, int64_t end);

  // Rows begin..end-1 of the [B, K] table that `shuffle` draws.
  void (*sample_rows)(const KeyTable& keys, int64_t num_negatives, RowScratch scratch,
                      int64_t begin, int64_t end, int32_t* table);
};

namespace portable {
const CpuKernels& kernels();
}
#if defined(__x86_64__)
namespace avx2 {
const CpuKernels& kernels();
}
namespace avx512 {
const CpuKernels& kernels();
}
#endif

// The widest kernels this processor runs, at most the level that the environment
// variable NEGATIVE_COSINE_MAX_ISA names (portable, avx2 or avx512). Chosen once.
const CpuKernels& cpu_kernels();

constexpr int64_t kScratchAlignment = 64;

// Two padded rows of the compute type and two padded lists of candidates.
NEGATIVE_COSINE_INLINE int64_t row_scratch_bytes(const LossParams& params) {
  const int64_t row = round_up(params.dim * compute_size_of(params.data_type), 64) + 64;
  return 2 * row + 2 * round_up(params.num_negatives, 16) * int64_t{sizeof(int32_t)};
}

}  // namespace negative_cosine
