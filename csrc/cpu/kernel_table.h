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

// The documents in the order of the ring, with the first K again behind the last: the
// candidates of the row at place x are ring[x + 1] .. ring[x + K], and the rows that
// drew the document there are the K before it.
using Ring = const int32_t*;

// Where the forward pass finds a row's candidates: in the caller's table if neither is
// there.
struct CandidateSource {
  KeyTable keys;
  Ring ring = nullptr;
};

// Where the gradient pass finds the rows that drew a document: by inverting the
// permutations, on the ring, or in the caller's table turned around (see
// inverted_table.h).
struct RowsOfDocs {
  KeyTable keys;
  Ring ring = nullptr;
  const int64_t* table_starts = nullptr;  // [C + 1]
  const int32_t* table_rows = nullptr;
};

// Work memory of one thread, row_scratch_bytes() long and aligned to 64 bytes.
using RowScratch = void*;

struct CpuKernels {
  const char* name;

  void (*inverse_norms)(DataType type, const void* rows, int64_t dim, int64_t begin,
                        int64_t end, void* inverse_norms);

  // The documents at places begin..end-1 of the ring.
  void (*ring_order)(int64_t num_candidates, SeedState state, int64_t begin,
                     int64_t end, int32_t* ring);

  // Loss, statistics and query direction of rows begin..end-1, or of the rows at these
  // places of the ring: neighbours there share candidates, which stay in the cache.
  // Under NormalizeOver::kBatch all of them but row_loss, which needs every row.
  void (*forward_rows)(const LossParams& params, const ForwardOutputs& outputs,
                       const void* query_inverse_norms, const CandidateSource& source,
                       RowScratch scratch, int64_t begin, int64_t end);

  // `facts` are RowFacts of the compute type, one for each row of query.
  void (*query_gradient_rows)(const LossParams& params,
                              const GradientArguments& arguments, const void* facts,
                              int64_t begin, int64_t end);

  // Likewise, of documents.
  void (*doc_gradient_rows)(const LossParams& params,
                            const GradientArguments& arguments, const void* facts,
                            const RowsOfDocs& rows_of_docs, RowScratch scratch,
                            int64_t begin, int64_t end);

  // Rows begin..end-1 of the [B, K] table that `shuffle` draws.
  void (*sample_rows)(const KeyTable& keys, int64_t num_negatives, RowScratch scratch,
                      int64_t begin, int64_t end, int32_t* table);

  // Reads rows and computes next to nothing, see read_rows.h.
  double (*sum_of_rows)(const float* matrix, int64_t dim, const int32_t* indices,
                        int64_t begin, int64_t end);
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
