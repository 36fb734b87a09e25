// The forward pass for samplers whose candidates lie side by side: a block takes a tile
// of neighbouring places through the band of documents that follow them.
//
// The query at place x has its positive at place x and its candidates at x + 1 .. x + K
// (docs/semantics.md, "Candidates"; `all` is the ring of the documents in their own
// order with K = C - 1). So a tile's queries are multiplied with the documents at their
// own places, and then with those behind them, panel by panel. The mainloop for each
// panel: copy, prepare, multiply, weigh, accumulate. The epilogue: store, with the
// positives, which stay in shared memory or, where rows are long, are copied again. The
// softmax is online (Milakov and Gimelshein, 2018) and the query's direction is summed
// as FlashAttention sums its output. The formulas are in core/formulas.h.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/scratch.h"
#include "cuda/rows/saved.cuh"
#include "cuda/tiles/forward_memory.cuh"
#include "cuda/tiles/pass.cuh"

namespace negative_cosine {
namespace cuda {

// What a lane keeps of its two rows: its part of their sums, and what it has found so
// far. It reads everything else where it needs it, because long rows leave no register.
// The shift is the largest logit so far, even where that is far below the positive's: a
// float16 weight has few digits below 1.
template <typename Shape>
struct ForwardTileState {
  using Real = typename Shape::Real;
  Real shift[2] = {-kLargestNumber<Real>, -kLargestNumber<Real>};
  Real positive_cosine[2] = {};
  Real weight_sum[2] = {};
  Real cosine_sum[2] = {};
  RowSums<Shape> sums = {};
};

template <typename Shape>
class ForwardTile {
 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;
  static constexpr Real kWeightFactor =
      FitNorms<Storage>::kForwardWeightFactor;  // of state_.sums

  __device__ __forceinline__ ForwardTile(const LossParams& params,
                                         const ForwardOutputs& outputs,
                                         uint32_t first_place,
                                         const RowAlignment& alignment, Real margin)
      : params_(params),
        outputs_(outputs),
        team_(params.dim, alignment),
        slice_(first_column_of_slice<Shape>()),
        first_place_(first_place),
        rows_(rows_of_tile<Shape>(params.num_candidates, first_place)),
        margin_(margin),
        scale_(logit_scale_of<Real>(params)),
        over_batch_(params.normalize_over == NormalizeOver::kBatch),
        has_ids_(has_ids(params)),
        has_log_q_(params.doc_log_q != nullptr) {}

  // Returns the rows' part of the reduced loss that this thread knows.
  __device__ __forceinline__ double run() {
    static_assert(Shape::kRows <= Shape::kThreads, "own rows are in the first window");
    memory_.places.find_first_window(params_, first_place_, 0);
    __syncthreads();
    copy_own_rows();
    prepare_own_rows();
    // Where the candidates count for neither loss nor statistics, the positives are
    // enough.
    const bool needs_candidates = !over_batch_ || outputs_.num_kept != nullptr;
    const uint32_t band = needs_candidates && has_queries()
                              ? static_cast<uint32_t>(params_.num_negatives)
                              : 0;
    const uint32_t columns = static_cast<uint32_t>(rows_) + band;
    const auto panels =
        static_cast<int32_t>((columns + Shape::kColumns - 1) / Shape::kColumns);
    constexpr int32_t kOwn = Shape::kRows / Shape::kColumns;
    for (int32_t panel = 0; panel < panels; ++panel) {
      const int32_t next = panel + 1;
      const bool has_next = next >= kOwn && next < panels;
      if (panel >= kOwn) prepare_panel(panel);
      if (has_next) {
        memory_.places.find_window(params_, first_place_, first_column<Shape>(next));
      }
      __syncthreads();
      if (has_next) copy_panel(next, columns);
      process_panel(panel, band);
    }
    // Panel 2 is the first to overwrite one of them (ForwardTileMemory::doc_row).
    const bool own_docs_are_gone = !Shape::kKeepsOwnDocs && panels > 2;
    if (own_docs_are_gone && outputs_.query_direction != nullptr) restore_own_docs();
    return store_rows();
  }

