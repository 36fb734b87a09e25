// What a warp does with the products of its queries and some documents in the forward
// pass: find the positives, weigh, count, and in the end store. Where the products come
// from is forward.cuh's matter.
//
// The softmax is online (Milakov and Gimelshein, 2018) where logits may be large, and
// the query's direction is summed as FlashAttention sums its output. The formulas are
// in core/formulas.h.
#pragma once

#include <utility>

#include "cuda/device/block.cuh"
#include "cuda/device/scratch.h"
#include "cuda/rows/safe_logits.cuh"
#include "cuda/rows/saved.cuh"
#include "cuda/tiles/forward_memory.cuh"
#include "cuda/tiles/pass.cuh"
#include "cuda/tiles/rounding.cuh"

namespace negative_cosine {
namespace cuda {

// What a lane keeps of its rows: its part of their sums, and what it has found so far.
// It reads everything else where it needs it, because long rows leave no register. A
// running maximum is the largest logit so far, even where that is far below the
// positive's: a float16 weight has few digits below 1.
template <typename Shape>
struct ForwardTileState {
  using Real = typename Shape::Real;
  Real shift[kRowsOfLane];
  Real weight_sum[kRowsOfLane] = {};
  Real cosine_sum[kRowsOfLane] = {};
  LostByRounding<Shape> lost = {};
  RowSums<Shape> sums = {};
};

template <typename Shape, typename OwnPlaces>
class ForwardRows {
 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;
  static constexpr Real kWeightFactor =
      FitNorms<Storage>::kForwardWeightFactor;  // of state_.sums

 protected:
  __device__ __forceinline__ ForwardRows(const LossParams& params,
                                         const ForwardOutputs& outputs,
                                         const RowAlignment& alignment, Real margin)
      : params_(params),
        outputs_(outputs),
        team_(params.dim, alignment),
        margin_(margin),
        scale_(logit_scale_of<Real>(params)),
        running_maximum_(FitNorms<Storage>::kScalesWeights ||
                         needs_running_maximum(params, scale_)),
        memory_(params) {
    for_each_row_of_lane([&](int row) {
      state_.shift[row] =
          running_maximum_ ? -kLargestNumber<Real> : first_shift<Real>(params);
    });
  }

  // Asked of the parameters each time: they leave no register for the answers.
  __device__ __forceinline__ bool over_batch() const {
    return params_.normalize_over == NormalizeOver::kBatch;
  }
  // Whether the candidates' rows are summed.
  __device__ __forceinline__ bool sums_directions() const {
    return outputs_.query_direction != nullptr && !over_batch();
  }
  __device__ __forceinline__ bool has_log_q() const {
    return params_.doc_log_q != nullptr;
  }

  // Whether the tile has queries, or may have: documents in their own order have none
  // behind the first B.
  __device__ __forceinline__ bool has_queries() const {
    return params_.sampler == Sampler::kRing ||
           memory_.own_places.first_place() < params_.batch_size;
  }

  // The candidates of a row. Where they count for neither loss nor statistics, the
  // positives are enough.
  __device__ __forceinline__ uint32_t band() const {
    const bool needs_candidates = !over_batch() || outputs_.num_kept != nullptr;
    return needs_candidates && has_queries()
               ? static_cast<uint32_t>(params_.num_negatives)
               : 0;
  }
  __device__ __forceinline__ uint32_t columns() const {
    const auto& own = memory_.own_places;
    return own.place_of()(own.rows() - 1) + 1 + band();
  }

  // The query at a row's own place, where `doc` is.
  __device__ __forceinline__ int32_t query_at(int row, int32_t doc) const {
    const bool exists = row < memory_.own_places.rows();
    return exists && doc < params_.batch_size ? doc : kNotKept;
  }

  __device__ __forceinline__ const Storage* doc_at(int64_t index) const {
    return static_cast<const Storage*>(params_.doc) + index * params_.dim;
  }

  using Band = BandOfPanel<Shape, decltype(std::declval<OwnPlaces>().place_of())>;

  // The columns from `first` on and in front of `end` behind a row's own, in the
  // running warp's columns, which begin at `start`.
  __device__ __forceinline__ Band band_of_columns(uint32_t start, uint32_t first,
                                                  uint32_t end) const {
    return {memory_.own_places.place_of(), first, end, start};
  }

