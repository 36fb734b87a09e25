// The gradient pass for samplers whose candidates lie side by side: a block takes a
// tile of neighbouring places' documents through the band of queries in front of them.
//
// The document at place x was drawn by the queries at x - K .. x - 1 and is the
// positive of the query at x: the mirror of tiles/forward.cuh. The mainloop for each
// panel of queries: copy, prepare, multiply, weigh, accumulate. The epilogue: store.
// The softmax weight of a pair is recomputed from its product and the query's saved
// values, as in rows/gradient.cuh, so no two blocks add to the same row and nothing of
// the size B * K is stored.
#pragma once

#include "cuda/rows/gradient.cuh"
#include "cuda/rows/scaled.cuh"
#include "cuda/tiles/gradient_memory.cuh"
#include "cuda/tiles/pass.cuh"

namespace negative_cosine {
namespace cuda {

// What a lane keeps of its two documents: its part of their sums. With float16 the
// weights are divided by a power of two, which the largest weight so far determines
// (FitNorms).
template <typename Shape>
struct GradientTileState {
  using Real = typename Shape::Real;
  Real weight_divisor[2] = {};  // 0 before any weight
  Real projection[2] = {};
  RowSums<Shape> sums = {};
};

template <typename Shape>
class GradientTile {
 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;

  __device__ __forceinline__ GradientTile(const LossParams& params,
                                          const GradientArguments& arguments,
                                          const GradientScratch& scratch,
                                          uint32_t first_place,
                                          const RowAlignment& alignment, Real margin)
      : params_(params),
        arguments_(arguments),
        scratch_(scratch),
        team_(params.dim, alignment),
        slice_(first_column_of_slice<Shape>()),
        first_place_(first_place),
        rows_(rows_of_tile<Shape>(params.num_candidates, first_place)),
        // Over the batch the candidates are not part of the loss.
        drawn_(params.normalize_over == NormalizeOver::kBatch
                   ? 0
                   : static_cast<int32_t>(params.num_negatives)),
        margin_(margin),
        scale_(logit_scale_of<Real>(params)),
        has_ids_(has_ids(params)),
        has_log_q_(params.doc_log_q != nullptr) {}

  // Finds the tile's documents. It comes before all other steps.
  __device__ __forceinline__ void find_docs() const {
    static_assert(Shape::kRows <= Shape::kThreads, "a thread for each row");
    const int row = static_cast<int>(threadIdx.x);
    if (row < Shape::kRows) {
      const PlaceOrder order(params_);
      const int32_t doc = row < rows_
                              ? static_cast<int32_t>(order.index_at(first_place_ + row))
                              : kNotKept;
      memory_.docs.index[row] = doc;
      memory_.own_coefficients[row] = own_coefficient_of(doc);
    }
    __syncthreads();
  }

  __device__ __forceinline__ void store_doc_gradients() {
    const auto panels =
        static_cast<int32_t>((columns() + Shape::kColumns - 1) / Shape::kColumns);
    int stage = 0;
    int32_t panel = next_panel(0, panels);
    if (panel < panels) {
      memory_.places.find_first_window(params_, first_place_of_band(),
                                       first_column<Shape>(panel));
    }
    copy_docs();
    commit_copies();
    __syncthreads();
    if (panel < panels) copy_panel(panel, stage);
    commit_copies();
    wait_for_copies<1>();
    __syncwarp();
    prepare_docs();
    __syncthreads();
    while (panel < panels) {
      wait_for_copies<0>();
      __syncwarp();
      prepare_panel(stage);
      const int32_t following = next_panel(panel + 1, panels);
      if (following < panels) {
        memory_.places.find_window(params_, first_place_of_band(),
                                   first_column<Shape>(following));
      }
      __syncthreads();
      if (following < panels) copy_panel(following, 1 - stage);
      commit_copies();
      process_panel(panel, stage);
      panel = following;
      stage = 1 - stage;
    }
    finish_docs();
    __syncthreads();
    store_docs();
  }

