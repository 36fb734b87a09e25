// The forward pass for samplers whose candidates lie side by side: a block takes a tile
// of neighbouring places through the band of documents that follow them.
//
// The query at place x has its positive at place x and its candidates at x + 1 .. x + K
// (docs/semantics.md, "Candidates"; `all` is the ring of the documents in their own
// order with K = C - 1). So a tile's queries are multiplied with the documents at their
// own places, and then with those behind them, panel by panel. Where there are many
// more documents than queries the tile's places are those of its queries, wherever they
// lie in its span of places (own_places.cuh). The mainloop for each panel: copy,
// prepare, multiply, weigh, accumulate. The epilogue: merge what the groups of warps
// have found, store. What a warp does with its products is in forward_rows.cuh.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/tiles/forward_rows.cuh"
#include "cuda/tiles/own_places.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape, typename OwnPlaces>
class ForwardTile : ForwardRows<Shape, OwnPlaces> {
  using Rows = ForwardRows<Shape, OwnPlaces>;

 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;

  __device__ __forceinline__ ForwardTile(const LossParams& params,
                                         const ForwardOutputs& outputs,
                                         const RowAlignment& alignment, Real margin,
                                         bool norms_are_known)
      : Rows(params, outputs, alignment, margin), norms_are_known_(norms_are_known) {}

  // Comes before `run`: takes the tile's own places.
  __device__ __forceinline__ void take_places() {
    memory_.own_places.find_first_window(params_, &memory_.places);
    __syncthreads();
  }
  // The same from `first` on and in front of `end`, of the queries that have not been
  // taken. Returns where to go on, or `end`.
  __device__ __forceinline__ uint32_t take_queries(uint32_t first, uint32_t end) {
    memory_.own_places.take(params_, first, end, &memory_.places);
    forget_positives();
    __syncthreads();
    return memory_.own_places.next_place();
  }

  __device__ __forceinline__ bool has_rows() const {
    return memory_.own_places.rows() > 0;
  }

  // Returns what ForwardRows::store_rows() does.
  __device__ __forceinline__ double run() {
    copy_own_rows();
    commit_copies();
    copy_panel(0, 0);
    wait_for_copies<1>();
    __syncwarp();
    this->prepare_own_rows();
    const auto panels =
        static_cast<int32_t>((columns() + Shape::kColumns - 1) / Shape::kColumns);
    int turn = 0;
    for (int32_t panel = 0, next; panel < panels; panel = next, ++turn) {
      const int stage = (OwnPlaces::kAreOfQueries ? turn : panel) % 2;
      next = next_panel(panel);
      prepare_panel(panel, stage);
      if (next < panels) {
        memory_.places.find_window(params_, memory_.own_places.first_place(),
                                   first_column<Shape>(next));
      }
      __syncthreads();
      if (next < panels) copy_panel(next, 1 - stage);
      process_panel(panel, stage);
    }
    return this->store_rows();
  }

 private:
  using Rows::memory_;
  using Rows::outputs_;
  using Rows::params_;
  using Rows::state_;
  using Rows::team_;

  using Rows::band;
  using Rows::columns;
  using Rows::copy_known_norm;
  using Rows::doc_at;
  using Rows::query_at;

  // --- Places and panels -------------------------------------------------------------

  // The next panel that some row has to meet: all are, where places are neighbours.
  __device__ __forceinline__ int32_t next_panel(int32_t panel) const {
    if constexpr (!OwnPlaces::kAreOfQueries) return panel + 1;
    const uint32_t column = first_met_column(first_column<Shape>(panel + 1));
    return static_cast<int32_t>(column / Shape::kColumns);
  }

  // The first column from `column` on that is a row's own or in its band, or one behind
  // all.
  __device__ __forceinline__ uint32_t first_met_column(uint32_t column) const {
    uint32_t nearest = 0xffffffffu;
    for (int row = lane_of_thread(); row < Shape::kRows; row += kWarpSize) {
      const uint32_t own = memory_.own_places.place_of()(row);
      if (own + band() >= column) nearest = min(nearest, max(own, column));
    }
    return smallest_over_lanes(nearest);
  }

  // Warps read a row's before its panel is met, and drop what they make of it.
  __device__ __forceinline__ void forget_positives() const {
    const int row = static_cast<int>(threadIdx.x);
    if (row < ForwardTileMemory<Shape, OwnPlaces>::kPositives)
      memory_.positive_cosines[row] = 0;
  }

  // --- Copy and prepare --------------------------------------------------------------

  __device__ __forceinline__ void copy_own_rows() const {
    for_each_row_of_team<Shape>(Shape::kRows, [&](int row) {
      const int32_t doc = memory_.own_places.doc_of(memory_.places, row);
      const int32_t query = query_at(row, doc);
      this->copy_query(row, query);
      if (!team_.is_first_thread()) return;
      memory_.queries.index[row] = query;
      memory_.pair_inputs.copy(params_, row, max(doc, 0), true);
      if (norms_are_known_) {
        copy_known_norm(max(doc, 0), true, memory_.doc_inverse_norm + row);
      }
    });
  }