  __device__ __forceinline__ void copy_query(int row, int32_t query) const {
    const bool is_query = query != kNotKept;
    const int64_t source = is_query ? query : 0;
    team_.copy(static_cast<const Storage*>(params_.query) + source * params_.dim,
               is_query, memory_.queries.row(row));
  }

  __device__ __forceinline__ void prepare_own_rows() const {
    for_each_row_of_team<Shape>(Shape::kRows, [&](int row) {
      const Real inverse_norm = team_.inverse_norm(memory_.queries.row(row));
      __syncwarp();
      const Real norm = team_.prepare(inverse_norm, memory_.queries.row(row));
      if (!team_.is_first_thread()) return;
      memory_.queries.norm[row] = norm;
      memory_.query_inverse_norm[row] = inverse_norm;
    });
  }

  __device__ __forceinline__ void copy_known_norm(int32_t doc, bool is_wanted,
                                                  SharedElement<Real>* to) const {
    const auto* norms = static_cast<const Real*>(outputs_.doc_inverse_norm);
    copy_async<sizeof(Real)>(to, norms + doc, is_wanted);
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ SharedElement<Real>& positive_cosine(int row) const {
    return memory_.positive_cosines[slice_of_warp<Shape>() * Shape::kRows +
                                    row_in_tile<Shape>(row)];
  }

  // The cosine of a row with the document at its own place is in one of the row's four
  // lanes.
  __device__ __forceinline__ void find_positives(
      const Band& positives, int staged, const Products<Shape>& products) const {
    for_each_row_of_lane([&](int row) {
      const uint32_t own = positives.columns_of(row);
      if (own == 0) return;
      Real product = 0;
      for_each_product<Shape>([&](int fragment, int element, int half, int) {
        if (half == row && has_column(own, fragment, element)) {
          product = products[fragment][element];
        }
      });
      const int column = column_of_lane() + __ffs(static_cast<int>(own)) - 1;
      positive_cosine(row) =
          cosine_of_pair<Real>(product, memory_.queries.norm[row_in_tile<Shape>(row)],
                               memory_.docs.norm[staged + column]);
    });
  }

  // Turns products into weights times the documents' inverse norms, and adds the
  // weights to the rows' sums.
  __device__ __forceinline__ void weigh(const Band& candidates, int staged,
                                        Products<Shape>& products) {
    Products<Shape> logits;
    uint32_t kept[2];
    find_logits(candidates, staged, products, logits, kept);
    count(kept, logits);
    if (running_maximum_) raise_shift(logits);
    to_weights(staged, logits, products);
  }

  // Turns products into cosines, and finds their logits: those that are not kept add
  // nothing.
  __device__ __forceinline__ void find_logits(const Band& candidates, int staged,
                                              Products<Shape>& cosines,
                                              Products<Shape>& logits,
                                              uint32_t (&kept)[2]) const {
    to_logits(staged, cosines, logits);
    if (has_log_q()) {
      correct(
          memory_.pair_inputs,
          [&](int, int column) { return Shape::kRows + staged + column; },
          [&](int half, int) { return row_in_tile<Shape>(half); }, logits);
    }
    kept[0] = kept[1] = kColumnsOfLane<Shape>;
    keep_candidates(candidates, staged, kept);
    if (__any_sync(kWholeWarp, kept[0] != kColumnsOfLane<Shape> ||
                                   kept[1] != kColumnsOfLane<Shape>)) {
      // They add nothing, even if they were NaN.
      keep_columns<Shape>(kept, Real(0), cosines);
      keep_columns<Shape>(kept, -static_cast<Real>(INFINITY), logits);
    }
  }

  __device__ __forceinline__ void to_logits(int staged, Products<Shape>& cosines,
                                            Products<Shape>& logits) const {
    const auto* first_norm = memory_.docs.norm + staged + column_of_lane();
    Real query_norm[2], positive[2];
    for_each_row_of_lane([&](int row) {
      query_norm[row] = memory_.queries.norm[row_in_tile<Shape>(row)];
      positive[row] = positive_cosine(row);
    });
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      Real norms[2];
      read_pair(first_norm + fragment * kFragmentColumns, norms);
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        const int half = element / 2, j = element % 2;
        const Real cosine =
            cosine_of_pair(cosines[fragment][element], query_norm[half], norms[j]);
        cosines[fragment][element] = cosine;
        logits[fragment][element] =
            relative_logit(scale_, margin_, cosine, positive[half]);
      }
    }
  }

