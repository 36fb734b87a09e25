// The gradient pass for samplers whose candidates lie side by side: a block takes a
// tile of neighbouring places' documents through the band of queries in front of them.
//
// The document at place x was drawn by the queries at x - K .. x - 1 and is the
// positive of the query at x: the mirror of tiles/forward.cuh. Where there are many
// more documents than queries, panels are made of the queries alone (queries.cuh). The
// mainloop for each panel: copy, prepare, multiply, weigh, accumulate. The epilogue:
// merge what the groups of warps have found, store. What a warp does with its products
// is in gradient_rows.cuh.
#pragma once

#include "cuda/tiles/gradient_rows.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape, bool kHasGaps>
class GradientTile : public GradientRows<Shape, kHasGaps> {
  using Rows = GradientRows<Shape, kHasGaps>;

 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;
  using Rows::Rows;

  // Of the tile's documents, and of the queries at their places.
  __device__ __forceinline__ void store_gradients() {
    int stage = 0;
    int32_t panel = find_first_panel();
    this->copy_docs();
    commit_copies();
    __syncthreads();
    if (panel != kNoPanel) copy_panel(panel, stage);
    commit_copies();
    this->store_query_gradients();  // while the copies are under way
    wait_for_copies<1>();
    __syncwarp();
    this->prepare_docs();
    __syncthreads();
    while (panel != kNoPanel) {
      wait_for_copies<0>();
      __syncwarp();
      this->prepare_panel(stage);
      const int32_t following = find_panel(panel + 1);
      __syncthreads();
      if (following != kNoPanel) copy_panel(following, 1 - stage);
      commit_copies();
      process_panel(panel, stage);
      panel = following;
      stage = 1 - stage;
    }
    this->finish();
  }

 private:
  using Rows::arguments_;
  using Rows::memory_;
  using Rows::params_;
  using Rows::state_;
  using Rows::team_;

  using Rows::columns;
  using Rows::first_place_of_band;
  using Rows::kNoPanel;
  using Rows::next_panel;

  static constexpr uint32_t kNoPlace = 0xffffffffu;  // farther than any

  // Finds what panel the first is, or the first from `panel` on, and its queries. All
  // threads of the block call it, with a barrier before they ask for them.
  __device__ __forceinline__ int32_t find_first_panel() {
    if constexpr (kHasGaps) {
      memory_.places.begin(params_);
      __syncthreads();
      return find_panel(0);
    } else {
      const int32_t panel = next_panel(0);
      if (panel != kNoPanel) {
        memory_.places.find_first_window(params_, first_place_of_band(),
                                         first_column<Shape>(panel));
      }
      return panel;
    }
  }
  __device__ __forceinline__ int32_t find_panel(int32_t panel) {
    if constexpr (kHasGaps) {
      const uint32_t found = memory_.places.find(
          params_, first_place_of_band(), columns(), first_column<Shape>(panel + 1));
      return first_column<Shape>(panel) < found ? panel : kNoPanel;
    } else {
      panel = next_panel(panel);
      if (panel != kNoPanel) {
        memory_.places.find_window(params_, first_place_of_band(),
                                   first_column<Shape>(panel));
      }
      return panel;
    }
  }

  // --- Copy and prepare --------------------------------------------------------------

  __device__ __forceinline__ void copy_panel(int32_t panel, int stage) const {
    for_each_row_of_team<Shape>(Shape::kColumns, [&](int row) {
      const int staged = stage * Shape::kColumns + row;
      const uint32_t number = first_column<Shape>(panel) + static_cast<uint32_t>(row);
      const int32_t query = query_of_panel(number);
      const bool is_query = query != kNotKept;
      const int64_t source = is_query ? query : 0;
      team_.copy(static_cast<const Storage*>(params_.query) + source * params_.dim,
                 is_query, memory_.queries.row(staged));
      if (!team_.is_first_thread()) return;
      memory_.queries.index[staged] = query;
      memory_.pair_inputs.copy(params_, Shape::kRows + staged, source, is_query);
      this->copy_saved(source, is_query, staged);
      if constexpr (kHasGaps) {
        memory_.query_places[staged] =
            is_query ? memory_.places.column_of(number) : kNoPlace;
      }
    });
  }

  // By its number among the columns of all panels.
  __device__ __forceinline__ int32_t query_of_panel(uint32_t number) const {
    if constexpr (kHasGaps) {
      const auto& places = memory_.places;
      return places.has(number) ? places.query_of(number) : kNotKept;
    } else {
      if (number >= columns()) return kNotKept;
      const int32_t query = memory_.places.index_at(number);
      return query < params_.batch_size ? query : kNotKept;
    }
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ void process_panel(int32_t panel, int stage) {
    const int staged = stage * Shape::kColumns + first_column_of_warp<Shape>();
    const int slice = first_element_of_slice<Shape>();
    const auto* queries = memory_.queries.row(staged) + slice;
    const uint32_t column = first_column<Shape>(panel) + first_column_of_warp<Shape>();
    const bool takes_part = this->meets_queries(column, staged);
    Products<Shape> products = {};
    multiply_panel<Shape>(takes_part,
                          memory_.docs.row(first_row_of_warp<Shape>()) + slice, queries,
                          memory_.slices, products);
    if (!takes_part) return;
    this->weigh_all(column, staged, products);
    if constexpr (FitNorms<Storage>::kScalesWeights) this->scale_weights(products);
    accumulate_panel<Shape>(products, queries, state_.sums);
  }
};

// Block 0 sums the gradient of the scale beside the blocks that work on tiles.
template <typename Shape, bool kHasGaps>
__device__ __forceinline__ void gradient_block(const LossParams& params,
                                               const GradientArguments& arguments,
                                               const GradientScratch& scratch,
                                               const RowAlignment& alignment,
                                               typename Shape::Real margin) {
  if (blockIdx.x == 0) {
    if (arguments.logit_scale_gradient != nullptr) {
      logit_scale_gradient<typename Shape::Real>(params, arguments, scratch);
    }
    return;
  }
  GradientTile<Shape, kHasGaps> tile(
      params, arguments, scratch, (blockIdx.x - 1) * Shape::kRows, alignment, margin);
  tile.find_docs();
  if (arguments.doc_gradient != nullptr) {
    tile.store_gradients();
  } else {
    tile.store_query_gradients();
  }
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    gradient_tiles_kernel(const LossParams params, const GradientArguments arguments,
                          const GradientScratch scratch, const RowAlignment alignment,
                          const typename Shape::Real margin) {
  gradient_block<Shape, false>(params, arguments, scratch, alignment, margin);
}

// For a band many of whose places have no query.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    gradient_gaps_kernel(const LossParams params, const GradientArguments arguments,
                         const GradientScratch scratch, const RowAlignment alignment,
                         const typename Shape::Real margin) {
  gradient_block<Shape, true>(params, arguments, scratch, alignment, margin);
}

}  // namespace cuda
}  // namespace negative_cosine
