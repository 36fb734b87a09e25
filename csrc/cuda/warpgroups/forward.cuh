// The forward pass of tiles/forward.cuh by warpgroups (Hopper): three of them share a
// block's work as in FlashAttention-3 (Shah et al., 2024).
//
// The warps of one copy panels of documents into a ring of stages, and prepare them.
// The others multiply their queries with each panel that is complete, weigh the
// products and add the weighted documents up. Both products are asynchronous: a panel
// is added up while the next one is multiplied, and one warpgroup weighs while the
// other multiplies. All norms are known before: bands are wide here.
#pragma once

#include "cuda/tiles/forward_rows.cuh"
#include "cuda/tiles/own_places.cuh"
#include "cuda/warpgroups/copies.cuh"
#include "cuda/warpgroups/products.cuh"
#include "cuda/warpgroups/stages.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
class WarpgroupForward : ForwardRows<Shape, NeighbouringPlaces<Shape>> {
  using Rows = ForwardRows<Shape, NeighbouringPlaces<Shape>>;
  using Multiplication = WarpgroupProducts<Shape>;
  using PanelProducts = typename Multiplication::PanelProducts;
  using PanelWeights = typename Multiplication::PanelWeights;
  using Band = typename Rows::Band;

 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;

  __device__ __forceinline__ WarpgroupForward(const LossParams& params,
                                              const ForwardOutputs& outputs,
                                              const RowAlignment& alignment,
                                              Real margin)
      : Rows(params, outputs, alignment, margin), stages_(&memory_.arrays) {}