  // Each warp takes one of the queries at the tile's places, and then the next.
  __device__ __forceinline__ void store_query_gradients() const {
    const ScaledRows<Storage> rows{params_.dim, team_.has_whole_packets()};
#pragma unroll 1
    for (int row = static_cast<int>(threadIdx.x) / kWarpSize; row < rows_;
         row += Shape::kWarps) {
      const int32_t index = memory_.docs.index[row];
      if (index < params_.batch_size) {
        query_gradient_row(params_, arguments_, scratch_, rows, index);
      }
    }
  }

 private:
  // The coefficient of a document's own query, 0 where there is none.
  __device__ __forceinline__ Real own_coefficient_of(int32_t doc) const {
    if (doc == kNotKept || doc >= params_.batch_size) return 0;
    return coefficients_of_row<Real>(params_, arguments_, scratch_.coefficient_sum, doc)
        .doc;
  }

  __device__ __forceinline__ uint32_t columns() const {
    return static_cast<uint32_t>(rows_) + static_cast<uint32_t>(drawn_);
  }

  // Of the query in column 0 of the band.
  __device__ __forceinline__ uint64_t first_place_of_band() const {
    return static_cast<uint64_t>(first_place_ + params_.num_candidates - drawn_);
  }

  // The next panel that holds a query: documents in their own order have none behind
  // the first B.
  __device__ __forceinline__ int32_t next_panel(int32_t panel, int32_t panels) const {
    if (params_.sampler == Sampler::kRing) return panel;
    while (panel < panels) {
      const uint32_t first = PlaceOrder::wrapped(
          first_place_of_band() + first_column<Shape>(panel), params_.num_candidates);
      const int64_t to_first_query = params_.num_candidates - first;
      if (first < params_.batch_size || to_first_query < Shape::kColumns) break;
      panel += static_cast<int32_t>(to_first_query / Shape::kColumns);
    }
    return panel;
  }

  // --- Copy and prepare --------------------------------------------------------------

  __device__ __forceinline__ void copy_docs() const {
    const auto* docs = static_cast<const Storage*>(params_.doc);
    for_each_own_row<Shape>([&](int row) {
      const int32_t doc = memory_.docs.index[row];
      const bool exists = doc >= 0;
      const int64_t source = exists ? doc : 0;
      team_.copy(docs + source * params_.dim, exists, memory_.docs.row(row));
      if (team_.is_first_thread())
        memory_.pair_inputs.copy(params_, row, source, exists);
    });
  }

  __device__ __forceinline__ void prepare_docs() const {
    for_each_own_row<Shape>([&](int row) {
      const int32_t doc = memory_.docs.index[row];
      if (doc < 0) {
        if (team_.is_first_thread()) memory_.docs.set_norm(row, {0, 0});
        return;
      }
      const RowNorm<Real> norm =
          team_.prepare(doc_inverse_norm(doc), memory_.docs.row(row));
      if (team_.is_first_thread()) memory_.docs.set_norm(row, norm);
    });
  }

  __device__ __forceinline__ Real doc_inverse_norm(int64_t doc) const {
    return __ldg(static_cast<const Real*>(arguments_.doc_inverse_norm) + doc);
  }

  __device__ __forceinline__ void copy_panel(int32_t panel, int stage) const {
    const int staged = stage * Shape::kColumns + team_.number();
    const uint32_t column =
        first_column<Shape>(panel) + static_cast<uint32_t>(team_.number());
    const int32_t query = memory_.places.index_at(column);
    const bool is_query = column < columns() && query < params_.batch_size;
    const int64_t source = is_query ? query : 0;
    team_.copy(static_cast<const Storage*>(params_.query) + source * params_.dim,
               is_query, memory_.queries.row(staged));
    if (team_.is_first_thread()) {
      memory_.queries.index[staged] = is_query ? query : kNotKept;
      memory_.pair_inputs.copy(params_, Shape::kRows + staged, source, is_query);
      copy_saved(source, is_query, staged);
    }
  }

