// Each pass is a few steps: a parallel loop over rows, or a sum in the order of the
// rows. A loop has one item for a row, or for a tile of rows where candidates lie side
// by side.
#include "cpu/passes.h"

#include <algorithm>
#include <cstdint>

#include "cpu/candidates/index_check.h"
#include "cpu/candidates/inverted_table.h"
#include "cpu/candidates/value_check.h"
#include "cpu/device/aligned_scratch.h"
#include "cpu/device/cpu_features.h"
#include "cpu/device/float_mode.h"
#include "cpu/draws.h"
#include "cpu/kernel_table.h"
#include "cpu/layout.h"
#include "cpu/reductions.h"
#include "cpu/rows/saved.h"
#include "cpu/rows/scratch_size.h"
#include "cpu/tiles/scratch_size.h"

namespace negative_cosine::cpu {
namespace {

// Processor cycles of one row alone.
int64_t cost_alone(const LossParams& params) { return 20 + params.dim / 4; }

// Processor cycles of one row that meets K others: K dot products and K weighted sums
// of D elements, the hash, and the row's own fixed work.
int64_t cost_with_candidates(const LossParams& params) {
  return 200 + params.num_negatives * (20 + params.dim / 4);
}

// Runs work(thread's scratch, begin, end) over the tiles of some places.
template <typename Work>
void for_tiles(const LossParams& params, int64_t places,
               const ParallelFor& parallel_for, const Work& work) {
  const int64_t rows = rows_of_tile(places);
  parallel_for((places + rows - 1) / rows, rows * cost_with_candidates(params),
               [&](int64_t begin, int64_t end) {
                 const AlignedScratch scratch(tile_scratch_bytes(params));
                 work(scratch.get(), begin, end);
               });
}

// --- Forward -------------------------------------------------------------------------

// Of query's rows and then of doc's, in one parallel loop.
void inverse_norms(const LossParams& params, const ForwardOutputs& outputs,
                   const ForwardScratch& scratch, const ParallelFor& parallel_for) {
  const int64_t rows = params.batch_size;
  const auto work = [&](int64_t begin, int64_t end) {
    kernels().inverse_norms(params.data_type, params.query, params.dim,
                            std::min(begin, rows), std::min(end, rows),
                            scratch.query_inverse_norms);
    kernels().inverse_norms(params.data_type, params.doc, params.dim,
                            std::max(begin - rows, int64_t{0}),
                            std::max(end - rows, int64_t{0}), outputs.doc_inverse_norm);
  };
  parallel_for(rows + params.num_candidates, cost_alone(params), work);
}

void forward_rows(const LossParams& params, const ForwardOutputs& outputs,
                  const ForwardScratch& scratch, const ParallelFor& parallel_for) {
  const KeyTable keys = fill_key_table(params, scratch.keys);
  parallel_for(params.batch_size, cost_with_candidates(params),
               [&](int64_t begin, int64_t end) {
                 const AlignedScratch thread_scratch(row_scratch_bytes(params));
                 kernels().forward_rows(params, outputs, scratch.query_inverse_norms,
                                        keys, thread_scratch.get(), begin, end);
               });
}

void forward_tiles(const LossParams& params, const ForwardOutputs& outputs,
                   const ForwardScratch& scratch, const ParallelFor& parallel_for) {
  const PlaceOrder order = fill_place_order(params, scratch.ring, parallel_for);
  for_tiles(params, num_query_places(params, order), parallel_for,
            [&](ThreadScratch thread_scratch, int64_t begin, int64_t end) {
              kernels().forward_tiles(params, outputs, scratch.query_inverse_norms,
                                      order, thread_scratch, begin, end);
            });
}

// --- Gradient ------------------------------------------------------------------------

void doc_gradient_tiles(const LossParams& params, const GradientArguments& arguments,
                        const GradientScratch& scratch,
                        const ParallelFor& parallel_for) {
  const PlaceOrder order = fill_place_order(params, scratch.ring, parallel_for);
  for_tiles(params, params.num_candidates, parallel_for,
            [&](ThreadScratch thread_scratch, int64_t begin, int64_t end) {
              kernels().doc_gradient_tiles(params, arguments, scratch.rows_of_query,
                                           order, thread_scratch, begin, end);
            });
}

// Processor cycles of a document on average: where C is larger than B, most are alone.
int64_t cost_of_doc(const LossParams& params) {
  const double drawn = static_cast<double>(params.batch_size) /
                       static_cast<double>(std::max<int64_t>(params.num_candidates, 1));
  return cost_alone(params) +
         static_cast<int64_t>(drawn * cost_with_candidates(params));
}

// Calls work(rows of the documents, first, last) for ranges that make up all documents.
template <typename Work>
void for_ranges_of_docs(const LossParams& params, const GradientScratch& scratch,
                        const ParallelFor& parallel_for, const Work& work) {
  // Over the batch no candidate enters the loss.
  if (params.normalize_over == NormalizeOver::kBatch) {
    work(RowsOfDocs{}, 0, params.num_candidates);
  } else if (needs_inverted_table(params)) {
    for_each_inverted_range(params, {seed_of(params), kernels().permute_range},
                            scratch.table, parallel_for, work);
  } else {
    RowsOfDocs found;
    found.keys = fill_key_table(params, scratch.keys);
    work(found, 0, params.num_candidates);
  }
}

// Rows first..last-1, row i of query's gradient beside row i of doc's: one parallel
// loop for both. `rows_of_docs` is null where doc's gradient is not asked for.
void gradient_range(const LossParams& params, const GradientArguments& arguments,
                    const GradientScratch& scratch, const RowsOfDocs* rows_of_docs,
                    int64_t first, int64_t last, const ParallelFor& parallel_for) {
  const auto work = [&](int64_t begin, int64_t end) {
    begin += first;
    end += first;
    if (arguments.query_gradient != nullptr) {
      kernels().query_gradient_rows(params, arguments, scratch.rows_of_query,
                                    std::min(begin, params.batch_size),
                                    std::min(end, params.batch_size));
    }
    if (rows_of_docs != nullptr) {
      const AlignedScratch thread_scratch(row_scratch_bytes(params));
      kernels().doc_gradient_rows(params, arguments, scratch.rows_of_query,
                                  *rows_of_docs, thread_scratch.get(), begin, end);
    }
  };
  parallel_for(last - first,
               rows_of_docs != nullptr ? cost_of_doc(params) : cost_alone(params),
               work);
}

void gradient_rows(const LossParams& params, const GradientArguments& arguments,
                   const GradientScratch& scratch, const ParallelFor& parallel_for) {
  const auto run = [&](const RowsOfDocs* rows_of_docs, int64_t first, int64_t last) {
    gradient_range(params, arguments, scratch, rows_of_docs, first, last, parallel_for);
  };
  if (arguments.doc_gradient == nullptr || draws_by_place(params)) {
    return run(nullptr, 0, params.num_candidates);
  }
  for_ranges_of_docs(params, scratch, parallel_for,
                     [&](const RowsOfDocs& rows_of_docs, int64_t first, int64_t last) {
                       run(&rows_of_docs, first, last);
                     });
}

// --- The sampler's table -------------------------------------------------------------

void sample_by_place(const LossParams& params, const PlaceOrder& order,
                     int32_t* table) {
  const int64_t count = params.num_negatives;
  for (int64_t place = 0; place < params.num_candidates; ++place) {
    const int64_t row = order.index_at(place);
    for (int64_t k = 0; row < params.batch_size && k < count; ++k) {
      table[row * count + k] = static_cast<int32_t>(order.index_at(place + 1 + k));
    }
  }
}

void sample_by_shuffle(const LossParams& params, const KeyTable& keys, int32_t* table,
                       const ParallelFor& parallel_for) {
  const int64_t count = params.num_negatives;
  parallel_for(params.batch_size, count * 20, [&](int64_t begin, int64_t end) {
    const AlignedScratch scratch(keys.stride * int64_t{sizeof(int32_t)});
    kernels().sample_rows(keys, count, scratch.get(), begin, end, table);
  });
}

}  // namespace

int64_t forward_scratch_bytes(const LossParams& params) {
  return ForwardLayout(params).total;
}

int64_t gradient_scratch_bytes(const LossParams& params) {
  return GradientLayout(params).total;
}

Status forward(const LossParams& params, const ForwardOutputs& outputs,
               const ParallelFor& parallel_for) {
  if (!instruction_set_status().ok()) return instruction_set_status();
  const ScopedFloatMode float_mode;
  if (Status status = check_values(params); !status.ok()) return status;
  if (Status status = check_indices(params, parallel_for); !status.ok()) return status;
  const ForwardScratch scratch = ForwardLayout(params).at(params.scratch);
  inverse_norms(params, outputs, scratch, parallel_for);
  if (draws_by_place(params)) {
    forward_tiles(params, outputs, scratch, parallel_for);
  } else {
    forward_rows(params, outputs, scratch, parallel_for);
  }
  finish_forward(params, outputs);
  return Status::Ok();
}

Status gradient(const LossParams& params, const GradientArguments& arguments,
                const ParallelFor& parallel_for) {
  if (!instruction_set_status().ok()) return instruction_set_status();
  const ScopedFloatMode float_mode;
  if (Status status = check_indices(params, parallel_for); !status.ok()) return status;
  const GradientScratch scratch = GradientLayout(params).at(params.scratch);
  load_rows_of_query(params, arguments, coefficient_sum(params, arguments),
                     scratch.rows_of_query, parallel_for);
  scalar_gradients(params, arguments, scratch.rows_of_query);
  if (arguments.doc_gradient != nullptr && draws_by_place(params)) {
    doc_gradient_tiles(params, arguments, scratch, parallel_for);
  }
  gradient_rows(params, arguments, scratch, parallel_for);
  return Status::Ok();
}

void sample_negatives(const LossParams& params, int32_t* table,
                      const ParallelFor& parallel_for) {
  const ForwardScratch scratch = ForwardLayout(params).at(params.scratch);
  if (draws_by_place(params)) {
    sample_by_place(params, fill_place_order(params, scratch.ring, parallel_for),
                    table);
  } else {
    sample_by_shuffle(params, fill_key_table(params, scratch.keys), table,
                      parallel_for);
  }
}

}  // namespace negative_cosine::cpu