  // Returns what ForwardRows::store_rows() does.
  __device__ __forceinline__ double run() {
    stages_.set_up();
    memory_.places.save_order(params_);
    __syncthreads();
    if (!warp_has_rows<Shape>()) {
      give_registers_back<Shape::kRegistersOfCopies>();
      fill_stages();
      return 0;
    }
    take_registers<Shape::kRegistersOfProducts>();
    empty_stages();
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

  __device__ __forceinline__ int panels() const {
    return static_cast<int>((columns() + Shape::kColumns - 1) / Shape::kColumns);
  }

  // --- Copy and prepare --------------------------------------------------------------

  __device__ __forceinline__ void fill_stages() const {
    copy_own_rows();
    commit_copies();
    const int panels = this->panels();
#pragma unroll 1
    for (int turn = 0; turn < panels; ++turn) {
      stages_.wait_until_emptied(turn);
      copy_panel(turn);
      commit_copies();
      if (turn > 0) {
        finish_panel<1>(turn - 1);
      } else {
        wait_for_copies<1>();
        __syncwarp();
        this->prepare_own_rows();
      }
    }
    finish_panel<0>(panels - 1);
  }

  __device__ __forceinline__ int32_t doc_at_column(uint32_t column) const {
    const PlaceOrder order = memory_.places.saved_order(params_);
    return static_cast<int32_t>(
        order.index_at(uint64_t{memory_.own_places.first_place()} + column));
  }

  __device__ __forceinline__ void copy_own_rows() const {
    for_each_found_row<Shape, Shape::kRows>(
        [&](int row) { return doc_at_column(static_cast<uint32_t>(row)); },
        [&](int row, int32_t doc, bool is_mine) {
          const int32_t query = this->query_at(row, doc);
          this->copy_query(row, query);
          if (!is_mine) return;
          memory_.queries.index[row] = query;
          memory_.pair_inputs.copy(params_, row, doc, true);
          copy_known_norm(doc, true, memory_.doc_inverse_norm + row);
        });
  }

  __device__ __forceinline__ void copy_panel(int turn) const {
    const int first_staged = stages_.first_row(turn);
    const uint32_t first = first_column<Shape>(turn);
    for_each_found_row<Shape, Shape::kColumns>(
        [&](int row) {
          const uint32_t column = first + static_cast<uint32_t>(row);
          return column < columns() ? doc_at_column(column) : kNotKept;
        },
        [&](int row, int32_t doc, bool is_mine) {
          const int staged = first_staged + row;
          const bool is_wanted = doc != kNotKept;
          const int32_t source = max(doc, 0);
          team_.copy(this->doc_at(source), is_wanted, memory_.docs.row(staged));
          if (!is_mine) return;
          memory_.docs.index[staged] = doc;
          memory_.pair_inputs.copy(params_, Shape::kRows + staged, source, is_wanted);
          copy_known_norm(source, is_wanted, memory_.docs.norm + staged);
        });
  }

  // Once at most kPending later groups of copies are on their way. Few rows have to be
  // changed (tiles/rows.cuh): one lane looks at each.
  template <int kPending>
  __device__ __forceinline__ void finish_panel(int turn) const {
    wait_for_copies<kPending>();
    __syncwarp();
    const int first_staged = stages_.first_row(turn);
    bool is_fit_for_products = true;
    for_own_row<Shape, Shape::kColumns>([&](int row) {
      is_fit_for_products = is_fit<Storage>(memory_.docs.norm[first_staged + row]);
    });
    if (!__all_sync(kWholeWarp, is_fit_for_products)) prepare_rows(first_staged);
    for_own_row<Shape, Shape::kColumns>([&](int row) {
      const int staged = first_staged + row;
      const Real norm = memory_.docs.norm[staged];
      memory_.weight_factors[staged] = Rows::kWeightFactor * finite_norm(norm);
      memory_.lengths[staged] = length_of(norm) * (1 / Rows::kWeightFactor);
    });
    stages_.tell_filled(turn);
  }

  __device__ __forceinline__ void prepare_rows(int first_staged) const {
    for_each_row_of_team<Shape>(Shape::kColumns, [&](int row) {
      const int staged = first_staged + row;
      const Real inverse_norm = memory_.docs.norm[staged];
      __syncwarp();
      const Real norm = team_.prepare(inverse_norm, memory_.docs.row(staged));
      if (team_.is_first_thread()) memory_.docs.norm[staged] = norm;
    });
    __syncwarp();
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ void empty_stages() {
    const int panels = this->panels();
    const int group = same_in_warp(group_of_warp<Shape>());
    finish_writes(state_.sums);  // zeros
    const auto* queries =
        memory_.queries.elements + first_row_of_warpgroup<Shape>() * Shape::kDim;
#pragma unroll 1
    for (int turn = group; turn < panels; turn += Shape::kGroups) {
      stages_.wait_until_filled(turn);
      PanelProducts products;
      Multiplication::multiply(queries, stages_.panel_in(memory_.docs.elements, turn),
                               products);
      wait_for_products<0>();  // the sums of the panel before, too
      if (turn >= Shape::kGroups) stages_.tell_emptied(turn - Shape::kGroups);
      find_positives_of_panel(turn, products);
      weigh_panel(turn, products);
    }
    if (group >= panels) share_positives();
    wait_for_products<0>();
  }

  // Positives are in the first panels. Each group has to know them before it weighs.
  __device__ __forceinline__ void find_positives_of_panel(
      int turn, PanelProducts& products) const {
    static_assert(Shape::kGroups == 1 || Shape::kRows <= Shape::kColumns,
                  "the first group finds all positives in its first panel");
    const uint32_t first = first_column<Shape>(turn);
    if (first < static_cast<uint32_t>(Shape::kRows)) {
#pragma unroll
      for (int part = 0; part < Shape::kParts; ++part) {
        const auto positives =
            this->band_of_columns(first + part * Shape::kColumnsOfWarp, 0, 1);
        if (__all_sync(kWholeWarp, positives.is_empty())) continue;
        this->find_positives(positives, stages_.first_row_of_part(turn, part),
                             Multiplication::part_of(products, part));
      }
    }
    if (turn < Shape::kGroups || Shape::kGroups == 1) share_positives();
  }
  __device__ __forceinline__ static void share_positives() {
    if constexpr (Shape::kGroups > 1) {
      Shape::synchronise();
    } else {
      __syncwarp();
    }
  }

  __device__ __forceinline__ void weigh_panel(int turn, PanelProducts& products) {
    // All weights of a panel are relative to one shift, as they are added up together.
    if (this->running_maximum_) raise_shift_of_panel(turn, products);
    PanelWeights weights;
#pragma unroll
    for (int part = 0; part < Shape::kParts; ++part) {
      const Band candidates = candidates_of_part(turn, part);
      if (__all_sync(kWholeWarp, candidates.is_empty())) {
        Multiplication::forget_part(weights, part);
      } else {
        weigh_part(candidates, turn, part, Multiplication::part_of(products, part),
                   weights);
      }
    }
    if (!this->sums_directions()) return;
    __syncwarp();  // lanes may have dropped pairs one by one
    Multiplication::accumulate(weights, stages_.panel_in(memory_.docs.elements, turn),
                               state_.sums);
  }

  __device__ __forceinline__ Band candidates_of_part(int turn, int part) const {
    const uint32_t column = first_column<Shape>(turn) + part * Shape::kColumnsOfWarp;
    return this->band_of_columns(column, 1, 1 + band());
  }

  __device__ __forceinline__ void raise_shift_of_panel(int turn,
                                                       PanelProducts& products) {
    Real largest[2] = {-static_cast<Real>(INFINITY), -static_cast<Real>(INFINITY)};
#pragma unroll
    for (int part = 0; part < Shape::kParts; ++part) {
      const Band candidates = candidates_of_part(turn, part);
      if (__all_sync(kWholeWarp, candidates.is_empty())) continue;
      Products<Shape> cosines, logits;
      copy_products<Shape>(Multiplication::part_of(products, part), cosines);
      uint32_t kept[2];
      this->find_logits(candidates, stages_.first_row_of_part(turn, part), cosines,
                        logits, kept);
      this->find_largest(logits, largest);
    }
    this->raise_shift(largest);
  }

  __device__ __forceinline__ void weigh_part(const Band& candidates, int turn, int part,
                                             Products<Shape>& cosines,
                                             PanelWeights& weights) {
    const int staged = stages_.first_row_of_part(turn, part);
    Products<Shape> logits;
    uint32_t kept[2];
    this->find_logits(candidates, staged, cosines, logits, kept);
    this->count(kept, logits);
    const int first = staged + column_of_lane();
    const Real shifts[2] = {shift_as_power(state_.shift[0]),
                            shift_as_power(state_.shift[1])};
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      Real factors[2], lengths[2];
      read_pair(memory_.weight_factors + first + fragment * kFragmentColumns, factors);
      read_pair(memory_.lengths + first + fragment * kFragmentColumns, lengths);
      for_each_row_of_lane([&](int row) {
        Real given[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int element = 2 * row + j;
          const Real weight =
              weight_above<Shape>(logits[fragment][element], shifts[row]);
          given[j] = weight * factors[j];
          state_.weight_sum[row] += weight;
          // For the gradient of the scale.
          state_.cosine_sum[row] =
              multiply_add(weight, cosines[fragment][element], state_.cosine_sum[row]);
        }
        Multiplication::weights_of(weights, part, fragment, row) =
            Multiplication::round_weights(row, given, lengths, &state_.lost);
      });
    }
  }

  const Stages<Shape> stages_;
};

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    forward_warpgroups_kernel(const LossParams params, const ForwardOutputs outputs,
                              const ForwardScratch scratch,
                              const RowAlignment alignment,
                              const typename Shape::Real margin) {
  WarpgroupForward<Shape> tile(params, outputs, alignment, margin);
  const double loss = sum_over_block(tile.run());
  if (params.reduction == Reduction::kNone || threadIdx.x != 0) return;
  __stcs(scratch.block_losses + blockIdx.x, loss);
}

}  // namespace cuda
}  // namespace negative_cosine