  // Leaves the candidates of the lane's rows: those behind a row's own place that are
  // not excluded and do not have the row's ids.
  __device__ __forceinline__ void keep_candidates(const Band& candidates, int staged,
                                                  uint32_t (&kept)[2]) const {
    if (!candidates.is_whole()) {
      kept[0] = candidates.columns_of(0);
      kept[1] = candidates.columns_of(1);
    }
    if (has_log_q()) {
      const uint32_t excluded = excluded_columns(staged) >> column_of_lane();
      kept[0] &= ~excluded;
      kept[1] &= ~excluded;
    }
    if (!has_ids(params_)) return;
    const int rows[2] = {row_in_tile<Shape>(0), row_in_tile<Shape>(1)};
    drop_equal_ids(
        params_, memory_.pair_inputs, rows, Shape::kRows + staged,
        [&](int, int column) -> int32_t { return memory_.docs.index[staged + column]; },
        kept);
  }

  // The warp's columns whose documents every query drops.
  __device__ __forceinline__ uint32_t excluded_columns(int staged) const {
    const int column = lane_of_thread() % Shape::kColumnsOfWarp;
    return __ballot_sync(
        kWholeWarp,
        is_excluded(memory_.pair_inputs.log_q(Shape::kRows + staged + column)));
  }