 private:
  // Whether the tile may have queries: documents in their own order have none behind
  // the first B.
  __device__ __forceinline__ bool has_queries() const {
    return params_.sampler == Sampler::kRing || first_place_ < params_.batch_size;
  }

  __device__ __forceinline__ const Storage* doc_at(int64_t index) const {
    return static_cast<const Storage*>(params_.doc) + index * params_.dim;
  }

  // --- Copy and prepare --------------------------------------------------------------

  // The query at one of the tile's places.
  __device__ __forceinline__ int32_t query_at(int row, int32_t index) const {
    return row < rows_ && index < params_.batch_size ? index : kNotKept;
  }

  __device__ __forceinline__ void copy_own_rows() const {
    const auto* queries = static_cast<const Storage*>(params_.query);
    for_each_own_row<Shape>([&](int row) {
      const int32_t index = memory_.places.index_at(row);
      const int32_t query = query_at(row, index);
      const bool is_query = query != kNotKept;
      team_.copy(queries + (is_query ? query * params_.dim : 0), is_query,
                 memory_.queries.row(row));
      team_.copy(doc_at(index), true, memory_.doc_row(row));
      if (team_.is_first_thread()) {
        memory_.queries.index[row] = query;
        memory_.docs.index[row] = index;
        memory_.pair_inputs.copy(params_, row, index, true);
      }
    });
    commit_copies();
  }

  __device__ __forceinline__ void prepare_own_rows() const {
    wait_for_copies<0>();
    __syncwarp();
    auto* doc_inverse_norms = static_cast<Real*>(outputs_.doc_inverse_norm);
    for_each_own_row<Shape>([&](int row) {
      const int32_t doc = memory_.docs.index[row];
      const Real query_inverse_norm = team_.inverse_norm(memory_.queries.row(row));
      const Real doc_inverse_norm = team_.inverse_norm(memory_.doc_row(row));
      __syncwarp();
      const RowNorm<Real> query_norm =
          team_.prepare(query_inverse_norm, memory_.queries.row(row));
      const RowNorm<Real> doc_norm =
          team_.prepare(doc_inverse_norm, memory_.doc_row(row));
      if (!team_.is_first_thread()) return;
      memory_.queries.set_norm(row, query_norm);
      memory_.docs.set_norm(row, doc_norm);
      memory_.query_inverse_norm[row] = query_inverse_norm;
      if (row < rows_) __stcs(doc_inverse_norms + doc, doc_inverse_norm);
    });
  }

  __device__ __forceinline__ void copy_panel(int32_t panel, uint32_t columns) const {
    const uint32_t column =
        first_column<Shape>(panel) + static_cast<uint32_t>(team_.number());
    const int staged = memory_.first_staged_row(panel) + team_.number();
    const bool is_wanted = column < columns;
    const int32_t doc = memory_.places.index_at(column);
    team_.copy(doc_at(doc), is_wanted, memory_.doc_row(staged));
    if (team_.is_first_thread()) {
      memory_.docs.index[staged] = is_wanted ? doc : kNotKept;
      memory_.pair_inputs.copy(params_, staged, doc, is_wanted);
    }
    commit_copies();
  }

  __device__ __forceinline__ void prepare_panel(int32_t panel) const {
    wait_for_copies<0>();
    __syncwarp();
    const int staged = memory_.first_staged_row(panel) + team_.number();
    const Real inverse_norm = team_.inverse_norm(memory_.doc_row(staged));
    __syncwarp();
    const RowNorm<Real> norm = team_.prepare(inverse_norm, memory_.doc_row(staged));
    if (team_.is_first_thread()) memory_.docs.set_norm(staged, norm);
  }

