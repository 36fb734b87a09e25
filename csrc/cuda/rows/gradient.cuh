// The gradient pass: a warp (a block for a long row) takes one document row through all
// queries that drew it, and scales one query's saved direction.
//
// The softmax weight of a pair is recomputed from one product and the query's saved
// values: a_i p_ij is e^(t_ij - shift_i) times its coefficient. So no two warps add to
// the same row, and nothing of the size B * K is stored. A query whose coefficient is 0
// takes no part. The formulas are in core/formulas.h.
#pragma once

#include "core/formulas.h"
#include "cuda/candidates/candidates.cuh"
#include "cuda/device/block.cuh"
#include "cuda/device/scratch.h"
#include "cuda/rows/rows.cuh"
#include "cuda/rows/saved.cuh"

namespace negative_cosine {
namespace cuda {

// Adds the queries that drew `doc` to `sums`; returns their part of H . d.
template <typename Rows>
__device__ __forceinline__ typename Rows::Real sum_over_queries(
    const LossParams& params, const GradientArguments& arguments,
    const GradientScratch& scratch, const CandidateSource& source, const Rows& rows,
    int64_t doc, const typename Rows::Unit& unit, typename Rows::Real margin,
    typename Rows::Sums* sums) {
  using Real = typename Rows::Real;
  const auto* queries = static_cast<const typename Rows::Storage*>(params.query);
  const Real scale = logit_scale_of<Real>(params);
  const Real doc_log_q = log_q_at<Real>(params, doc);
  const bool by_table = scratch.rows_of_docs.starts != nullptr;
  const int64_t begin = by_table ? __ldg(scratch.rows_of_docs.starts + doc) : 0;
  const int64_t end =
      by_table ? __ldg(scratch.rows_of_docs.starts + doc + 1) : params.num_negatives;

  const CandidateSource::Start first_row = source.start(doc);

  Real projection = 0;
  for (int64_t start = begin; start < end; start += kWarpSize) {
    const int64_t k = start + lane_of_thread();
    int32_t mine = kNotKept;
    if (!by_table) {
      mine = source.row_that_drew(params, first_row, doc, k);
    } else if (k < end) {
      mine = __ldg(scratch.rows_of_docs.rows + k);
    }
    SavedRow<Real> my_values{0, 0, 0, 0};
    if (mine != kNotKept) {
      my_values = weighted_values_of_row<Real>(params, arguments, mine);
      if (my_values.candidate_coefficient == 0) {
        mine = kNotKept;
        my_values = {0, 0, 0, 0};
      }
    }
    const Real my_log_q = mine == kNotKept ? Real(0) : log_q_at<Real>(params, mine);
    const unsigned kept = __ballot_sync(kWholeWarp, mine != kNotKept);

    for (int first = 0; first < kWarpSize && kept >> first != 0;
         first += Rows::kFragmentRows) {
      const typename Rows::Fragment fragment = rows.load_fragment(queries, mine, first);
      const Real dot = rows.template products<false>(unit, fragment).dot;

      const int number = first + Rows::product_of_lane();
      const bool is_kept = (kept >> number & 1u) != 0;
      const SavedRow<Real> values = values_of_lane(my_values, number);
      const Real row_log_q = params.doc_log_q == nullptr
                                 ? Real(0)
                                 : __shfl_sync(kWholeWarp, my_log_q, number);
      const Real cosine = cosine_of(dot, values.query_inverse_norm);
      const Real logit = relative_logit(scale, margin, cosine, values.positive_cosine,
                                        doc_log_q, row_log_q);
      const Real weight =
          is_kept ? exp_of(logit - values.shift) * values.candidate_coefficient
                  : Real(0);
      projection = multiply_add(weight, cosine, projection);
      rows.add_weighted(fragment, weight * values.query_inverse_norm, sums);
    }
  }
  return sum_over_lanes<kWarpSize / 2, Rows::kLanesPerProduct>(projection);
}

template <typename Rows>
__device__ __forceinline__ void doc_gradient_row(
    const LossParams& params, const GradientArguments& arguments,
    const GradientScratch& scratch, const CandidateSource& source, const Rows& rows,
    int64_t doc, typename Rows::Real margin, typename Rows::Real* sum_memory) {
  using Storage = typename Rows::Storage;
  using Real = typename Rows::Real;
  const Real doc_inverse_norm =
      __ldg(static_cast<const Real*>(arguments.doc_inverse_norm) + doc);
  const typename Rows::Unit unit = rows.load_unit_of_norm(
      static_cast<const Storage*>(params.doc) + doc * params.dim, doc_inverse_norm);
  typename Rows::Sums sums = rows.no_sums(sum_memory);
  Real projection = 0;
  if (params.normalize_over == NormalizeOver::kCandidates) {
    projection = sum_over_queries(params, arguments, scratch, source, rows, doc, unit,
                                  margin, &sums);
  }

  const Storage* own_query = nullptr;
  Real own_weight = 0;
  const Real coefficient =
      doc < params.batch_size
          ? coefficients_of_row<Real>(params, arguments, scratch.coefficient_sum, doc)
                .doc
          : Real(0);
  if (coefficient != 0) {
    const SavedRow<Real> own = saved_values_of_row<Real>(arguments, doc);
    own_query = static_cast<const Storage*>(params.query) + doc * params.dim;
    own_weight = coefficient * own.query_inverse_norm;
    projection = multiply_add(coefficient, own.positive_cosine, projection);
  }
  const bool is_unused = is_unused_nan(doc_inverse_norm, projection);
  const Real factor = logit_scale_of<Real>(params) * doc_inverse_norm;
  const auto combine = [&](Real unit_element, Real sum, Real query_element) {
    const Real along = multiply_add(own_weight, query_element, sum);
    return is_unused ? Real(0) : (along - unit_element * projection) * factor;
  };
  rows.store(unit, sums, own_query, combine,
             static_cast<Storage*>(arguments.doc_gradient) + doc * params.dim);
}

template <typename Real>
__device__ __forceinline__ void store_weight_gradient(
    const LossParams& params, const GradientArguments& arguments, int64_t row) {
  if (arguments.sample_weight_gradient == nullptr) return;
  const Real row_loss = row_loss_of<Real>(arguments, row);
  __stcs(static_cast<Real*>(arguments.sample_weight_gradient) + row,
         upstream_of_row<Real>(params, arguments, row) *
             weight_gradient(params, row, row_loss));
}

template <typename Rows>
__device__ __forceinline__ void query_gradient_row(const LossParams& params,
                                                   const GradientArguments& arguments,
                                                   const GradientScratch& scratch,
                                                   const Rows& rows, int64_t row) {
  using Storage = typename Rows::Storage;
  using Real = typename Rows::Real;
  if (Rows::is_first_lane()) store_weight_gradient<Real>(params, arguments, row);
  if (arguments.query_gradient == nullptr) return;
  const Real coefficient =
      coefficients_of_row<Real>(params, arguments, scratch.coefficient_sum, row).query;
  rows.store_multiple(
      static_cast<const Real*>(arguments.query_direction) + row * params.dim,
      zero_safe_product(coefficient, logit_scale_of<Real>(params)),
      static_cast<Storage*>(arguments.query_gradient) + row * params.dim);
}

// d loss / d logit_scale: one block sums over the rows, several a thread in flight.
template <typename Real>
__device__ __forceinline__ void logit_scale_gradient(const LossParams& params,
                                                     const GradientArguments& arguments,
                                                     const GradientScratch& scratch) {
  constexpr int kAtOnce = 8;
  const auto* scale_gradients = static_cast<const Real*>(arguments.row_scale_gradient);
  double sum = 0;
  for (int64_t start = threadIdx.x; start < params.batch_size;
       start += int64_t{kAtOnce} * blockDim.x) {
    Real coefficient[kAtOnce];
    Real scale_gradient[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t row = start + int64_t{i} * blockDim.x;
      const bool exists = row < params.batch_size;
      coefficient[i] =
          coefficients_of_row<Real>(params, arguments, scratch.coefficient_sum,
                                    exists ? row : start)
              .query;
      scale_gradient[i] = exists ? __ldg(scale_gradients + row) : Real(0);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      sum += zero_safe_product(coefficient[i], scale_gradient[i]);
    }
  }
  sum = sum_over_block(sum);
  if (threadIdx.x == 0) {
    __stcs(static_cast<Real*>(arguments.logit_scale_gradient), static_cast<Real>(sum));
  }
}

// Block 0 sums the gradient of the scale beside the blocks that work on rows.
template <typename Rows>
__global__ void __launch_bounds__(kMostWarpsPerBlock* kWarpSize,
                                  Rows::kBlocksPerMultiprocessor)
    gradient_rows_kernel(const LossParams params, const GradientArguments arguments,
                         const GradientScratch scratch,
                         const RowSettings<typename Rows::Real> settings) {
  using Real = typename Rows::Real;
  if (blockIdx.x == 0) {
    if (arguments.logit_scale_gradient != nullptr) {
      logit_scale_gradient<Real>(params, arguments, scratch);
    }
    return;
  }
  const Rows rows(params.dim, settings.piece_bytes);
  const CandidateSource source(params, settings.shape);
  __syncthreads();
  constexpr int kThreads = Rows::kWarps * kWarpSize;  // of a row
  const int64_t rows_per_block = blockDim.x / kThreads;
  const int64_t first_row = (blockIdx.x - 1) * rows_per_block + threadIdx.x / kThreads;
  Real* sum_memory = Rows::kNeedsSumMemory
                         ? static_cast<Real*>(scratch.sums) + first_row * params.dim
                         : nullptr;
  for (int64_t row = first_row; row < params.num_candidates;
       row += (gridDim.x - 1) * rows_per_block) {
    if (row < params.batch_size) {
      query_gradient_row(params, arguments, scratch, rows, row);
    }
    if (arguments.doc_gradient != nullptr) {
      doc_gradient_row(params, arguments, scratch, source, rows, row, settings.margin,
                       sum_memory);
    }
  }
}

}  // namespace cuda
}  // namespace negative_cosine
