// The gradient pass: a query row scales its saved direction, a document row meets again
// the rows that drew it.
//
// With a_i = d loss / d row_loss_i (row_coefficient) and p_ij the softmax weight of
// document j in row i, recomputed from one dot product and the row's saved loss
// (p_ij = e^(t_ij - loss_i)), and e_j the positive's own a_j (p_j0 - 1):
//
//   d loss / d query_i = logit_scale a_i direction_i
//   d loss / d doc_j   = logit_scale (H - (H . d) d) / |doc_j|,
//   H = sum over rows i that kept j of a_i p_ij q_i + e_j q_j.
#pragma once

#include <cstdint>

#include "cpu/candidates.h"
#include "cpu/workspace.h"

namespace negative_cosine {
namespace NEGATIVE_COSINE_ISA {

NEGATIVE_COSINE_INLINE float expm1_of(float x) { return __builtin_expm1f(x); }
NEGATIVE_COSINE_INLINE double expm1_of(double x) { return __builtin_expm1(x); }

template <typename Storage>
NEGATIVE_COSINE_INLINE void query_gradient_row(
    const LossParams& params, const GradientArguments& arguments,
    const ComputeType<Storage>* row_coefficient,
    const RowShape<ComputeType<Storage>>& shape, int64_t row) {
  using Real = ComputeType<Storage>;
  const Real factor = logit_scale_of<Real>(params) * row_coefficient[row];
  const auto* direction =
      static_cast<const Real*>(arguments.query_direction) + row * shape.dim;
  auto* gradient = static_cast<Storage*>(arguments.query_gradient) + row * shape.dim;
  store_row(
      shape, direction, [&](int64_t, Vector<Real> vector) { return vector * factor; },
      gradient);
}

// weights[c] = a_i p_ij for the block's rows i.
template <typename Storage>
NEGATIVE_COSINE_INLINE void recompute_weights(
    const LossParams& params, const GradientArguments& arguments,
    const ComputeType<Storage>* row_coefficient, int64_t doc, Block<Storage>* block) {
  using Real = ComputeType<Storage>;
  const Real scale = logit_scale_of<Real>(params);
  const Real margin = static_cast<Real>(params.margin);
  const Real log_q = log_q_at<Real>(params, doc);
  Real positive_cosines[kBlock] = {};
  Real row_losses[kBlock] = {};
  Real coefficients[kBlock] = {};
  Real positive_log_q[kBlock] = {};
  gather(static_cast<const Real*>(arguments.positive_cosine), *block, positive_cosines);
  gather(static_cast<const Real*>(arguments.row_loss), *block, row_losses);
  gather(row_coefficient, *block, coefficients);
  if (params.doc_log_q != nullptr) {
    gather(static_cast<const Real*>(params.doc_log_q), *block, positive_log_q);
  }
  for (int c = 0; c < kBlock; ++c) {
    const Real logit = relative_logit(scale, margin, block->cosines[c],
                                      positive_cosines[c], log_q, positive_log_q[c]);
    block->logits[c] = c < block->count ? logit - row_losses[c] : -infinity<Real>();
  }
  for (int c = 0; c < kBlock; c += kLanes<Real>) {
    store(block->weights + c,
          exponential(load(block->logits + c)) * load(coefficients + c));
  }
}

// e_j: what the positive's own row contributes, if document j has one.
template <typename Real>
NEGATIVE_COSINE_INLINE Real positive_coefficient(const LossParams& params,
                                                 const GradientArguments& arguments,
                                                 const Real* row_coefficient,
                                                 int64_t row) {
  if (params.normalize_over == NormalizeOver::kBatch) return row_coefficient[row];
  return row_coefficient[row] *
         expm1_of(-static_cast<const Real*>(arguments.row_loss)[row]);
}

template <typename Storage>
NEGATIVE_COSINE_INLINE void doc_gradient_row(
    const LossParams& params, const GradientArguments& arguments,
    const ComputeType<Storage>* row_coefficient,
    const RowShape<ComputeType<Storage>>& shape,
    const Workspace<ComputeType<Storage>>& work, int64_t doc, const IndexList& rows,
    const IndexList& next_rows) {
  using Real = ComputeType<Storage>;
  const auto* queries = static_cast<const Storage*>(params.query);
  const auto* query_inverse_norms =
      static_cast<const Real*>(arguments.query_inverse_norm);
  const auto* doc_row = static_cast<const Storage*>(params.doc) + doc * shape.dim;
  const Real doc_inverse_norm =
      static_cast<const Real*>(arguments.doc_inverse_norm)[doc];

  prefetch_row(shape, doc_row + shape.dim);
  load_unit_row(shape, doc_row, doc_inverse_norm, work.unit);
  __builtin_memset(work.sums, 0, sizeof(Real) * static_cast<size_t>(shape.padded()));

  Vector<Real> cosine_sums = {};  // H . d
  for (int64_t start = 0; start < rows.count; start += kBlock) {
    Block<Storage> block;
    load_block(shape, work.unit, queries, query_inverse_norms,
               block_of(rows, next_rows, start),
               block_of(rows, next_rows, start + kBlock), &block);
    recompute_weights(params, arguments, row_coefficient, doc, &block);
    for (int c = 0; c < kBlock; c += kLanes<Real>) {
      const Vector<Real> weights = load(block.weights + c);
      cosine_sums = multiply_add(weights, load(block.cosines + c), cosine_sums);
      store(block.weights + c, weights * load(block.inverse_norms + c));
    }
    add_weighted_rows(shape, block.rows, block.weights, block.count, work.sums);
  }

  Real projection = sum_of_lanes(cosine_sums);
  if (doc < params.batch_size) {
    const Real coefficient =
        positive_coefficient(params, arguments, row_coefficient, doc);
    const Storage* query = queries + doc * shape.dim;
    const Real weight = coefficient * query_inverse_norms[doc];
    add_weighted_rows(shape, &query, &weight, 1, work.sums);
    projection +=
        coefficient * static_cast<const Real*>(arguments.positive_cosine)[doc];
  }

  const Real factor = logit_scale_of<Real>(params) * doc_inverse_norm;
  const auto combine = [&](int64_t offset, Vector<Real>) {
    return (load(work.sums + offset) - load(work.unit + offset) * projection) * factor;
  };
  store_row(shape, doc_row, combine,
            static_cast<Storage*>(arguments.doc_gradient) + doc * shape.dim);
}

}  // namespace NEGATIVE_COSINE_ISA
}  // namespace negative_cosine
