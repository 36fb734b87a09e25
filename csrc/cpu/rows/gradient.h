// The gradient pass: a query row scales its saved direction, a document row meets again
// the rows that drew it.
//
// The formulas are in core/loss_formulas.h; the softmax weight of document j in row i
// is recomputed from one dot product and the row's saved facts: a_i p_ij = e^(t_ij -
// shift_i) times the row's coefficient. A row whose coefficient is 0 takes no part.
#pragma once

#include <cstdint>

#include "core/formulas.h"
#include "cpu/candidates/candidates.h"
#include "cpu/rows/panel.h"

namespace negative_cosine {
namespace NEGATIVE_COSINE_ISA {

template <typename Storage>
NEGATIVE_COSINE_INLINE void query_gradient_row(
    const LossParams& params, const GradientArguments& arguments,
    const RowsOfQuery<ComputeType<Storage>>& rows,
    const RowShape<ComputeType<Storage>>& shape, int64_t row) {
  using Real = ComputeType<Storage>;
  const Real coefficient = rows.coefficients[row].query;
  const Real factor = logit_scale_of<Real>(params) * coefficient;
  const auto* direction =
      static_cast<const Real*>(arguments.query_direction) + row * shape.dim;
  auto* gradient = static_cast<Storage*>(arguments.query_gradient) + row * shape.dim;
  if (coefficient == 0) return store_zeros(shape, gradient);
  store_row(
      shape, direction, [&](int64_t, Vector<Real> vector) { return vector * factor; },
      gradient);
}

// The facts of a block's rows, one array each; zero where not in use.
template <typename Real>
struct BlockFacts {
  Real coefficients[kBlock] = {};
  Real positive_cosines[kBlock] = {};
  Real shifts[kBlock] = {};
  Real log_q[kBlock] = {};
};

template <typename Real>
NEGATIVE_COSINE_INLINE void set_facts(const RowFacts<Real>& row, int column,
                                      BlockFacts<Real>* block) {
  block->coefficients[column] = row.candidate_coefficient;
  block->positive_cosines[column] = row.positive_cosine;
  block->shifts[column] = row.shift;
}

// In place of a row that takes no part stands one of zeros, without direction.
template <typename Storage>
NEGATIVE_COSINE_INLINE void gather_facts(const LossParams& params,
                                         const RowFacts<ComputeType<Storage>>* facts,
                                         const Storage* zeros, Block<Storage>* block,
                                         BlockFacts<ComputeType<Storage>>* gathered) {
  using Real = ComputeType<Storage>;
  for (int c = 0; c < block->count; ++c) {
    const RowFacts<Real> row = facts[block->indices[c]];
    if (row.candidate_coefficient == 0) {
      block->rows[c] = zeros;
      continue;
    }
    set_facts(row, c, gathered);
    block->inverse_norms[c] = row.query_inverse_norm;
  }
  if (params.doc_log_q != nullptr) {
    gather(static_cast<const Real*>(params.doc_log_q), *block, gathered->log_q);
  }
}

// weights[c] = a_i p_ij for the block's rows i.
template <typename Storage>
NEGATIVE_COSINE_INLINE void recompute_weights(
    const LossParams& params, const BlockFacts<ComputeType<Storage>>& facts,
    int64_t doc, Block<Storage>* block) {
  using Real = ComputeType<Storage>;
  const Real scale = logit_scale_of<Real>(params);
  const Real margin = static_cast<Real>(params.margin);
  const Real log_q = log_q_at<Real>(params, doc);
  for (int c = 0; c < kBlock; ++c) {
    const Real logit = relative_logit(scale, margin, block->cosines[c],
                                      facts.positive_cosines[c], log_q, facts.log_q[c]);
    block->logits[c] = c < block->count ? logit - facts.shifts[c] : -kInfinity<Real>;
  }
  for (int c = 0; c < kBlock; c += kLanes<Real>) {
    store(block->weights + c,
          exponential(load(block->logits + c)) * load(facts.coefficients + c));
  }
}

// Adds the document's own query and writes the gradient; `projection` is H . d of the
// rows that drew it.
template <typename Storage>
NEGATIVE_COSINE_INLINE void finish_doc_gradient(
    const LossParams& params, const GradientArguments& arguments,
    const RowsOfQuery<ComputeType<Storage>>& rows,
    const RowShape<ComputeType<Storage>>& shape, const ComputeType<Storage>* unit,
    ComputeType<Storage>* sums, ComputeType<Storage> projection, int64_t doc) {
  using Real = ComputeType<Storage>;
  const Real coefficient = doc < params.batch_size ? rows.coefficients[doc].doc : 0;
  if (coefficient != 0) {
    const RowFacts<Real> own = rows.facts[doc];
    const Storage* query = static_cast<const Storage*>(params.query) + doc * shape.dim;
    const Real weight = coefficient * own.query_inverse_norm;
    add_weighted_rows(shape, &query, &weight, 1, sums);
    projection += coefficient * own.positive_cosine;
  }
  const Real inverse_norm = static_cast<const Real*>(arguments.doc_inverse_norm)[doc];
  auto* gradient = static_cast<Storage*>(arguments.doc_gradient) + doc * shape.dim;
  if (is_unused_nan(inverse_norm, projection)) return store_zeros(shape, gradient);
  const Real factor = logit_scale_of<Real>(params) * inverse_norm;
  const auto combine = [&](int64_t offset, Vector<Real>) {
    return (load(sums + offset) - load(unit + offset) * projection) * factor;
  };
  store_row(shape, static_cast<const Storage*>(params.doc) + doc * shape.dim, combine,
            gradient);
}

template <typename Storage>
NEGATIVE_COSINE_INLINE void doc_gradient_row(
    const LossParams& params, const GradientArguments& arguments,
    const RowsOfQuery<ComputeType<Storage>>& rows_of_query,
    const RowShape<ComputeType<Storage>>& shape,
    const Workspace<ComputeType<Storage>>& work, int64_t doc, const IndexList& rows,
    const IndexList& next_rows) {
  using Real = ComputeType<Storage>;
  const auto* queries = static_cast<const Storage*>(params.query);
  const auto* doc_row = static_cast<const Storage*>(params.doc) + doc * shape.dim;
  const Real doc_inverse_norm =
      static_cast<const Real*>(arguments.doc_inverse_norm)[doc];

  prefetch_row(shape, doc_row + shape.dim);
  load_unit_row(shape, doc_row, doc_inverse_norm, work.unit);
  __builtin_memset(work.sums, 0, sizeof(Real) * static_cast<size_t>(shape.padded()));

  const bool in_reach = is_in_reach<Storage>(params, params.batch_size);
  Vector<Real> cosine_sums = {};  // H . d
  for (int64_t start = 0; start < rows.count; start += kBlock) {
    Block<Storage> block;
    BlockFacts<Real> block_facts;
    start_block(shape, queries, block_of(rows, next_rows, start), &block);
    gather_facts(params, rows_of_query.facts,
                 reinterpret_cast<const Storage*>(work.zeros), &block, &block_facts);
    compute_cosines(
        shape, work.unit, queries,
        in_reach ? IndexList{nullptr, 0} : block_of(rows, next_rows, start + kBlock),
        &block);
    recompute_weights(params, block_facts, doc, &block);
    for (int c = 0; c < kBlock; c += kLanes<Real>) {
      const Vector<Real> weights = load(block.weights + c);
      cosine_sums = multiply_add(weights, load(block.cosines + c), cosine_sums);
      store(block.weights + c, weights * load(block.inverse_norms + c));
    }
    add_weighted_rows(shape, block.rows, block.weights, block.count, work.sums);
  }

  finish_doc_gradient<Storage>(params, arguments, rows_of_query, shape, work.unit,
                               work.sums, sum_of_lanes(cosine_sums), doc);
}

}  // namespace NEGATIVE_COSINE_ISA
}  // namespace negative_cosine
