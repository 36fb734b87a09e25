// The forward and gradient passes on the CPU: their steps, each a parallel loop over
// rows or a sum in the order of the rows.
#include "cpu/passes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/formulas.h"
#include "core/inputs.h"
#include "core/sampler.h"
#include "cpu/candidates/index_check.h"
#include "cpu/candidates/inverted_table.h"
#include "cpu/candidates/value_check.h"
#include "cpu/device/aligned_scratch.h"
#include "cpu/device/float_mode.h"
#include "cpu/kernel_table.h"

namespace negative_cosine {
namespace {

bool draws_by_seed(const LossParams& params) {
  return params.negative_indices == nullptr;
}

bool draws_on_ring(const LossParams& params) {
  return draws_by_seed(params) && params.sampler == Sampler::kRing;
}

// Whether candidates lie side by side: on the ring, or as all documents in their order.
bool draws_by_place(const LossParams& params) {
  return draws_by_seed(params) && params.sampler != Sampler::kShuffle;
}

bool draws_by_shuffle(const LossParams& params) {
  return draws_by_seed(params) && params.sampler == Sampler::kShuffle;
}

SeedState seed_of(const LossParams& params) {
  return seed_state(load_index(params.seed, params.seed_type, 0),
                    load_index(params.seed, params.seed_type, 1));
}

int64_t ring_bytes(const LossParams& params) {
  if (!draws_on_ring(params) || params.num_candidates == 0) return 0;
  return params.num_candidates * int64_t{sizeof(int32_t)};
}

PlaceOrder fill_order(const LossParams& params, int32_t* ring,
                      const CpuKernels& kernels, const ParallelFor& parallel_for) {
  if (ring_bytes(params) == 0) return PlaceOrder{params.num_candidates, nullptr};
  const SeedState state = seed_of(params);
  parallel_for(params.num_candidates, 20, [&](int64_t begin, int64_t end) {
    kernels.ring_order(params.num_candidates, state, begin, end, ring);
  });
  return PlaceOrder{params.num_candidates, ring};
}

int64_t key_stride(const LossParams& params) {
  return round_up(params.num_negatives, 16);
}

int64_t key_table_bytes(const LossParams& params) {
  if (!draws_by_shuffle(params)) return 0;
  const int64_t rounds = feistel_shape(params.num_candidates).rounds;
  return rounds * key_stride(params) * int64_t{sizeof(uint32_t)};
}

KeyTable fill_key_table(const LossParams& params, uint32_t* keys) {
  if (!draws_by_shuffle(params)) return KeyTable{};
  const SeedState state = seed_of(params);
  const KeyTable table{feistel_shape(params.num_candidates), keys, params.num_negatives,
                       key_stride(params)};
  for (int64_t k = 0; k < table.stride; ++k) {
    const PermutationKeys permutation(state, static_cast<uint32_t>(k + 1));
    for (int round = 0; round < table.shape.rounds; ++round) {
      keys[round * table.stride + k] = permutation(round);
    }
  }
  return table;
}

// Processor cycles of one row that meets K others: K dot products and K weighted sums
// of D elements, the hash, and the row's own fixed work.
int64_t row_cost(const LossParams& params) {
  return 200 + params.num_negatives * (20 + params.dim / 4);
}

template <typename Real>
const Real* typed(const void* values) {
  return static_cast<const Real*>(values);
}

// The forward pass's parts of params.scratch, one behind the other.
struct ForwardScratch {
  explicit ForwardScratch(const LossParams& params)
      : ring_offset(round_up(key_table_bytes(params), 64)),
        query_inverse_norms_offset(ring_offset + round_up(ring_bytes(params), 64)),
        total(query_inverse_norms_offset +
              params.batch_size * compute_size_of(params.data_type)) {}