  __device__ __forceinline__ void count(const uint32_t (&kept)[2],
                                        const Products<Shape>& logits) const {
    if (outputs_.num_kept == nullptr && outputs_.positive_rank == nullptr) return;
    const uint32_t of_kept[2] = {static_cast<uint32_t>(__popc(kept[0])),
                                 static_cast<uint32_t>(__popc(kept[1]))};
    uint32_t larger[2] = {};
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      larger[half] += is_above_positive(logits[fragment][element]) ? 1 : 0;
    });
    memory_.counts.add(of_kept, larger);
  }

  // After the first panels a larger logit is rare. An infinite one raises the shift to
  // the largest number.
  __device__ __forceinline__ void raise_shift(const Products<Shape>& logits) {
    Real largest[2] = {-static_cast<Real>(INFINITY), -static_cast<Real>(INFINITY)};
    find_largest(logits, largest);
    raise_shift(largest);
  }
  __device__ __forceinline__ static void find_largest(const Products<Shape>& logits,
                                                      Real (&largest)[2]) {
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      largest[half] = max(largest[half], logits[fragment][element]);
    });
  }
  __device__ __forceinline__ void raise_shift(const Real (&largest)[2]) {
    const Real of_rows[2] = {largest_over_row(largest[0]),
                             largest_over_row(largest[1])};
    const bool any = of_rows[0] > state_.shift[0] || of_rows[1] > state_.shift[1];
    if (!__any_sync(kWholeWarp, any)) return;
    for_each_row_of_lane([&](int row) {
      raise_shift_to(row,
                     min(max(state_.shift[row], of_rows[row]), kLargestNumber<Real>));
    });
  }

  // Makes the row's sums relative to another shift, which is not below its own.
  __device__ __forceinline__ void raise_shift_to(int row, Real shift) {
    const Real factor = exp_of(state_.shift[row] - shift);
    state_.shift[row] = shift;
    state_.weight_sum[row] *= factor;
    state_.cosine_sum[row] *= factor;
    state_.lost.scale(row, factor);
    if (sums_directions()) scale_row<Shape>(row, factor, state_.sums);
  }

  __device__ __forceinline__ void to_weights(int staged, const Products<Shape>& logits,
                                             Products<Shape>& products) {
    const auto* first_norm = memory_.docs.norm + staged + column_of_lane();
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      Real norms[2];
      read_pair(first_norm + fragment * kFragmentColumns, norms);
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        const int row = element / 2;
        const Real weight =
            weight_of<Shape>(logits[fragment][element] - state_.shift[row]);
        state_.weight_sum[row] += weight;
        state_.cosine_sum[row] =
            multiply_add(weight, products[fragment][element], state_.cosine_sum[row]);
        products[fragment][element] =
            weight * (kWeightFactor * finite_norm(norms[element % 2]));
      }
    }
  }

  // --- Store -------------------------------------------------------------------------

  // Returns the rows' part of the reduced loss that this thread knows.
  __device__ __forceinline__ double store_rows() {
    share_sums();
    Shape::synchronise();
    const double loss = finish_rows();
    if (outputs_.query_direction != nullptr) {
      Shape::synchronise();
      store_directions();
    }
    return loss;
  }

  __device__ __forceinline__ void share_sums() {
    for_each_row_of_lane([&](int row) {
      state_.weight_sum[row] = sum_over_row(state_.weight_sum[row]);
      state_.cosine_sum[row] = sum_over_row(state_.cosine_sum[row]);
      // finish_row's shift is never below the first one.
      const Real lowest = first_shift<Real>(params_);
      if (state_.shift[row] < lowest) raise_shift_to(row, lowest);
      memory_.groups.set_number(kShift, row, state_.shift[row]);
      memory_.groups.set_number(kWeightSum, row, state_.weight_sum[row]);
      memory_.groups.set_number(kCosineSum, row, state_.cosine_sum[row]);
      if constexpr (Shape::kRoundsWeights) {
        memory_.groups.set_number(kLostWeights, row,
                                  sum_over_row(state_.lost.weights[row]));
      }
    });
    if constexpr (Shape::kRoundsWeights) {
      if (sums_directions()) share_parts_along_queries();
    }
  }

  // Of the weighted sums, which are relative to the same shifts.
  __device__ __forceinline__ void share_parts_along_queries() const {
    Real along[2];
    products_with_sums<Shape>(
        state_.sums,
        [&](int in_tile, int column) { return memory_.queries.row(in_tile) + column; },
        along);
    for_each_row_of_lane([&](int row) {
      memory_.groups.set_number(
          kAlongQuery, row, along[row] * memory_.queries.norm[row_in_tile<Shape>(row)]);
    });
  }

  // A thread for each row. Returns the row's part of the reduced loss.
  __device__ __forceinline__ double finish_rows() const {
    const int in_tile = static_cast<int>(threadIdx.x);
    if (in_tile >= Shape::kRows) return 0;
    const int64_t query = memory_.queries.index[in_tile];
    if (query < 0) {
      memory_.factor(kMergedShift, in_tile) = 0;
      return 0;
    }
    const CandidateSums<Real> sums = merged_sums(in_tile);
    const Real cosine = memory_.positive_cosines[in_tile];
    const RowResult<Real> result = finish_row(params_, sums, cosine);
    memory_.factor(kMergedShift, in_tile) = sums.shift;
    memory_.factor(kPositiveFactor, in_tile) =
        result.weights.positive * memory_.doc_inverse_norm[in_tile];
    const SumFactors factors = sum_factors(in_tile, sums, result);
    memory_.factor(kCandidatesFactor, in_tile) =
        factors.candidates * (1 / kWeightFactor);
    memory_.factor(kAlongFactor, in_tile) =
        memory_.queries.norm[in_tile] * factors.projection;
    if (outputs_.num_kept != nullptr) {
      __stcs(outputs_.num_kept + query, memory_.counts.kept(in_tile));
    }
    if (outputs_.positive_rank != nullptr) {
      __stcs(outputs_.positive_rank + query, memory_.counts.larger(in_tile));
    }
    return store_row_results(params_, outputs_, query, cosine,
                             static_cast<Real>(memory_.query_inverse_norm[in_tile]),
                             sums.shift, result);
  }

  // What all groups have found of a row, relative to the largest of their shifts.
  __device__ __forceinline__ CandidateSums<Real> merged_sums(int in_tile) const {
    const auto& groups = memory_.groups;
    Real shift = groups.number_of(kShift, 0, in_tile);
    for (int group = 1; group < Shape::kGroups; ++group) {
      shift = max(shift, groups.number_of(kShift, group, in_tile));
    }
    return {shift, merged_number(kWeightSum, in_tile, shift),
            merged_number(kCosineSum, in_tile, shift)};
  }
  __device__ __forceinline__ Real merged_number(ForwardNumber which, int in_tile,
                                                Real shift) const {
    const auto& groups = memory_.groups;
    Real sum = 0;
    for (int group = 0; group < Shape::kGroups; ++group) {
      const Real factor = running_maximum_
                              ? exp_of(groups.number_of(kShift, group, in_tile) - shift)
                              : Real(1);
      sum += factor * groups.number_of(which, group, in_tile);
    }
    return sum;
  }

  // How much the weighted sum counts in the direction, and what is along the query.
  struct SumFactors {
    Real candidates;
    Real projection;
  };
  __device__ __forceinline__ SumFactors
  sum_factors(int in_tile, const CandidateSums<Real>& sums,
              const RowResult<Real>& result) const {
    const Real candidates = result.weights.candidates;
    if constexpr (Shape::kRoundsWeights) {
      if (candidates == 0 || !sums_directions()) return {candidates, result.projection};
      const Real lost = merged_number(kLostWeights, in_tile, sums.shift);
      const Real scaled = candidates * rounding_factor(sums.weight_sum, lost);
      const Real along = merged_number(kAlongQuery, in_tile, sums.shift);
      const Real of_positive =
          result.weights.positive * memory_.positive_cosines[in_tile];
      return {scaled, multiply_add(scaled * (1 / kWeightFactor), along, of_positive)};
    } else {
      return {candidates, result.projection};
    }
  }

  struct DirectionFactors {
    int32_t query;
    Real positive;
    Real candidates;
    Real along;
    Real norm;
  };

  __device__ __forceinline__ DirectionFactors direction_factors(int in_tile) const {
    const int32_t query = memory_.queries.index[in_tile];
    if (query < 0) return {query, 0, 0, 0, 0};
    return {query, memory_.factor(kPositiveFactor, in_tile),
            memory_.factor(kCandidatesFactor, in_tile),
            memory_.factor(kAlongFactor, in_tile), memory_.query_inverse_norm[in_tile]};
  }

  __device__ __forceinline__ static int column_of(int v) {
    return first_element_of_slice<Shape>() + v * kFragmentColumns + column_of_lane();
  }

  __device__ __forceinline__ void store_directions() {
    DirectionFactors factors[kRowsOfLane];
    for_each_row_of_lane([&](int row) {
      const int in_tile = row_in_tile<Shape>(row);
      if (running_maximum_) {
        raise_shift_to(row, memory_.factor(kMergedShift, in_tile));
      }
      factors[row] = direction_factors(in_tile);
    });
    memory_.groups.for_each_total(
        state_.sums, [&](int v) { return load_positives(factors, v); },
        [&](int v, const Real(&sums)[kFragmentElements],
            const PositivePairs& positives) {
          if (column_of(v) >= params_.dim) return;
          for_each_row_of_lane([&](int row) {
            const Real pair[2] = {sums[2 * row], sums[2 * row + 1]};
            store_direction(row_in_tile<Shape>(row), column_of(v), factors[row], pair,
                            positives.pairs[row]);
          });
        });
  }

  // Elements of the positives of a lane's two rows. They are read once more: the panels
  // behind them may have taken their place in shared memory.
  struct PositivePairs {
    StoredPair<Storage> pairs[kRowsOfLane];
  };

  __device__ __forceinline__ PositivePairs
  load_positives(const DirectionFactors (&factors)[kRowsOfLane], int v) const {
    const bool exists = column_of(v) < params_.dim;
    const int column = exists ? column_of(v) : 0;
    PositivePairs positives;
    for_each_row_of_lane([&](int row) {
      const int32_t doc = max(factors[row].query, 0);
      positives.pairs[row] = load_pair(doc_at(doc) + column, column + 1 < params_.dim,
                                       team_.has_whole_packets());
    });
    return positives;
  }

  // Two elements of a row's direction.
  __device__ __forceinline__ void store_direction(
      int in_tile, int column, const DirectionFactors& factors, const Real (&sums)[2],
      const StoredPair<Storage>& positive) const {
    if (factors.query < 0) return;
    Real query[2], doc[2], results[2];
    read_pair(memory_.queries.row(in_tile) + column, query);
    unpack_stored(positive, doc);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const Real along =
          multiply_add(factors.positive, doc[j], sums[j] * factors.candidates);
      results[j] = (along - query[j] * factors.along) * factors.norm;
    }
    auto* direction = static_cast<Real*>(outputs_.query_direction) +
                      int64_t{factors.query} * params_.dim + column;
    store_pair(results, column + 1 < params_.dim, team_.has_whole_packets(), direction);
  }

  const LossParams& params_;
  const ForwardOutputs& outputs_;
  const RowTeam<Shape> team_;
  const Real margin_;
  const Real scale_;
  const bool running_maximum_;
  ForwardTileMemory<Shape, OwnPlaces> memory_;
  ForwardTileState<Shape> state_;
};

}  // namespace cuda
}  // namespace negative_cosine
