// The forward pass: a warp (a block for a long row) takes one query row through all of
// its candidates.
//
// Load the row; the mainloop over fragments of candidates: load, product, softmax,
// accumulate; the epilogue: store. The sums are online, relative to a running maximum
// (Milakov and Gimelshein, 2018), and the query's direction is summed beside them as
// FlashAttention sums its output. Where no logit can leave [-kSafeLogit, kSafeLogit]
// the maximum is not needed. The formulas are in core/formulas.h.
#pragma once

#include "core/formulas.h"
#include "cuda/candidates/candidates.cuh"
#include "cuda/device/block.cuh"
#include "cuda/device/scratch.h"
#include "cuda/rows/rows.cuh"
#include "cuda/rows/safe_logits.cuh"
#include "cuda/rows/saved.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Rows>
struct ForwardState {
  using Real = typename Rows::Real;
  // A lane's own part, with each candidate in Rows::kLanesPerProduct lanes.
  CandidateSums<Real> softmax{0, 0, 0};
  int32_t rank = 0;
  int32_t kept = 0;
  typename Rows::Sums sums;
};

// Raises the shift to the fragment's largest logit, if that is larger, and scales down
// what was summed before. An infinite logit raises it to the largest number.
template <typename Rows>
__device__ __forceinline__ void raise_shift(const Rows& rows, typename Rows::Real logit,
                                            bool sums_rows, ForwardState<Rows>* state) {
  using Real = typename Rows::Real;
  const Real largest = largest_over_lanes(logit);
  if (!(largest > state->softmax.shift)) return;
  const Real raised = min(largest, kLargestNumber<Real>);
  const Real factor = exp_of(state->softmax.shift - raised);
  state->softmax.shift = raised;
  state->softmax.weight_sum *= factor;
  state->softmax.cosine_sum *= factor;
  if (sums_rows) rows.scale(factor, &state->sums);
}

template <typename Rows>
__device__ __forceinline__ void sum_over_candidates(
    const LossParams& params, const CandidateSource& source, const Rows& rows,
    int64_t row, const typename Rows::Unit& query, typename Rows::Real positive_cosine,
    typename Rows::Real margin, bool sums_rows, ForwardState<Rows>* state) {
  using Real = typename Rows::Real;
  const auto* docs = static_cast<const typename Rows::Storage*>(params.doc);
  const Real scale = logit_scale_of<Real>(params);
  const Real positive_log_q = log_q_at<Real>(params, row);
  const bool running_maximum = needs_running_maximum(params, scale);
  const bool is_first_lane = lane_of_thread() % Rows::kLanesPerProduct == 0;
  const CandidateSource::Start first_candidate = source.start(row);

  for (int64_t start = 0; start < params.num_negatives; start += kWarpSize) {
    const int32_t mine =
        source.candidate(params, first_candidate, row, start + lane_of_thread());
    const Real my_log_q = mine == kNotKept ? Real(0) : log_q_at<Real>(params, mine);
    const unsigned kept = __ballot_sync(kWholeWarp, mine != kNotKept);
    state->kept += __popc(kept);

    for (int first = 0; first < kWarpSize && kept >> first != 0;
         first += Rows::kFragmentRows) {
      const typename Rows::Fragment fragment = rows.load_fragment(docs, mine, first);
      const RowProducts<Real> products = rows.template products<true>(query, fragment);

      const int number = first + Rows::product_of_lane();
      const int32_t index = __shfl_sync(kWholeWarp, mine, number);
      const Real log_q = params.doc_log_q == nullptr
                             ? Real(0)
                             : __shfl_sync(kWholeWarp, my_log_q, number);
      const Real inverse_norm =
          inverse_norm_of_candidate(products.squares, docs, params.dim, index);
      const Real cosine = cosine_of(products.dot, inverse_norm);
      const Real relative =
          relative_logit(scale, margin, cosine, positive_cosine, log_q, positive_log_q);
      const Real logit = index != kNotKept ? relative : -static_cast<Real>(INFINITY);
      state->rank += is_first_lane && is_above_positive(logit);

      if (running_maximum) raise_shift(rows, logit, sums_rows, state);
      const Real weight = exp_of(logit - state->softmax.shift);
      state->softmax.weight_sum += weight;
      state->softmax.cosine_sum =
          multiply_add(weight, cosine, state->softmax.cosine_sum);
      if (sums_rows) rows.add_weighted(fragment, weight * inverse_norm, &state->sums);
    }
  }
  constexpr int kNearest = Rows::kLanesPerProduct;
  CandidateSums<Real>& softmax = state->softmax;
  softmax.weight_sum = sum_over_lanes<kWarpSize / 2, kNearest>(softmax.weight_sum);
  softmax.cosine_sum = sum_over_lanes<kWarpSize / 2, kNearest>(softmax.cosine_sum);
  state->rank = sum_over_lanes(state->rank);
}