  // Copies the tile's own documents again for the gradient, and prepares them as
  // before.
  __device__ __forceinline__ void restore_own_docs() const {
    __syncthreads();  // the last panel has been read
    for_each_own_row<Shape>([&](int row) {
      team_.copy(doc_at(memory_.docs.index[row]), true, memory_.doc_row(row));
    });
    commit_copies();
    wait_for_copies<0>();
    __syncwarp();
    for_each_own_row<Shape>([&](int row) {
      const Real inverse_norm = team_.inverse_norm(memory_.doc_row(row));
      __syncwarp();
      team_.prepare(inverse_norm, memory_.doc_row(row));
    });
    __syncthreads();
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ int32_t query_of(int half) const {
    return memory_.queries.index[row_of_half<Shape>(half)];
  }

  __device__ __forceinline__ void process_panel(int32_t panel, uint32_t band) {
    const int64_t start = first_column<Shape>(panel);
    const int staged = memory_.first_staged_row(panel);
    const int first_row = first_row_of_warp<Shape>();
    const auto* queries = memory_.queries.row(first_row) + slice_;
    const auto* docs = memory_.doc_row(staged) + slice_;
    const BandOfPanel<Shape> candidates(1, band, start);
    const int64_t diagonal = first_row - start;
    const bool has_positives = diagonal >= 0 && diagonal < Shape::kColumns;
    const bool takes_part = has_positives || !candidates.is_empty();
    Products<Shape> products = {};
    multiply_panel<Shape>(takes_part, queries, docs, memory_.slices, products);
    if (!takes_part) return;
    if (has_positives) find_positives(static_cast<int>(diagonal), staged, products);
    weigh(candidates, staged, products);
    if (outputs_.query_direction != nullptr && !over_batch_) {
      accumulate_panel<Shape>(products, docs, state_.sums);
    }
  }

  __device__ __forceinline__ Real cosine_with(int staged, int half,
                                              Real product) const {
    return cosine_of_pair<Real>(product, inverse_norm_of_half(memory_.queries, half),
                                memory_.docs.inverse_norm[staged],
                                memory_.docs.nan_addend[staged]);
  }

  // The products of the rows with the columns of their own places: column `diagonal` +
  // r of row r. Four lanes share a row and all of them get its cosine.
  __device__ __forceinline__ void find_positives(int diagonal, int staged,
                                                 const Products<Shape>& products) {
    const int own = row_of_lane();  // 0..7: the column in its fragment
    const int holder = own * 4 + own / 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int first_column = diagonal + 8 * half;
      Real even = 0, odd = 0;
#pragma unroll
      for (int fragment = 0; fragment < Shape::kColumns / kFragmentColumns;
           ++fragment) {
        if (first_column != fragment * kFragmentColumns) continue;
        even = products[fragment][2 * half];
        odd = products[fragment][2 * half + 1];
      }
      even = __shfl_sync(kWholeWarp, even, holder);
      odd = __shfl_sync(kWholeWarp, odd, holder);
      state_.positive_cosine[half] =
          cosine_with(staged + first_column + own, half, own % 2 == 0 ? even : odd);
    }
  }

  // Turns products into weights times the documents' inverse norms, and adds the
  // weights to the rows' sums.
  __device__ __forceinline__ void weigh(const BandOfPanel<Shape>& candidates,
                                        int staged, Products<Shape>& products) {
    auto& cosines = products;
    Products<Shape> logits;
    for_each_product<Shape>([&](int fragment, int element, int half, int column) {
      const Real cosine =
          cosine_with(staged + column, half, products[fragment][element]);
      cosines[fragment][element] = cosine;
      logits[fragment][element] =
          relative_logit(scale_, margin_, cosine, state_.positive_cosine[half]);
    });
    if (has_log_q_) {
      correct(
          memory_.pair_inputs, [&](int, int column) { return staged + column; },
          [](int half, int) { return row_of_half<Shape>(half); }, logits);
    }
    uint32_t kept[2] = {kColumnsOfLane<Shape>, kColumnsOfLane<Shape>};
    const uint32_t excluded = excluded_columns(staged);
    if (has_ids_ || !candidates.is_whole() || excluded != 0) {
      drop(candidates, staged, excluded, kept, cosines, logits);
    }
    count(kept, logits);
    raise_shift(logits);
    for_each_product<Shape>([&](int fragment, int element, int half, int column) {
      const Real weight =
          weight_of<Shape>(logits[fragment][element] - state_.shift[half]);
      state_.weight_sum[half] += weight;
      state_.cosine_sum[half] =
          multiply_add(weight, cosines[fragment][element], state_.cosine_sum[half]);
      products[fragment][element] =
          weight * (kWeightFactor * memory_.docs.inverse_norm[staged + column]);
    });
  }

