// The gradient pass of tiles/gradient.cuh by warpgroups (Hopper): the mirror of
// warpgroups/forward.cuh, with documents in the tile and queries in the panels.
#pragma once

#include "cuda/tiles/gradient_rows.cuh"
#include "cuda/warpgroups/copies.cuh"
#include "cuda/warpgroups/products.cuh"
#include "cuda/warpgroups/stages.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
class WarpgroupGradient : public GradientRows<Shape, false> {
  using Rows = GradientRows<Shape, false>;
  using Multiplication = WarpgroupProducts<Shape>;
  using PanelProducts = typename Multiplication::PanelProducts;
  using PanelWeights = typename Multiplication::PanelWeights;

 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;

  __device__ __forceinline__ WarpgroupGradient(const LossParams& params,
                                               const GradientArguments& arguments,
                                               const GradientScratch& scratch,
                                               uint32_t first_place,
                                               const RowAlignment& alignment,
                                               Real margin)
      : Rows(params, arguments, scratch, first_place, alignment, margin),
        stages_(&memory_.arrays) {}

  // Of the tile's documents, and of the queries at their places.
  __device__ __forceinline__ void store_gradients() {
    stages_.set_up();
    memory_.places.save_order(this->params_);
    __syncthreads();
    if (warp_has_rows<Shape>()) {
      take_registers<Shape::kRegistersOfProducts>();
      this->store_query_gradients();  // while the first copies are under way
      empty_stages();
      finish_rounded_rows();
    } else {
      give_registers_back<Shape::kRegistersOfCopies>();
      fill_stages();
    }
    __syncthreads();
    if (!has_rows_of_tile<Shape>()) this->store_docs();
  }

 private:
  using Rows::memory_;
  using Rows::params_;
  using Rows::state_;
  using Rows::team_;

  using Rows::kNoPanel;
  using Rows::next_panel;

  // --- Copy and prepare --------------------------------------------------------------

  __device__ __forceinline__ void fill_stages() const {
    this->copy_docs();
    commit_copies();
    int turn = 0;
#pragma unroll 1
    for (int32_t panel = next_panel(0); panel != kNoPanel;
         panel = next_panel(panel + 1), ++turn) {
      stages_.wait_until_emptied(turn);
      copy_panel(panel, turn);
      commit_copies();
      if (turn > 0) {
        finish_panel<1>(turn - 1);
      } else {
        wait_for_copies<1>();
        __syncwarp();
        this->prepare_docs();
      }
    }
    finish_panel<0>(turn - 1);  // a document has at least one panel: its own query's
  }

  __device__ __forceinline__ int32_t query_at_column(uint32_t column) const {
    if (column >= this->columns()) return kNotKept;
    const PlaceOrder order = memory_.places.saved_order(params_);
    const uint32_t query = order.index_at(this->first_place_of_band() + column);
    return query < params_.batch_size ? static_cast<int32_t>(query) : kNotKept;
  }