// One row of doc and, for the first B of them, the query row that it belongs to.
template <typename Rows>
__device__ __forceinline__ double forward_row(const LossParams& params,
                                              const ForwardOutputs& outputs,
                                              const CandidateSource& source,
                                              const Rows& rows, int64_t row,
                                              typename Rows::Real margin) {
  using Storage = typename Rows::Storage;
  using Real = typename Rows::Real;
  const Storage* positive = static_cast<const Storage*>(params.doc) + row * params.dim;
  auto* doc_inverse_norms = static_cast<Real*>(outputs.doc_inverse_norm);
  const bool is_first_lane = Rows::is_first_lane();

  if (row >= params.batch_size) {
    Real doc_inverse_norm;
    rows.load_unit(positive, &doc_inverse_norm);
    if (is_first_lane) __stcs(doc_inverse_norms + row, doc_inverse_norm);
    return 0;
  }

  Real query_inverse_norm;
  const typename Rows::Unit query =
      rows.load_unit(static_cast<const Storage*>(params.query) + row * params.dim,
                     &query_inverse_norm);
  const RowProducts<Real> products = rows.products_with(query, positive);
  const Real doc_inverse_norm =
      inverse_norm_of_row(products.squares, positive, params.dim);
  const Real positive_cosine =
      positive_cosine_of(products.dot, doc_inverse_norm, query_inverse_norm);

  Real* direction =
      outputs.query_direction == nullptr
          ? nullptr
          : static_cast<Real*>(outputs.query_direction) + row * params.dim;
  ForwardState<Rows> state;
  state.softmax.shift = first_shift<Real>(params);
  const bool over_batch = params.normalize_over == NormalizeOver::kBatch;
  if (direction != nullptr) state.sums = rows.no_sums(direction);
  if (!over_batch || outputs.num_kept != nullptr) {
    sum_over_candidates(params, source, rows, row, query, positive_cosine, margin,
                        direction != nullptr && !over_batch, &state);
  }
  const RowResult<Real> result = finish_row(params, state.softmax, positive_cosine);

  if (direction != nullptr) {
    const Real positive_weight = result.weights.positive * doc_inverse_norm;
    const auto combine = [&](Real unit, Real sum, Real doc) {
      const Real along =
          multiply_add(positive_weight, doc, sum * result.weights.candidates);
      return (along - unit * result.projection) * query_inverse_norm;
    };
    rows.store(query, state.sums, positive, combine, direction);
  }
  if (!is_first_lane) return 0;
  __stcs(doc_inverse_norms + row, doc_inverse_norm);
  if (outputs.num_kept != nullptr) __stcs(outputs.num_kept + row, state.kept);
  if (outputs.positive_rank != nullptr) __stcs(outputs.positive_rank + row, state.rank);
  return store_row_results(params, outputs, row, positive_cosine, query_inverse_norm,
                           state.softmax.shift, result);
}

template <typename Rows>
__global__ void __launch_bounds__(kMostWarpsPerBlock* kWarpSize,
                                  Rows::kBlocksPerMultiprocessor)
    forward_rows_kernel(const LossParams params, const ForwardOutputs outputs,
                        const ForwardScratch scratch,
                        const RowSettings<typename Rows::Real> settings) {
  const Rows rows(params.dim, settings.piece_bytes);
  const CandidateSource source(params, settings.shape);
  __syncthreads();
  constexpr int kThreads = Rows::kWarps * kWarpSize;  // of a row
  const int64_t rows_per_block = blockDim.x / kThreads;
  double loss = 0;  // of this row's first lane
  for (int64_t row = blockIdx.x * rows_per_block + threadIdx.x / kThreads;
       row < params.num_candidates; row += gridDim.x * rows_per_block) {
    loss += forward_row(params, outputs, source, rows, row, settings.margin);
  }
  if (params.reduction == Reduction::kNone) return;
  const double block_loss = sum_over_warps(loss);
  if (threadIdx.x == 0) __stcs(scratch.block_losses + blockIdx.x, block_loss);
}

}  // namespace cuda
}  // namespace negative_cosine