  // The panel's columns whose documents every query drops.
  __device__ __forceinline__ uint32_t excluded_columns(int staged) const {
    if (!has_log_q_) return 0;
    const int column = lane_of_thread() % Shape::kColumns;
    return __ballot_sync(kWholeWarp,
                         is_excluded(memory_.pair_inputs.log_q(staged + column)));
  }

  // Keeps the candidates of the lane's rows: those behind a row's own place that are
  // not excluded and do not have the row's ids. The others become numbers that add
  // nothing, even if they were NaN.
  __device__ __forceinline__ void drop(const BandOfPanel<Shape>& candidates, int staged,
                                       uint32_t excluded, uint32_t (&kept)[2],
                                       Products<Shape>& cosines,
                                       Products<Shape>& logits) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      kept[half] = candidates.columns_of(half) & ~(excluded >> column_of_lane());
      if (!has_ids_) continue;
      const int row = row_of_half<Shape>(half);
      kept[half] = without<Shape>(kept[half], [&](int column) {
        return memory_.pair_inputs.are_equal(params_, row, staged + column,
                                             memory_.docs.index[staged + column]);
      });
    }
    keep_columns<Shape>(kept, Real(0), cosines);
    keep_columns<Shape>(kept, -static_cast<Real>(INFINITY), logits);
  }

