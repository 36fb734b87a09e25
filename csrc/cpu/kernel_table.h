// The CPU kernels' entry points, one table of them for each instruction set.
//
// A kernel works on a range of rows and touches no other row's outputs, so any
// partition of the rows gives the same bits.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/formulas.h"
#include "core/params.h"
#include "core/sampler.h"
#include "core/status.h"

namespace negative_cosine {

// The round keys of permutations 1..K: keys[round * stride + k - 1].
struct KeyTable {
  FeistelShape shape{};
  const uint32_t* keys = nullptr;
  int64_t count = 0;   // K
  int64_t stride = 0;  // K rounded up to a multiple of 16
};

// The documents on a ring: the candidates of the row at place x are at the K places
// behind it, and the rows that drew the document there at the K places before it. A
// place is counted on past the last one, from the first again.
struct PlaceOrder {
  int64_t num_candidates;
  const int32_t* ring;  // [C], or null: the documents in their own order

  NEGATIVE_COSINE_INLINE_MEMBER int64_t index_at(int64_t place) const {
    while (place >= num_candidates) place -= num_candidates;
    return ring != nullptr ? ring[place] : place;
  }
};

// Rows at neighbouring places that a pass on the ring handles together, see tiles.h.
constexpr int kTileRows = 48;

// The places among which all query rows stand.
NEGATIVE_COSINE_INLINE int64_t num_query_places(const LossParams& params,
                                                const PlaceOrder& order) {
  return order.ring != nullptr ? params.num_candidates : params.batch_size;
}

// Where the gradient pass finds the rows that drew a document: by inverting the
// permutations, or in the caller's table turned around (see inverted_table.h).
struct RowsOfDocs {
  KeyTable keys;

  const int64_t* table_starts = nullptr;  // [C + 1]
  const int32_t* table_rows = nullptr;
};

// What the gradient pass knows of each row of query, with the upstream gradient in it.
template <typename Real>
struct RowsOfQuery {
  const RowFacts<Real>* facts;
  const RowCoefficients<Real>* coefficients;
};

// The same of any compute type.
struct AnyRowsOfQuery {
  const void* facts;
  const void* coefficients;

  template <typename Real>
  NEGATIVE_COSINE_INLINE_MEMBER RowsOfQuery<Real> as() const {
    return {static_cast<const RowFacts<Real>*>(facts),
            static_cast<const RowCoefficients<Real>*>(coefficients)};
  }
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

  // Loss, statistics and query direction of rows begin..end-1, whose candidates are
  // drawn by the keys or stand in the caller's table. Under NormalizeOver::kBatch all
  // of them but row_loss, which needs every row.
  void (*forward_rows)(const LossParams& params, const ForwardOutputs& outputs,
                       const void* query_inverse_norms, const KeyTable& keys,
                       RowScratch scratch, int64_t begin, int64_t end);

  // The same for the rows at the places of tiles begin..end-1 of a ring.
  void (*forward_tiles)(const LossParams& params, const ForwardOutputs& outputs,
                        const void* query_inverse_norms, const PlaceOrder& order,
                        RowScratch scratch, int64_t begin, int64_t end);

  void (*query_gradient_rows)(const LossParams& params,
                              const GradientArguments& arguments,
                              const AnyRowsOfQuery& rows_of_query, int64_t begin,
                              int64_t end);

  // Likewise, of documents.
  void (*doc_gradient_rows)(const LossParams& params,
                            const GradientArguments& arguments,
                            const AnyRowsOfQuery& rows_of_query,
                            const RowsOfDocs& rows_of_docs, RowScratch scratch,
                            int64_t begin, int64_t end);

  // The same for the documents at the places of tiles begin..end-1 of a ring.
  void (*doc_gradient_tiles)(const LossParams& params,
                             const GradientArguments& arguments,
                             const AnyRowsOfQuery& rows_of_query,
                             const PlaceOrder& order, RowScratch scratch, int64_t begin,
                             int64_t end);

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
NEGATIVE_COSINE_API const CpuKernels& cpu_kernels();

// What is wrong with that variable; the passes refuse to run where anything is.
NEGATIVE_COSINE_API const Status& cpu_kernels_status();

constexpr int64_t kScratchAlignment = 64;

// Three padded rows of the compute type and two padded lists of candidates.
NEGATIVE_COSINE_INLINE int64_t row_scratch_bytes(const LossParams& params) {
  const int64_t row = round_up(params.dim * compute_size_of(params.data_type), 64) + 64;
  return 3 * row + 2 * round_up(params.num_negatives, 16) * int64_t{sizeof(int32_t)};
}

// Candidates are handled in blocks: cosines of a block, weights of a block, weighted
// sum of a block, so that the second use of an embedding row finds it in the cache.
constexpr int kBlock = 32;

// A tile's rows, its sums and one block, all padded.
NEGATIVE_COSINE_INLINE int64_t tile_scratch_bytes(const LossParams& params) {
  const int64_t row = round_up(params.dim * compute_size_of(params.data_type), 64);
  return (2 * kTileRows + kBlock) * row;
}

}  // namespace negative_cosine
