// The CPU kernels' entry points, one table of them for each instruction set.
//
// A kernel works on a range of rows and touches no other row's outputs, so any
// partition of the rows gives the same bits.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/params.h"
#include "core/sampler.h"
#include "cpu/candidates/key_table.h"
#include "cpu/candidates/place_order.h"
#include "cpu/candidates/rows_of_docs.h"
#include "cpu/rows/rows_of_query.h"
#include "cpu/rows/scratch_size.h"

namespace negative_cosine::cpu {

struct Kernels {
  const char* name;

  void (*inverse_norms)(DataType type, const void* rows, int64_t dim, int64_t begin,
                        int64_t end, void* inverse_norms);

  PermuteRange* permute_range;

  // Loss, statistics and query direction of rows begin..end-1, whose candidates are
  // drawn by the keys or come from the caller's table. Under NormalizeOver::kBatch all
  // of them but row_loss, which needs every row.
  void (*forward_rows)(const LossParams& params, const ForwardOutputs& outputs,
                       const void* query_inverse_norms, const KeyTable& keys,
                       ThreadScratch scratch, int64_t begin, int64_t end);

  // The same for the rows at the places of tiles begin..end-1 of a ring.
  void (*forward_tiles)(const LossParams& params, const ForwardOutputs& outputs,
                        const void* query_inverse_norms, const PlaceOrder& order,
                        ThreadScratch scratch, int64_t begin, int64_t end);

  void (*query_gradient_rows)(const LossParams& params,
                              const GradientArguments& arguments,
                              const AnyRowsOfQuery& rows_of_query, int64_t begin,
                              int64_t end);

  // Likewise, of documents.
  void (*doc_gradient_rows)(const LossParams& params,
                            const GradientArguments& arguments,
                            const AnyRowsOfQuery& rows_of_query,
                            const RowsOfDocs& rows_of_docs, ThreadScratch scratch,
                            int64_t begin, int64_t end);

  // The same for the documents at the places of tiles begin..end-1 of a ring.
  void (*doc_gradient_tiles)(const LossParams& params,
                             const GradientArguments& arguments,
                             const AnyRowsOfQuery& rows_of_query,
                             const PlaceOrder& order, ThreadScratch scratch,
                             int64_t begin, int64_t end);

  // Rows begin..end-1 of the [B, K] table that `shuffle` draws.
  void (*sample_rows)(const KeyTable& keys, int64_t num_negatives,
                      ThreadScratch scratch, int64_t begin, int64_t end,
                      int32_t* table);
};

namespace portable {
const Kernels& kernels();
}
#if defined(__x86_64__)
namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}
#endif

// Those of the widest instruction set that this processor runs
// (device/cpu_features.h). Chosen once.
NEGATIVE_COSINE_API const Kernels& kernels();

}  // namespace negative_cosine::cpu