  __device__ __forceinline__ void copy_saved(int64_t query, bool is_query,
                                             int staged) const {
    constexpr int kSavedNumbers = GradientTileMemory<Shape>::kSavedNumbers;
    constexpr int kPacket = 16 / static_cast<int>(sizeof(Real));
    const auto* saved =
        static_cast<const Real*>(arguments_.saved_rows) + kSavedNumbers * query;
#pragma unroll
    for (int i = 0; i < kSavedNumbers; i += kPacket) {
      copy_async<16>(memory_.saved + kSavedNumbers * staged + i, saved + i, is_query);
    }
    const int64_t item = params_.reduction == Reduction::kNone ? query : 0;
    copy_async<sizeof(Real)>(memory_.upstream + staged,
                             static_cast<const Real*>(arguments_.loss_gradient) + item,
                             is_query);
  }

  __device__ __forceinline__ void prepare_panel(int stage) const {
    const int staged = stage * Shape::kColumns + team_.number();
    const RowNorm<Real> norm =
        team_.prepare(memory_.query_inverse_norm(staged), memory_.queries.row(staged));
    if (!team_.is_first_thread()) return;
    memory_.queries.set_norm(staged, norm);
    const Real coefficient =
        zero_safe_product(static_cast<Real>(memory_.candidate_coefficient(staged)),
                          static_cast<Real>(memory_.upstream[staged]));
    memory_.candidate_coefficient(staged) = coefficient;
    if (coefficient == 0 && drawn_ > 0) memory_.queries.index[staged] = kNotKept;
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ int32_t doc_of(int half) const {
    return memory_.docs.index[row_of_half<Shape>(half)];
  }

  __device__ __forceinline__ void process_panel(int32_t panel, int stage) {
    const int64_t start = first_column<Shape>(panel);
    const int staged = stage * Shape::kColumns;
    const auto* docs = memory_.docs.row(first_row_of_warp<Shape>()) + slice_;
    const auto* queries = memory_.queries.row(staged) + slice_;
    const BandOfPanel<Shape> drew(0, int64_t{drawn_} - 1, start);
    const int64_t diagonal = first_row_of_warp<Shape>() + int64_t{drawn_} - start;
    const bool has_positives = diagonal > -kRowsOfWarp && diagonal < Shape::kColumns;
    const bool takes_part = has_positives || !drew.is_empty();
    Products<Shape> products = {};
    multiply_panel<Shape>(takes_part, docs, queries, memory_.slices, products);
    if (!takes_part) return;
    weigh(drew, staged, products);
    if (has_positives) weigh_positives(static_cast<int>(diagonal), staged, products);
    if constexpr (FitNorms<Storage>::kScalesWeights) scale_weights(products);
    accumulate_panel<Shape>(products, queries, state_.sums);
  }

  // Turns products into weights times the queries' inverse norms, and adds the weights
  // to the documents' projections.
  __device__ __forceinline__ void weigh(const BandOfPanel<Shape>& drew, int staged,
                                        Products<Shape>& products) {
    auto& cosines = products;
    Products<Shape> weights;
    for_each_product<Shape>([&](int fragment, int element, int half, int column) {
      const int query = staged + column;
      const Real cosine = cosine_of_pair<Real>(
          products[fragment][element], memory_.queries.inverse_norm[query],
          inverse_norm_of_half(memory_.docs, half), memory_.queries.nan_addend[query]);
      cosines[fragment][element] = cosine;
      weights[fragment][element] =
          relative_logit(scale_, margin_, cosine, memory_.positive_cosine(query));
    });
    if (has_log_q_) {
      correct(
          memory_.pair_inputs, [](int half, int) { return row_of_half<Shape>(half); },
          [&](int, int column) { return Shape::kRows + staged + column; }, weights);
    }
    for_each_product<Shape>([&](int fragment, int element, int, int column) {
      const int query = staged + column;
      Real& weight = weights[fragment][element];
      weight = weight_of<Shape>(weight - memory_.shift(query)) *
               memory_.candidate_coefficient(query);
    });
    const uint32_t queries = columns_of_queries(staged);
    const bool drops_docs = is_excluded_doc(0) || is_excluded_doc(1);
    if (has_ids_ || !drew.is_whole() || queries != kAllColumns || drops_docs) {
      drop(drew, staged, queries, cosines, weights);
    }
    for_each_product<Shape>([&](int fragment, int element, int half, int column) {
      const Real weight = weights[fragment][element];
      state_.projection[half] =
          multiply_add(weight, cosines[fragment][element], state_.projection[half]);
      products[fragment][element] =
          weight * memory_.queries.inverse_norm[staged + column];
    });
  }

  // Whether every query drops the document in the lane's row.
  __device__ __forceinline__ bool is_excluded_doc(int half) const {
    return has_log_q_ &&
           is_excluded(memory_.pair_inputs.log_q(row_of_half<Shape>(half)));
  }

  // The panel's columns that hold queries with a coefficient: where C > B, some places
  // have no query.
  static constexpr uint32_t kAllColumns = 0xffffffffu;
  __device__ __forceinline__ uint32_t columns_of_queries(int staged) const {
    const int column = lane_of_thread() % Shape::kColumns;
    return __ballot_sync(kWholeWarp, memory_.queries.index[staged + column] >= 0);
  }

  // Keeps the queries that drew a document and did not drop it. The others become
  // numbers that add nothing, even if they were NaN.
  __device__ __forceinline__ void drop(const BandOfPanel<Shape>& drew, int staged,
                                       uint32_t queries, Products<Shape>& cosines,
                                       Products<Shape>& weights) const {
    uint32_t kept[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      kept[half] = drew.columns_of(half) & queries >> column_of_lane();
      if (is_excluded_doc(half)) kept[half] = 0;
      if (!has_ids_) continue;
      const int row = row_of_half<Shape>(half);
      kept[half] = without<Shape>(kept[half], [&](int column) {
        return memory_.pair_inputs.are_equal(params_, Shape::kRows + staged + column,
                                             row, doc_of(half));
      });
    }
    keep_columns<Shape>(kept, Real(0), cosines);
    keep_columns<Shape>(kept, Real(0), weights);
  }

  // A document's own query is behind all that drew it: at column `diagonal` + r for row
  // r of the warp, in one of the row's four lanes.
  __device__ __forceinline__ void weigh_positives(int diagonal, int staged,
                                                  Products<Shape>& products) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = diagonal + row_of_lane() + 8 * half;
      const int of_lane = column - column_of_lane();
      if (column >= Shape::kColumns || of_lane < 0 || of_lane % kFragmentColumns > 1) {
        continue;
      }
      const int query = staged + column;
      const Real weight = memory_.own_coefficients[row_of_half<Shape>(half)];
      if (weight == 0) continue;
      state_.projection[half] =
          multiply_add(weight, memory_.positive_cosine(query), state_.projection[half]);
      const Real weight_of_row = weight * memory_.queries.inverse_norm[query];
      for_each_product<Shape>([&](int fragment, int element, int of_half, int) {
        if (of_half == half && of_lane == fragment * kFragmentColumns + element % 2) {
          products[fragment][element] = weight_of_row;
        }
      });
    }
  }