  __device__ __forceinline__ void count(const uint32_t (&kept)[2],
                                        const Products<Shape>& logits) {
    if (outputs_.num_kept != nullptr) {
      for (int half = 0; half < 2; ++half) {
        memory_.counts.kept(half) = memory_.counts.kept(half) + __popc(kept[half]);
      }
    }
    if (outputs_.positive_rank == nullptr) return;
    int32_t larger[2] = {};
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      larger[half] += is_above_positive(logits[fragment][element]);
    });
    for (int half = 0; half < 2; ++half) {
      memory_.counts.rank(half) = memory_.counts.rank(half) + larger[half];
    }
  }

  // After the first panels a larger logit is rare. An infinite one raises the shift to
  // the largest number.
  __device__ __forceinline__ void raise_shift(const Products<Shape>& logits) {
    Real largest[2] = {-static_cast<Real>(INFINITY), -static_cast<Real>(INFINITY)};
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      largest[half] = max(largest[half], logits[fragment][element]);
    });
    const Real of_rows[2] = {largest_over_row(largest[0]),
                             largest_over_row(largest[1])};
    const bool any = of_rows[0] > state_.shift[0] || of_rows[1] > state_.shift[1];
    if (!__any_sync(kWholeWarp, any)) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Real raised =
          min(max(state_.shift[half], of_rows[half]), kLargestNumber<Real>);
      scale_sums(half, exp_of(state_.shift[half] - raised));
      state_.shift[half] = raised;
    }
  }

  __device__ __forceinline__ void scale_sums(int half, Real factor) {
    state_.weight_sum[half] *= factor;
    state_.cosine_sum[half] *= factor;
    if (outputs_.query_direction == nullptr || over_batch_) return;
    scale_row<Shape>(half, factor, state_.sums);
  }

  // --- Store -------------------------------------------------------------------------

  __device__ __forceinline__ double store_rows() {
    double loss = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state_.weight_sum[half] = sum_over_row(state_.weight_sum[half]);
      state_.cosine_sum[half] = sum_over_row(state_.cosine_sum[half]);
      // finish_row's shift is never below the positive's own logit.
      if (state_.shift[half] < 0) {
        scale_sums(half, exp_of(state_.shift[half]));
        state_.shift[half] = 0;
      }
      const auto kept = sum_over_row(static_cast<int32_t>(memory_.counts.kept(half)));
      const auto rank = sum_over_row(static_cast<int32_t>(memory_.counts.rank(half)));
      if (query_of(half) >= 0) loss += store_row(half, kept, rank);
    }
    return loss;
  }

  __device__ __forceinline__ double store_row(int half, int32_t kept, int32_t rank) {
    const int64_t row = query_of(half);
    const Real positive_cosine = state_.positive_cosine[half];
    const RowResult<Real> result =
        finish_row(params_,
                   CandidateSums<Real>{state_.shift[half], state_.weight_sum[half],
                                       state_.cosine_sum[half]},
                   positive_cosine);
    const Real query_inverse_norm =
        memory_.query_inverse_norm[row_of_half<Shape>(half)];
    if (outputs_.query_direction != nullptr) {
      store_direction(half, result, query_inverse_norm);
    }
    if (column_of_lane() != 0 || slice_ != 0) return 0;
    if (outputs_.num_kept != nullptr) __stcs(outputs_.num_kept + row, kept);
    if (outputs_.positive_rank != nullptr) __stcs(outputs_.positive_rank + row, rank);
    return store_row_results(params_, outputs_, row, positive_cosine,
                             query_inverse_norm, state_.shift[half], result);
  }

  __device__ __forceinline__ void store_direction(int half,
                                                  const RowResult<Real>& result,
                                                  Real query_inverse_norm) {
    const int row = row_of_half<Shape>(half);
    const auto* query = memory_.queries.row(row);
    const auto* doc = memory_.doc_row(row);
    const Real unit_factor = inverse_norm_of_half(memory_.queries, half);
    const Real positive_weight =
        result.weights.positive * memory_.docs.inverse_norm[row];
    const Real candidate_weight = result.weights.candidates * (1 / kWeightFactor);
    auto* direction = static_cast<Real*>(outputs_.query_direction) +
                      int64_t{query_of(half)} * params_.dim;
#pragma unroll
    for (int v = 0; v < Shape::kSliceDim / kFragmentColumns; ++v) {
      const int column = slice_ + v * kFragmentColumns + column_of_lane();
      if (column >= params_.dim) continue;
      Real query_pair[2], doc_pair[2], results[2];
      read_pair(query + column, query_pair);
      read_pair(doc + column, doc_pair);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const Real along =
            multiply_add(positive_weight, doc_pair[j],
                         state_.sums[v][2 * half + j] * candidate_weight);
        results[j] = (along - query_pair[j] * unit_factor * result.projection) *
                     query_inverse_norm;
      }
      store_pair(results, column + 1 < params_.dim, team_.has_whole_packets(),
                 direction + column);
    }
  }

  const LossParams& params_;
  const ForwardOutputs& outputs_;
  const RowTeam<Shape> team_;
  const int slice_;  // where the warp's slice begins
  const uint32_t first_place_;
  const int rows_;  // of the tile that exist
  const Real margin_;
  const Real scale_;
  const bool over_batch_;
  const bool has_ids_;
  const bool has_log_q_;
  ForwardTileMemory<Shape> memory_;
  ForwardTileState<Shape> state_;
};

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    forward_tiles_kernel(const LossParams params, const ForwardOutputs outputs,
                         const ForwardScratch scratch, const RowAlignment alignment,
                         const typename Shape::Real margin) {
  ForwardTile<Shape> tile(params, outputs, blockIdx.x * Shape::kRows, alignment,
                          margin);
  const double loss = sum_over_block(tile.run());
  if (params.reduction == Reduction::kNone || threadIdx.x != 0) return;
  __stcs(scratch.block_losses + blockIdx.x, loss);
}

}  // namespace cuda
}  // namespace negative_cosine