  __device__ __forceinline__ void copy_panel(int32_t panel, int stage) const {
    for_each_row_of_team<Shape>(Shape::kColumns, [&](int row) {
      const uint32_t column = first_column<Shape>(panel) + static_cast<uint32_t>(row);
      const int staged = stage * Shape::kColumns + row;
      const bool is_wanted = column < columns();
      const int32_t doc = memory_.places.index_at(column);
      team_.copy(doc_at(doc), is_wanted, memory_.docs.row(staged));
      if (!team_.is_first_thread()) return;
      memory_.docs.index[staged] = is_wanted ? doc : kNotKept;
      memory_.pair_inputs.copy(params_, Shape::kRows + staged, doc, is_wanted);
      if (norms_are_known_) {
        copy_known_norm(doc, is_wanted, memory_.docs.norm + staged);
      }
    });
    commit_copies();
  }

  __device__ __forceinline__ void prepare_panel(int32_t panel, int stage) const {
    wait_for_copies<0>();
    __syncwarp();
    auto* doc_inverse_norms = static_cast<Real*>(outputs_.doc_inverse_norm);
    for_each_row_of_team<Shape>(Shape::kColumns, [&](int row) {
      const int staged = stage * Shape::kColumns + row;
      const Real inverse_norm = norms_are_known_
                                    ? static_cast<Real>(memory_.docs.norm[staged])
                                    : team_.inverse_norm(memory_.docs.row(staged));
      __syncwarp();
      const Real norm = team_.prepare(inverse_norm, memory_.docs.row(staged));
      if (!team_.is_first_thread()) return;
      memory_.docs.norm[staged] = norm;
      const uint32_t column = first_column<Shape>(panel) + static_cast<uint32_t>(row);
      if (norms_are_known_ ||
          column >= static_cast<uint32_t>(memory_.own_places.rows())) {
        return;
      }
      memory_.doc_inverse_norm[column] = inverse_norm;
      __stcs(doc_inverse_norms + memory_.docs.index[staged], inverse_norm);
    });
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ void process_panel(int32_t panel, int stage) {
    const int staged = stage * Shape::kColumns + first_column_of_warp<Shape>();
    const int slice = first_element_of_slice<Shape>();
    const auto* docs = memory_.docs.row(staged) + slice;
    const uint32_t column = first_column<Shape>(panel) + first_column_of_warp<Shape>();
    const auto positives = this->band_of_columns(column, 0, 1);
    const auto candidates = this->band_of_columns(column, 1, 1 + band());
    const bool has_positives = !positives.is_empty();
    const bool has_candidates = !candidates.is_empty();
    Products<Shape> products = {};
    multiply_panel<Shape>(has_positives || has_candidates,
                          memory_.queries.row(first_row_of_warp<Shape>()) + slice, docs,
                          memory_.slices, products);
    if (first_column<Shape>(panel) <= memory_.own_places.last_place()) {
      if (has_positives) this->find_positives(positives, staged, products);
      share_positives();
    }
    if (!has_candidates) return;
    this->weigh(candidates, staged, products);
    if (this->sums_directions()) {
      accumulate_panel<Shape>(products, docs, state_.sums);
    }
  }

  // All warps of a row's groups need its positive.
  __device__ __forceinline__ static void share_positives() {
    if constexpr (Shape::kGroups > 1) {
      __syncthreads();
    } else {
      __syncwarp();
    }
  }

  const bool norms_are_known_;  // the documents', in doc_inverse_norm
};

// A block takes the queries at neighbouring places, as many as a tile has rows.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    forward_tiles_kernel(const LossParams params, const ForwardOutputs outputs,
                         const ForwardScratch scratch, const RowAlignment alignment,
                         const typename Shape::Real margin,
                         const bool norms_are_known) {
  ForwardTile<Shape, NeighbouringPlaces<Shape>> tile(params, outputs, alignment, margin,
                                                     norms_are_known);
  tile.take_places();
  const double loss = sum_over_block(tile.run());
  if (params.reduction == Reduction::kNone || threadIdx.x != 0) return;
  __stcs(scratch.block_losses + blockIdx.x, loss);
}

// A block takes the queries at a longer span of places, where many have none. If they
// are more than a tile has rows, it takes the others afterwards.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    forward_gaps_kernel(const LossParams params, const ForwardOutputs outputs,
                        const ForwardScratch scratch, const RowAlignment alignment,
                        const typename Shape::Real margin, const uint32_t span) {
  const uint32_t begin = blockIdx.x * span;
  const uint32_t end = min(begin + span, static_cast<uint32_t>(params.num_candidates));
  double loss = 0;
#pragma unroll 1
  for (uint32_t next = begin; next < end;) {
    ForwardTile<Shape, PlacesOfQueries<Shape>> tile(params, outputs, alignment, margin,
                                                    true);
    next = tile.take_queries(next, end);
    if (tile.has_rows()) loss += sum_over_block(tile.run());
  }
  if (params.reduction == Reduction::kNone || threadIdx.x != 0) return;
  __stcs(scratch.block_losses + blockIdx.x, loss);
}

}  // namespace cuda
}  // namespace negative_cosine