  // Divides the weights by a power of two, which costs no digit, so that none is above
  // kLargestWeight.
  __device__ __forceinline__ void scale_weights(Products<Shape>& products) {
    Real largest[2] = {0, 0};
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      const Real weight = products[fragment][element];
      largest[half] = max(largest[half], weight < 0 ? -weight : weight);
    });
    raise_divisor(largest);
    const Real inverse_divisor[2] = {inverse_of(state_.weight_divisor[0]),
                                     inverse_of(state_.weight_divisor[1])};
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      products[fragment][element] *= inverse_divisor[half];
    });
  }

  __device__ __forceinline__ static Real inverse_of(Real divisor) {
    return divisor > 0 ? 1 / divisor : Real(0);
  }

  __device__ __forceinline__ void raise_divisor(const Real (&largest)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Real of_row = largest_over_row(largest[half]);
      if (of_row == 0) continue;
      const Real divisor =
          power_of_two_below(of_row * (2 / FitNorms<Storage>::kLargestWeight));
      if (!(divisor > state_.weight_divisor[half])) continue;
      const Real factor = state_.weight_divisor[half] / divisor;
      state_.weight_divisor[half] = divisor;
      scale_row<Shape>(half, factor, state_.sums);
    }
  }

  // --- Store -------------------------------------------------------------------------

  // Each lane writes the gradient's elements over those of the document that it alone
  // reads.
  __device__ __forceinline__ void finish_docs() {
    __syncwarp();  // a warp's slice of its rows is read by no other
    const Real projections[2] = {sum_over_row(state_.projection[0]),
                                 sum_over_row(state_.projection[1])};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t doc = doc_of(half);
      if (doc < 0) continue;
      const Real inverse_norm = doc_inverse_norm(doc);
      const bool is_unused = is_unused_nan(inverse_norm, projections[half]);
      const Real projection =
          is_unused ? Real(0)
                    : projections[half] * inverse_norm_of_half(memory_.docs, half);
      const Real factor = is_unused ? Real(0) : scale_ * inverse_norm;
      auto* row = memory_.docs.row(row_of_half<Shape>(half));
#pragma unroll
      for (int v = 0; v < Shape::kSliceDim / kFragmentColumns; ++v) {
        const int column = slice_ + v * kFragmentColumns + column_of_lane();
        Real pair[2];
        read_pair(row + column, pair);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Real sum = state_.sums[v][2 * half + j];
          if constexpr (FitNorms<Storage>::kScalesWeights)
            sum *= state_.weight_divisor[half];
          Storage rounded;
          round_to((sum - pair[j] * projection) * factor, &rounded);
          row[column + j] = rounded;
        }
      }
    }
  }

  __device__ __forceinline__ void store_docs() const {
    auto* gradients = static_cast<Storage*>(arguments_.doc_gradient);
    team_.store(memory_.docs.row(0), rows_, [&](int row) {
      return gradients + memory_.docs.index[row] * params_.dim;
    });
  }

  const LossParams& params_;
  const GradientArguments& arguments_;
  const GradientScratch& scratch_;
  const RowTeam<Shape> team_;
  const int slice_;  // where the warp's slice begins
  const uint32_t first_place_;
  const int rows_;       // of the tile that exist
  const int32_t drawn_;  // queries in front of a document that drew it
  const Real margin_;
  const Real scale_;
  const bool has_ids_;
  const bool has_log_q_;
  GradientTileMemory<Shape> memory_;
  GradientTileState<Shape> state_;
};

// Block 0 sums the gradient of the scale beside the blocks that work on tiles.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    gradient_tiles_kernel(const LossParams params, const GradientArguments arguments,
                          const GradientScratch scratch, const RowAlignment alignment,
                          const typename Shape::Real margin) {
  if (blockIdx.x == 0) {
    if (arguments.logit_scale_gradient != nullptr) {
      logit_scale_gradient<typename Shape::Real>(params, arguments, scratch);
    }
    return;
  }
  GradientTile<Shape> tile(params, arguments, scratch, (blockIdx.x - 1) * Shape::kRows,
                           alignment, margin);
  tile.find_docs();
  tile.store_query_gradients();
  if (arguments.doc_gradient != nullptr) tile.store_doc_gradients();
}

}  // namespace cuda
}  // namespace negative_cosine