  const int64_t ring_offset;
  const int64_t query_inverse_norms_offset;
  const int64_t total;
};

KeyTable forward_keys(const LossParams& params) {
  return fill_key_table(params, static_cast<uint32_t*>(params.scratch));
}

PlaceOrder forward_order(const LossParams& params, const CpuKernels& kernels,
                         const ParallelFor& parallel_for) {
  char* ring = static_cast<char*>(params.scratch) + ForwardScratch(params).ring_offset;
  return fill_order(params, reinterpret_cast<int32_t*>(ring), kernels, parallel_for);
}

// Runs work(scratch, begin, end) over the tiles of some places.
template <typename Work>
void for_tiles(const LossParams& params, int64_t places,
               const ParallelFor& parallel_for, const Work& work) {
  const int64_t tiles = (places + kTileRows - 1) / kTileRows;
  parallel_for(tiles, kTileRows * row_cost(params), [&](int64_t begin, int64_t end) {
    const AlignedScratch scratch(tile_scratch_bytes(params));
    work(scratch.get(), begin, end);
  });
}

// The inverse norms of query's and then of doc's rows, in one parallel loop.
void inverse_norms(const LossParams& params, const ForwardOutputs& outputs,
                   void* query_inverse_norms, const CpuKernels& kernels,
                   const ParallelFor& parallel_for) {
  const int64_t rows = params.batch_size;
  const auto work = [&](int64_t begin, int64_t end) {
    kernels.inverse_norms(params.data_type, params.query, params.dim,
                          std::min(begin, rows), std::min(end, rows),
                          query_inverse_norms);
    kernels.inverse_norms(params.data_type, params.doc, params.dim,
                          std::max(begin - rows, int64_t{0}),
                          std::max(end - rows, int64_t{0}), outputs.doc_inverse_norm);
  };
  parallel_for(rows + params.num_candidates, 20 + params.dim / 4, work);
}

// row_loss_over_batch of every row.
template <typename Real>
void softmax_over_batch(const LossParams& params, const ForwardOutputs& outputs) {
  const int64_t rows = params.batch_size;
  if (rows == 0) return;
  auto* row_loss = static_cast<Real*>(outputs.row_loss);
  int64_t largest = 0;
  bool has_nan = false;
  for (int64_t row = 0; row < rows; ++row) {
    row_loss[row] = positive_logit(params, static_cast<Real>(params.margin), row,
                                   typed<Real>(outputs.positive_cosine)[row]);
    has_nan = has_nan || std::isnan(row_loss[row]);
    if (row_loss[row] > row_loss[largest]) largest = row;
  }
  const Real largest_logit =
      has_nan ? std::numeric_limits<Real>::quiet_NaN() : row_loss[largest];
  double others = 0;
  for (int64_t row = 0; row < rows; ++row) {
    if (row != largest) others += std::exp(row_loss[row] - largest_logit);
  }
  for (int64_t row = 0; row < rows; ++row) {
    row_loss[row] = row_loss_over_batch(largest_logit, row_loss[row], others);
  }
}

template <typename Real>
void reduce_loss(const LossParams& params, const ForwardOutputs& outputs) {
  auto* loss = static_cast<Real*>(outputs.loss);
  double sum = 0;
  for (int64_t row = 0; row < params.batch_size; ++row) {
    const Real weighted =
        weighted_loss(params, row, typed<Real>(outputs.row_loss)[row]);
    if (params.reduction == Reduction::kNone) {
      loss[row] = weighted;
    } else {
      sum += weighted;
    }
  }
  if (params.reduction != Reduction::kNone) loss[0] = static_cast<Real>(sum);
}

template <typename Real>
void finish_forward(const LossParams& params, const ForwardOutputs& outputs) {
  if (params.normalize_over == NormalizeOver::kBatch) {
    softmax_over_batch<Real>(params, outputs);
  }
  reduce_loss<Real>(params, outputs);
}

template <typename Real>
Real upstream_of_row(const LossParams& params, const GradientArguments& arguments,
                     int64_t row) {
  const int64_t place = params.reduction == Reduction::kNone ? row : 0;
  return typed<Real>(arguments.loss_gradient)[place];
}

// The saved facts with the upstream gradient in their coefficients. By bytes: the
// caller's memory may be aligned to a Real alone, as NumPy's is.
template <typename Real>
void fill_row_facts(const LossParams& params, const GradientArguments& arguments,
                    int64_t begin, int64_t end, RowFacts<Real>* facts) {
  const auto* saved = static_cast<const char*>(arguments.row_facts);
  constexpr int64_t kSize = sizeof(RowFacts<Real>);
  for (int64_t row = begin; row < end; ++row) {
    std::memcpy(facts + row, saved + row * kSize, kSize);
    facts[row].candidate_coefficient =
        zero_safe_product(facts[row].candidate_coefficient,
                          upstream_of_row<Real>(params, arguments, row));
  }
}

template <typename Real>
double sum_over_batch(const LossParams& params, const GradientArguments& arguments) {
  if (params.normalize_over == NormalizeOver::kCandidates) return 0;
  double sum = 0;
  for (int64_t row = 0; row < params.batch_size; ++row) {
    const Real row_loss = typed<Real>(arguments.row_loss)[row];
    sum += zero_safe_product(loss_coefficient(params, row, row_loss),
                             upstream_of_row<Real>(params, arguments, row));
  }
  return sum;
}

template <typename Real>
void fill_row_coefficients(const LossParams& params, const GradientArguments& arguments,
                           double coefficient_sum, int64_t begin, int64_t end,
                           RowCoefficients<Real>* coefficients) {
  for (int64_t row = begin; row < end; ++row) {
    coefficients[row] = row_coefficients(
        params, row, typed<Real>(arguments.row_loss)[row],
        upstream_of_row<Real>(params, arguments, row), coefficient_sum);
  }
}

template <typename Real>
void scalar_gradients(const LossParams& params, const GradientArguments& arguments,
                      const RowCoefficients<Real>* coefficients) {
  if (arguments.logit_scale_gradient != nullptr) {
    double sum = 0;
    for (int64_t row = 0; row < params.batch_size; ++row) {
      sum += zero_safe_product(coefficients[row].query,
                               typed<Real>(arguments.row_scale_gradient)[row]);
    }
    *static_cast<Real*>(arguments.logit_scale_gradient) = static_cast<Real>(sum);
  }
  if (arguments.sample_weight_gradient == nullptr) return;
  for (int64_t row = 0; row < params.batch_size; ++row) {
    static_cast<Real*>(arguments.sample_weight_gradient)[row] =
        upstream_of_row<Real>(params, arguments, row) *
        weight_gradient(params, row, typed<Real>(arguments.row_loss)[row]);
  }
}

template <typename Call>
void with_compute_type(DataType type, const Call& call) {
  if (type == DataType::kFloat64) return call(double{});
  call(float{});
}

// The gradient pass's parts of params.scratch, one behind the other.
struct GradientScratch {
  explicit GradientScratch(const LossParams& params) {
    // Four numbers a row, see RowFacts, and two, see RowCoefficients.
    const int64_t reals = params.batch_size * compute_size_of(params.data_type);
    const int64_t keys = key_table_bytes(params);
    coefficients_offset = round_up(4 * reals, 64);
    keys_offset = coefficients_offset + round_up(2 * reals, 64);
    ring_offset = keys_offset + round_up(keys, 64);
    table_starts_offset = ring_offset + round_up(ring_bytes(params), 64);
    total = table_starts_offset;
    if (draws_by_seed(params)) return;
    table_rows_offset =
        table_starts_offset + (params.num_candidates + 1) * int64_t{sizeof(int64_t)};
    const int64_t pairs = params.batch_size * params.num_negatives;
    table_cursors_offset =
        round_up(table_rows_offset + pairs * int64_t{sizeof(int32_t)}, 64);
    total = table_cursors_offset + inverted_table_cursor_bytes(params);
  }