  __device__ __forceinline__ void copy_panel(int32_t panel, int turn) const {
    const int first_staged = stages_.first_row(turn);
    const uint32_t first = first_column<Shape>(panel);
    for_each_found_row<Shape, Shape::kColumns>(
        [&](int row) { return query_at_column(first + static_cast<uint32_t>(row)); },
        [&](int row, int32_t query, bool is_mine) {
          const int staged = first_staged + row;
          const bool is_query = query != kNotKept;
          const int64_t source = is_query ? query : 0;
          team_.copy(static_cast<const Storage*>(params_.query) + source * params_.dim,
                     is_query, memory_.queries.row(staged));
          if (!is_mine) return;
          memory_.queries.index[staged] = query;
          memory_.pair_inputs.copy(params_, Shape::kRows + staged, source, is_query);
          this->copy_saved(source, is_query, staged);
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
      const int staged = first_staged + row;
      const SavedRow<Real> saved = memory_.saved_of(staged);
      is_fit_for_products = is_fit<Storage>(saved.query_inverse_norm);
      this->set_query(staged, saved, saved.query_inverse_norm);
    });
    if (!__all_sync(kWholeWarp, is_fit_for_products)) {
      __syncwarp();  // other lanes write the same there
      this->prepare_panel(stages_.stage_of(turn));
      __syncwarp();
    }
    for_own_row<Shape, Shape::kColumns>([&](int row) {
      const int staged = first_staged + row;
      const Real norm = memory_.queries.norm[staged];
      memory_.shifts[staged] = shift_as_power(memory_.shifts[staged]);
      memory_.weight_factors[staged] = finite_norm(norm);
      memory_.lengths[staged] = length_of(norm);
    });
    stages_.tell_filled(turn);
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ void empty_stages() {
    const int group = same_in_warp(group_of_warp<Shape>());
    finish_writes(state_.sums);  // zeros
    const auto* docs =
        memory_.docs.elements + first_row_of_warpgroup<Shape>() * Shape::kDim;
    int turn = 0;
#pragma unroll 1
    for (int32_t panel = next_panel(0); panel != kNoPanel;
         panel = next_panel(panel + 1), ++turn) {
      if (turn % Shape::kGroups != group) continue;
      stages_.wait_until_filled(turn);
      PanelProducts products;
      Multiplication::multiply(docs, stages_.panel_in(memory_.queries.elements, turn),
                               products);
      wait_for_products<0>();  // the sums of the panel before, too
      if (turn >= Shape::kGroups) stages_.tell_emptied(turn - Shape::kGroups);
      weigh_panel(panel, turn, products);
    }
    wait_for_products<0>();
  }

  __device__ __forceinline__ void weigh_panel(int32_t panel, int turn,
                                              PanelProducts& products) {
    // All weights of a panel have one divisor, as they are added up together.
    if constexpr (FitNorms<Storage>::kScalesWeights) {
      raise_divisors_of_panel(panel, turn, products);
    }
    PanelWeights weights;
#pragma unroll
    for (int part = 0; part < Shape::kParts; ++part) {
      if (meets_part(panel, turn, part)) {
        weigh_part(panel, turn, part, Multiplication::part_of(products, part), weights);
      } else {
        Multiplication::forget_part(weights, part);
      }
    }
    __syncwarp();  // lanes may have dropped pairs one by one
    Multiplication::accumulate(
        weights, stages_.panel_in(memory_.queries.elements, turn), state_.sums);
  }

  __device__ __forceinline__ static uint32_t column_of_part(int32_t panel, int part) {
    return first_column<Shape>(panel) + part * Shape::kColumnsOfWarp;
  }
  __device__ __forceinline__ bool meets_part(int32_t panel, int turn, int part) const {
    return __any_sync(kWholeWarp,
                      this->meets_queries(column_of_part(panel, part),
                                          stages_.first_row_of_part(turn, part)));
  }

  __device__ __forceinline__ void raise_divisors_of_panel(int32_t panel, int turn,
                                                          PanelProducts& products) {
    Real largest[2] = {0, 0};
#pragma unroll
    for (int part = 0; part < Shape::kParts; ++part) {
      if (!meets_part(panel, turn, part)) continue;
      const int staged = stages_.first_row_of_part(turn, part);
      Products<Shape> cosines, weights;
      copy_products<Shape>(Multiplication::part_of(products, part), cosines);
      this->find_weights(column_of_part(panel, part), staged, cosines, weights);
#pragma unroll
      for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
        Real factors[2];
        read_of_columns(memory_.weight_factors, staged, fragment, factors);
#pragma unroll
        for (int element = 0; element < kFragmentElements; ++element) {
          weights[fragment][element] *= factors[element % 2];
        }
      }
      this->find_largest_weights(weights, largest);
    }
    this->raise_divisors(largest);
  }

  __device__ __forceinline__ static void read_of_columns(
      const SharedElement<Real>* numbers, int staged, int fragment, Real (&found)[2]) {
    read_pair(numbers + staged + fragment * kFragmentColumns + column_of_lane(), found);
  }

  __device__ __forceinline__ void weigh_part(int32_t panel, int turn, int part,
                                             Products<Shape>& cosines,
                                             PanelWeights& weights) {
    const int staged = stages_.first_row_of_part(turn, part);
    Products<Shape> exact;
    this->find_weights(column_of_part(panel, part), staged, cosines, exact);
    Real inverse_divisors[2] = {1, 1};
    if constexpr (FitNorms<Storage>::kScalesWeights) {
      inverse_divisors[0] = this->inverse_of(state_.weight_divisor[0]);
      inverse_divisors[1] = this->inverse_of(state_.weight_divisor[1]);
    }
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      Real factors[2], lengths[2];
      read_of_columns(memory_.weight_factors, staged, fragment, factors);
      read_of_columns(memory_.lengths, staged, fragment, lengths);
      for_each_row_of_lane([&](int row) {
        Real given[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const Real weight = exact[fragment][2 * row + j];
          given[j] = weight * factors[j] * inverse_divisors[row];
          all_weights_[row] += fabsf(weight);
        }
        Multiplication::weights_of(weights, part, fragment, row) =
            Multiplication::round_weights(row, given, lengths, &state_.lost);
      });
    }
  }

  // --- Store -------------------------------------------------------------------------

  // As GradientRows::finish_rows(), with what rounding.cuh asks for.
  __device__ __forceinline__ void finish_rounded_rows() {
    share_sums();
    Shape::synchronise();
    merge_sums();
    Shape::synchronise();
    finish_docs();
  }

  __device__ __forceinline__ void share_sums() {
    Real along[2];
    products_with_sums<Shape>(
        state_.sums,
        [&](int in_tile, int column) { return memory_.docs.row(in_tile) + column; },
        along);
    for_each_row_of_lane([&](int row) {
      const Real divisor =
          FitNorms<Storage>::kScalesWeights ? state_.weight_divisor[row] : Real(1);
      const Real all = sum_over_row(all_weights_[row]);
      const auto& groups = memory_.groups;
      groups.set_number(kWeightDivisor, row, state_.weight_divisor[row]);
      groups.set_number(kAllWeights, row, all);
      groups.set_number(kLostWeightsOfDoc, row,
                        divisor * sum_over_row(state_.lost.weights[row]));
      // A document that nobody drew may hold NaN.
      const Real norm = memory_.docs.norm[row_in_tile<Shape>(row)];
      groups.set_number(kAlongDoc, row,
                        all == 0 ? Real(0) : along[row] * divisor * norm);
    });
  }

  // A thread for each document.
  __device__ __forceinline__ void merge_sums() const {
    const int in_tile = static_cast<int>(threadIdx.x);
    if (in_tile >= Shape::kRows) return;
    const Real factor = rounding_factor(sum_over_groups(kAllWeights, in_tile),
                                        sum_over_groups(kLostWeightsOfDoc, in_tile));
    const SavedRow<Real> own = own_query(in_tile);
    const Real coefficient = memory_.own_coefficients[in_tile];
    const Real of_own = zero_safe_product(coefficient, own.positive_cosine);
    this->set_doc_factors(
        in_tile, multiply_add(factor, sum_over_groups(kAlongDoc, in_tile), of_own));
    memory_.factor(kMergedDivisor, in_tile) = this->merged_divisor(in_tile);
    memory_.factor(kSumFactor, in_tile) = factor;
    memory_.factor(kOwnCoefficient, in_tile) = coefficient;
    memory_.factor(kOwnInverseNorm, in_tile) = own.query_inverse_norm;
  }

  __device__ __forceinline__ Real sum_over_groups(GradientNumber which,
                                                  int in_tile) const {
    Real sum = 0;
    for (int group = 0; group < Shape::kGroups; ++group) {
      sum += memory_.groups.number_of(which, group, in_tile);
    }
    return sum;
  }

  // What was saved of the query whose document this is; nothing where its coefficient
  // is 0.
  __device__ __forceinline__ SavedRow<Real> own_query(int in_tile) const {
    if (memory_.own_coefficients[in_tile] == 0) return {0, 0, 0, 0};
    return saved_values_of_row<Real>(this->arguments_, memory_.docs.index[in_tile]);
  }

  // Each lane writes the gradient's elements over those of the document, which it alone
  // reads. Its own query is read once more.
  __device__ __forceinline__ void finish_docs() {
    for_each_row_of_lane([&](int row) {
      if constexpr (FitNorms<Storage>::kScalesWeights) {
        this->raise_divisor(row,
                            memory_.factor(kMergedDivisor, row_in_tile<Shape>(row)));
      }
    });
    struct OwnPairs {
      StoredPair<Storage> pairs[kRowsOfLane];
    };
    memory_.groups.for_each_total(
        state_.sums,
        [&](int v) {
          OwnPairs own;
          for_each_row_of_lane(
              [&](int row) { own.pairs[row] = load_own_pair(row, v); });
          return own;
        },
        [&](int v, const Real(&sums)[kFragmentElements], const OwnPairs& own) {
          for_each_row_of_lane([&](int row) {
            const Real pair[2] = {sums[2 * row], sums[2 * row + 1]};
            finish_pair(row_in_tile<Shape>(row), v, pair, own.pairs[row]);
          });
        });
  }

  __device__ __forceinline__ static int column_of(int v) {
    return v * kFragmentColumns + column_of_lane();
  }

  __device__ __forceinline__ StoredPair<Storage> load_own_pair(int row, int v) const {
    const int in_tile = row_in_tile<Shape>(row);
    const bool is_used = memory_.factor(kOwnCoefficient, in_tile) != 0;
    const int64_t query = is_used ? memory_.docs.index[in_tile] : 0;
    const int column = column_of(v) < params_.dim ? column_of(v) : 0;
    return load_pair(
        static_cast<const Storage*>(params_.query) + query * params_.dim + column, true,
        true);  // rows are whole packets
  }

  __device__ __forceinline__ void finish_pair(int in_tile, int v, const Real (&sums)[2],
                                              const StoredPair<Storage>& own) const {
    auto* elements = memory_.docs.row(in_tile) + column_of(v);
    const Real divisor = FitNorms<Storage>::kScalesWeights
                             ? memory_.factor(kMergedDivisor, in_tile)
                             : Real(1);
    const Real coefficient = memory_.factor(kOwnCoefficient, in_tile);
    Real pair[2], query[2];
    read_pair(elements, pair);
    unpack_stored(own, query);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const Real of_drawn = sums[j] * divisor * memory_.factor(kSumFactor, in_tile);
      const Real of_own = zero_safe_product(
          coefficient, query[j] * memory_.factor(kOwnInverseNorm, in_tile));
      const Real along = pair[j] * memory_.factor(kProjectionFactor, in_tile);
      Storage rounded;
      round_to((of_drawn + of_own - along) * memory_.factor(kGradientFactor, in_tile),
               &rounded);
      elements[j] = rounded;
    }
  }

  Real all_weights_[kRowsOfLane] = {};  // the sum of their absolute values
  const Stages<Shape> stages_;
};

// Block 0 sums the gradient of the scale beside the blocks that work on tiles.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    gradient_warpgroups_kernel(const LossParams params,
                               const GradientArguments arguments,
                               const GradientScratch scratch,
                               const RowAlignment alignment,
                               const typename Shape::Real margin) {
  if (blockIdx.x == 0) {
    if (arguments.logit_scale_gradient != nullptr) {
      logit_scale_gradient<typename Shape::Real>(params, arguments, scratch);
    }
    return;
  }
  WarpgroupGradient<Shape> tile(params, arguments, scratch,
                                (blockIdx.x - 1) * Shape::kRows, alignment, margin);
  tile.find_docs();
  if (arguments.doc_gradient != nullptr) {
    tile.store_gradients();
  } else if (has_rows_of_tile<Shape>()) {
    tile.store_query_gradients();
  }
}

}  // namespace cuda
}  // namespace negative_cosine