  int64_t coefficients_offset = 0;
  int64_t keys_offset = 0;
  int64_t ring_offset = 0;
  int64_t table_starts_offset = 0;
  int64_t table_rows_offset = 0;
  int64_t table_cursors_offset = 0;
  int64_t total = 0;
};

AnyRowsOfQuery prepare_rows_of_query(const LossParams& params,
                                     const GradientArguments& arguments,
                                     const ParallelFor& parallel_for) {
  constexpr int64_t kCyclesOfARow = 60;
  void* facts = params.scratch;
  void* coefficients =
      static_cast<char*>(params.scratch) + GradientScratch(params).coefficients_offset;
  with_compute_type(params.data_type, [&](auto real) {
    using Real = decltype(real);
    auto* row_facts = static_cast<RowFacts<Real>*>(facts);
    auto* row_coefficients = static_cast<RowCoefficients<Real>*>(coefficients);
    const double sum = sum_over_batch<Real>(params, arguments);
    parallel_for(params.batch_size, kCyclesOfARow, [&](int64_t begin, int64_t end) {
      fill_row_facts(params, arguments, begin, end, row_facts);
      fill_row_coefficients(params, arguments, sum, begin, end, row_coefficients);
    });
    scalar_gradients(params, arguments, row_coefficients);
  });
  return {facts, coefficients};
}

RowsOfDocs prepare_rows_of_docs(const LossParams& params,
                                const ParallelFor& parallel_for) {
  const GradientScratch layout(params);
  char* scratch = static_cast<char*>(params.scratch);
  RowsOfDocs source;
  if (params.normalize_over == NormalizeOver::kBatch) return source;
  if (draws_by_seed(params)) {
    source.keys = fill_key_table(
        params, reinterpret_cast<uint32_t*>(scratch + layout.keys_offset));
    return source;
  }
  const InvertedTable table = {
      reinterpret_cast<int64_t*>(scratch + layout.table_starts_offset),
      reinterpret_cast<int32_t*>(scratch + layout.table_rows_offset),
      scratch + layout.table_cursors_offset};
  invert_table(params, table, parallel_for);
  source.table_starts = table.starts;
  source.table_rows = table.rows;
  return source;
}

}  // namespace

namespace cpu {

int64_t forward_scratch_bytes(const LossParams& params) {
  return ForwardScratch(params).total;
}

int64_t gradient_scratch_bytes(const LossParams& params) {
  return GradientScratch(params).total;
}

Status forward(const LossParams& params, const ForwardOutputs& outputs,
               const ParallelFor& parallel_for) {
  if (!cpu_kernels_status().ok()) return cpu_kernels_status();
  const ScopedFloatMode float_mode;
  if (Status status = check_values(params); !status.ok()) return status;
  if (!draws_by_seed(params)) {
    if (Status status = check_indices(params, parallel_for); !status.ok())
      return status;
  }
  const CpuKernels& kernels = cpu_kernels();
  void* query_inverse_norms = static_cast<char*>(params.scratch) +
                              ForwardScratch(params).query_inverse_norms_offset;

  inverse_norms(params, outputs, query_inverse_norms, kernels, parallel_for);
  if (draws_by_place(params)) {
    const PlaceOrder order = forward_order(params, kernels, parallel_for);
    for_tiles(params, num_query_places(params, order), parallel_for,
              [&](RowScratch scratch, int64_t begin, int64_t end) {
                kernels.forward_tiles(params, outputs, query_inverse_norms, order,
                                      scratch, begin, end);
              });
  } else {
    const KeyTable keys = forward_keys(params);
    parallel_for(params.batch_size, row_cost(params), [&](int64_t begin, int64_t end) {
      const AlignedScratch scratch(row_scratch_bytes(params));
      kernels.forward_rows(params, outputs, query_inverse_norms, keys, scratch.get(),
                           begin, end);
    });
  }

  with_compute_type(params.data_type, [&](auto real) {
    finish_forward<decltype(real)>(params, outputs);
  });
  return Status::Ok();
}

Status gradient(const LossParams& params, const GradientArguments& arguments,
                const ParallelFor& parallel_for) {
  if (!cpu_kernels_status().ok()) return cpu_kernels_status();
  const ScopedFloatMode float_mode;
  if (!draws_by_seed(params)) {
    if (Status status = check_indices(params, parallel_for); !status.ok())
      return status;
  }
  const CpuKernels& kernels = cpu_kernels();
  const AnyRowsOfQuery rows_of_query =
      prepare_rows_of_query(params, arguments, parallel_for);
  const bool needs_doc = arguments.doc_gradient != nullptr;
  if (needs_doc && draws_by_place(params)) {
    const GradientScratch layout(params);
    char* ring = static_cast<char*>(params.scratch) + layout.ring_offset;
    const PlaceOrder order =
        fill_order(params, reinterpret_cast<int32_t*>(ring), kernels, parallel_for);
    for_tiles(params, params.num_candidates, parallel_for,
              [&](RowScratch scratch, int64_t begin, int64_t end) {
                kernels.doc_gradient_tiles(params, arguments, rows_of_query, order,
                                           scratch, begin, end);
              });
  }
  // Row i of query's gradient beside row i of doc's: one parallel loop for both.
  const bool by_rows = needs_doc && !draws_by_place(params);
  const RowsOfDocs rows_of_docs =
      by_rows ? prepare_rows_of_docs(params, parallel_for) : RowsOfDocs{};

  const auto work = [&](int64_t begin, int64_t end) {
    if (arguments.query_gradient != nullptr) {
      kernels.query_gradient_rows(params, arguments, rows_of_query,
                                  std::min(begin, params.batch_size),
                                  std::min(end, params.batch_size));
    }
    if (by_rows) {
      const AlignedScratch scratch(row_scratch_bytes(params));
      kernels.doc_gradient_rows(params, arguments, rows_of_query, rows_of_docs,
                                scratch.get(), begin, end);
    }
  };
  const int64_t cost = by_rows ? row_cost(params) : 20 + params.dim / 4;
  parallel_for(params.num_candidates, cost, work);
  return Status::Ok();
}

void sample_negatives(const LossParams& params, int32_t* table,
                      const ParallelFor& parallel_for) {
  const CpuKernels& kernels = cpu_kernels();
  const int64_t count = params.num_negatives;
  if (draws_by_place(params)) {
    const PlaceOrder order = forward_order(params, kernels, parallel_for);
    for (int64_t place = 0; place < params.num_candidates; ++place) {
      const int64_t row = order.index_at(place);
      for (int64_t k = 0; row < params.batch_size && k < count; ++k) {
        table[row * count + k] = static_cast<int32_t>(order.index_at(place + 1 + k));
      }
    }
    return;
  }
  const KeyTable keys = forward_keys(params);

  parallel_for(params.batch_size, count * 20, [&](int64_t begin, int64_t end) {
    const AlignedScratch scratch(keys.stride * int64_t{sizeof(int32_t)});
    kernels.sample_rows(keys, count, scratch.get(), begin, end, table);
  });
}

}  // namespace cpu
}  // namespace negative_cosine
