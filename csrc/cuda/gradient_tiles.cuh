// The gradient pass for samplers whose candidates lie side by side: a block takes a
// tile of neighbouring places' documents through the band of queries in front of them.
//
// The document at place x was drawn by the queries at x - K .. x - 1 and is the
// positive of the query at x: the mirror of forward_tiles.cuh. For each block of
// queries: copy, inspect, multiply, weigh, accumulate; at the end: store. The softmax
// weight of a pair is recomputed from its product and the row's saved facts, p_ij =
// e^(t_ij - loss_i), so nothing is added to by two blocks and nothing is stored of the
// size B * K.
#pragma once

#include <cstddef>

#include "cuda/gradient_rows.cuh"
#include "cuda/tile_band.cuh"
#include "cuda/tile_kernels.h"
#include "cuda/tile_memory.cuh"
#include "cuda/tile_products.cuh"
#include "cuda/tile_slices.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
struct GradientTileMemory {
  using Real = typename Shape::Real;
  static constexpr int kMet = 2 * Shape::kColumns;
  using Facts = RowFacts<Real>;
  static constexpr int kFacts = sizeof(Facts) / sizeof(Real);

  __device__ __forceinline__ GradientTileMemory()
      : docs(&arrays, Shape::kRows),
        queries(&arrays, kMet),
        facts(&arrays, Shape::kRows + kMet),
        row_facts(arrays.template take<Real>(kFacts * kMet)),
        upstream(arrays.template take<Real>(kMet)),
        slices(&arrays) {}

  static constexpr int kBytes =
      TileRows<Shape>::bytes(Shape::kRows) + TileRows<Shape>::bytes(kMet) +
      TileFacts<Shape>::bytes(Shape::kRows + kMet) +
      shared_bytes(kFacts * kMet, sizeof(Real)) + shared_bytes(kMet, sizeof(Real)) +
      TileSlices<Shape>::kBytes;

  // Of the queries as they were given.
  __device__ __forceinline__ SharedElement<Real>& coefficient(int slot) const {
    return row_facts[kFacts * slot + offsetof(Facts, coefficient) / sizeof(Real)];
  }
  __device__ __forceinline__ Real positive_cosine(int slot) const {
    return row_facts[kFacts * slot + offsetof(Facts, positive_cosine) / sizeof(Real)];
  }
  __device__ __forceinline__ Real row_loss(int slot) const {
    return row_facts[kFacts * slot + offsetof(Facts, row_loss) / sizeof(Real)];
  }
  __device__ __forceinline__ Real query_inverse_norm(int slot) const {
    return row_facts[kFacts * slot +
                     offsetof(Facts, query_inverse_norm) / sizeof(Real)];
  }

  SharedArrays arrays;
  TileRows<Shape> docs;
  TileRows<Shape> queries;
  TileFacts<Shape> facts;                // of the docs, and behind them the queries
  SharedElement<Real>* const row_facts;  // RowFacts of the queries
  SharedElement<Real>* const upstream;   // the gradient of each query's loss
  TileSlices<Shape> slices;
};

// What a lane keeps of its two documents: its part of their sums. Those of float16
// count in units of a power of two that the largest weight met so far chooses
// (FitNorms).
template <typename Shape>
struct GradientTileState {
  using Real = typename Shape::Real;
  Real unit[2] = {};  // 0 before any weight
  Real projection[2] = {};
  RowSums<Shape> sums = {};
};

// Query rows of which only a multiple of the saved direction is written: 16 bytes of it
// a lane, so that both rows move by whole sectors.
template <typename StorageType>
struct ScaledRows {
  using Storage = StorageType;
  using Real = ComputeType<Storage>;
  static constexpr int kElements = 16 / static_cast<int>(sizeof(Real));

  __device__ __forceinline__ static bool is_first_lane() {
    return lane_of_thread() == 0;
  }

  __device__ __forceinline__ void store_multiple(const Real* from, Real factor,
                                                 Storage* to) const {
    if (whole_packets) {
      store_by<kElements>(from, factor, to);
    } else {
      store_by<1>(from, factor, to);
    }
  }

  template <int kCount>
  __device__ __forceinline__ void store_by(const Real* from, Real factor,
                                           Storage* to) const {
#pragma unroll 1
    for (int64_t column = lane_of_thread() * kCount; column < dim;
         column += kWarpSize * kCount) {
      Real values[kCount];
      load_sums(from + column, values);
#pragma unroll
      for (Real& value : values) value *= factor;
      store_packet(values, to + column);
    }
  }

  const int64_t dim;
  const bool whole_packets;
};

template <typename Shape>
class GradientTile {
 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;

  __device__ __forceinline__ GradientTile(const LossParams& params,
                                          const GradientArguments& arguments,
                                          const GradientScratch& scratch,
                                          int64_t first_place,
                                          const RowAlignment& alignment, Real margin)
      : params_(params),
        arguments_(arguments),
        scratch_(scratch),
        order_(params),
        team_(params.dim, alignment),
        slice_(first_column_of_slice<Shape>()),
        first_place_(first_place),
        rows_(static_cast<int>(
            min(static_cast<long long>(params.num_candidates - first_place),
                static_cast<long long>(Shape::kRows)))),
        // Over the batch the candidates do not enter the loss.
        drawn_(params.normalize_over == NormalizeOver::kBatch ? 0
                                                              : params.num_negatives),
        margin_(margin),
        scale_(logit_scale_of<Real>(params)),
        has_ids_(params.doc_ids != nullptr || params.query_ids != nullptr) {}

  __device__ __forceinline__ void store_doc_gradients() {
    copy_docs();
    inspect_docs();
    const int64_t blocks = (rows_ + drawn_ + Shape::kColumns - 1) / Shape::kColumns;
    int turn = 0;
    int64_t block = next_block(0, blocks);
    if (block < blocks) copy_block(block, turn);
    __syncthreads();
    while (block < blocks) {
      inspect_block(turn);
      __syncthreads();
      const int64_t following = next_block(block + 1, blocks);
      if (following < blocks) copy_block(following, 1 - turn);
      meet_block(block, turn);
      block = following;
      turn = 1 - turn;
    }
    finish_docs();
    __syncthreads();
    store_docs();
  }

  // A warp a query, of those at the tile's places.
  __device__ __forceinline__ void store_query_gradients() const {
    const ScaledRows<Storage> rows{params_.dim, team_.has_whole_packets()};
#pragma unroll 1
    for (int64_t row = static_cast<int>(threadIdx.x) / kWarpSize; row < rows_;
         row += Shape::kWarps) {
      const int64_t index = order_.index_at(first_place_ + row);
      if (index < params_.batch_size) {
        query_gradient_row(params_, arguments_, scratch_, rows, index);
      }
    }
  }

 private:
  // Column c of the band is the query at this place.
  __device__ __forceinline__ uint64_t place_of_column(int64_t column) const {
    return static_cast<uint64_t>(first_place_ + params_.num_candidates - drawn_ +
                                 column);
  }

  // The next block that holds a query: documents in their own order have none behind
  // the first B.
  __device__ __forceinline__ int64_t next_block(int64_t block, int64_t blocks) const {
    if (params_.sampler == Sampler::kRing) return block;
    while (block < blocks && !has_query(block)) ++block;
    return block;
  }
  __device__ __forceinline__ bool has_query(int64_t block) const {
    const uint32_t first = order_.index_at(place_of_column(block * Shape::kColumns));
    return first < params_.batch_size ||
           first + int64_t{Shape::kColumns} > params_.num_candidates;
  }

  // --- Copy and inspect --------------------------------------------------------------

  __device__ __forceinline__ void copy_docs() const {
    const auto* docs = static_cast<const Storage*>(params_.doc);
#pragma unroll 1
    for (int row = team_.number(); row < Shape::kRows; row += Shape::kColumns) {
      const bool exists = row < rows_;
      const int64_t doc = exists ? order_.index_at(first_place_ + row) : 0;
      team_.copy(docs + doc * params_.dim, exists, memory_.docs.row(row));
      if (team_.is_first_thread()) {
        memory_.docs.index[row] = exists ? static_cast<int32_t>(doc) : kNotKept;
        memory_.facts.copy(params_, row, doc, exists);
      }
    }
    commit_copies();
  }

  __device__ __forceinline__ void inspect_docs() const {
    wait_for_copies<0>();
    __syncwarp();
#pragma unroll 1
    for (int row = team_.number(); row < Shape::kRows; row += Shape::kColumns) {
      const int32_t doc = memory_.docs.index[row];
      if (doc < 0) {
        if (team_.is_first_thread()) memory_.docs.note(row, {0, 0});
        continue;
      }
      const RowNorm<Real> norm =
          team_.settle(doc_inverse_norm(doc), memory_.docs.row(row));
      if (team_.is_first_thread()) memory_.docs.note(row, norm);
    }
  }

  __device__ __forceinline__ Real doc_inverse_norm(int64_t doc) const {
    return __ldg(static_cast<const Real*>(arguments_.doc_inverse_norm) + doc);
  }

  __device__ __forceinline__ void copy_block(int64_t block, int turn) const {
    const int column = team_.number();
    const int slot = turn * Shape::kColumns + column;
    const int64_t of_band = block * Shape::kColumns + column;
    const int64_t query = of_band < rows_ + drawn_
                              ? order_.index_at(place_of_column(of_band))
                              : params_.batch_size;
    const bool is_query = query < params_.batch_size;
    const int64_t source = is_query ? query : 0;
    team_.copy(static_cast<const Storage*>(params_.query) + source * params_.dim,
               is_query, memory_.queries.row(slot));
    if (team_.is_first_thread()) {
      memory_.queries.index[slot] = is_query ? static_cast<int32_t>(query) : kNotKept;
      memory_.facts.copy(params_, Shape::kRows + slot, source, is_query);
      copy_row_facts(source, is_query, slot);
    }
    commit_copies();
  }

  __device__ __forceinline__ void copy_row_facts(int64_t query, bool is_query,
                                                 int slot) const {
    constexpr int kFacts = GradientTileMemory<Shape>::kFacts;
    constexpr int kPacket = 16 / static_cast<int>(sizeof(Real));
    const auto* row_facts =
        static_cast<const Real*>(arguments_.row_facts) + kFacts * query;
#pragma unroll
    for (int fact = 0; fact < kFacts; fact += kPacket) {
      copy_async<16>(memory_.row_facts + kFacts * slot + fact, row_facts + fact,
                     is_query);
    }
    const int64_t place = params_.reduction == Reduction::kNone ? query : 0;
    copy_async<sizeof(Real)>(memory_.upstream + slot,
                             static_cast<const Real*>(arguments_.loss_gradient) + place,
                             is_query);
  }

  __device__ __forceinline__ void inspect_block(int turn) const {
    wait_for_copies<0>();
    __syncwarp();
    const int slot = turn * Shape::kColumns + team_.number();
    const RowNorm<Real> norm =
        team_.settle(memory_.query_inverse_norm(slot), memory_.queries.row(slot));
    if (!team_.is_first_thread()) return;
    memory_.queries.note(slot, norm);
    memory_.coefficient(slot) = coefficient_of_row(
        params_, scratch_.coefficient_sum, static_cast<Real>(memory_.coefficient(slot)),
        memory_.row_loss(slot), static_cast<Real>(memory_.upstream[slot]));
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  // Of the document of the lane's row; NaN of one with a poison.
  __device__ __forceinline__ Real inverse_norm_of(int half) const {
    const int row = row_of_half<Shape>(half);
    return memory_.docs.inverse_norm[row] + memory_.docs.poison[row];
  }

  __device__ __forceinline__ int32_t doc_of(int half) const {
    return memory_.docs.index[row_of_half<Shape>(half)];
  }

  __device__ __forceinline__ void meet_block(int64_t block, int turn) {
    const int64_t start = block * Shape::kColumns;
    const int slot = turn * Shape::kColumns;
    const auto* met = memory_.queries.row(slot) + slice_;
    MetPairs<Shape> is_met;
    Products<Shape> products = {};
    const bool meets = find_met_pairs<Shape>(0, drawn_, start, is_met);
    if (meets) {
      const auto* docs = memory_.docs.row(first_row_of_warp<Shape>()) + slice_;
      TileProducts<Shape>::multiply(docs, met, is_met, products);
    }
    memory_.slices.add_up(meets, products);
    if (!meets) return;
    weigh(start, slot, products);
    TileProducts<Shape>::accumulate(products, met, is_met, state_.sums);
  }

  // The block's columns that hold queries: C > B documents have places of none.
  __device__ __forceinline__ uint32_t columns_of_queries(int slot) const {
    if (params_.num_candidates == params_.batch_size) return 0xffffffffu;
    const int column = lane_of_thread() % Shape::kColumns;
    return __ballot_sync(kWholeWarp, memory_.queries.index[slot + column] >= 0);
  }

  // The columns of the queries that drew a document and keep it.
  __device__ __forceinline__ uint32_t kept_columns(int64_t start, int slot,
                                                   uint32_t queries, int half) const {
    if (doc_of(half) < 0) return 0;
    const int row = row_of_half<Shape>(half);
    const uint32_t columns =
        columns_of_band<Shape>(0, drawn_ - 1, start, row) & queries >> column_of_lane();
    if (!has_ids_) return columns;
    return without<Shape>(columns, [&](int column) {
      return memory_.facts.are_equal(params_, Shape::kRows + slot + column, row,
                                     doc_of(half));
    });
  }

  // Products to weights, times the queries' inverse norms, and the sums of them.
  __device__ __forceinline__ void weigh(int64_t start, int slot,
                                        Products<Shape>& products) {
    const uint32_t queries = columns_of_queries(slot);
    const uint32_t kept[2] = {kept_columns(start, slot, queries, 0),
                              kept_columns(start, slot, queries, 1)};
    for_each_product<Shape>([&](int tile, int element, int half, int column) {
      const int met = slot + column;
      const bool is_kept = has_column(kept[half], tile, element);
      const Real cosine = cosine_of_pair<Real>(
          products[tile][element], memory_.queries.inverse_norm[met],
          inverse_norm_of(half), memory_.queries.poison[met]);
      const Real logit =
          relative_logit(scale_, margin_, cosine, memory_.positive_cosine(met),
                         memory_.facts.log_q(row_of_half<Shape>(half)),
                         memory_.facts.log_q(Shape::kRows + met));
      const Real probability = weight_of<Shape>(logit - memory_.row_loss(met));
      const Real weight = is_kept ? probability * memory_.coefficient(met) : Real(0);
      state_.projection[half] =
          multiply_add(weight, is_kept ? cosine : Real(0), state_.projection[half]);
      products[tile][element] = weight * memory_.queries.inverse_norm[met];
    });
    const int64_t diagonal = first_row_of_warp<Shape>() + drawn_ - start;
    if (diagonal > -kRowsOfWarp && diagonal < Shape::kColumns) {
      weigh_positives(static_cast<int>(diagonal), slot, products);
    }
    if constexpr (FitNorms<Storage>::kHasUnits) count_in_units(products);
  }

  // A document's own query is behind all that drew it: at column `diagonal` + r for row
  // r of the warp, where one lane of the row's four has it.
  __device__ __forceinline__ void weigh_positives(int diagonal, int slot,
                                                  Products<Shape>& products) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = diagonal + row_of_lane() + 8 * half;
      const int of_lane = column - column_of_lane();
      if (column >= Shape::kColumns || of_lane < 0 || of_lane % kColumnsOfTile > 1) {
        continue;
      }
      const int met = slot + column;
      if (doc_of(half) < 0 || memory_.queries.index[met] < 0) continue;
      const Real weight = positive_coefficient(
          params_.normalize_over, static_cast<Real>(memory_.coefficient(met)),
          memory_.row_loss(met));
      state_.projection[half] =
          multiply_add(weight, memory_.positive_cosine(met), state_.projection[half]);
      const Real weight_of_row = weight * memory_.queries.inverse_norm[met];
      for_each_product<Shape>([&](int tile, int element, int of_half, int) {
        if (of_half == half && of_lane == tile * kColumnsOfTile + element % 2) {
          products[tile][element] = weight_of_row;
        }
      });
    }
  }

  // Weights less than kLargestWeight units, which lose nothing by a power of two.
  __device__ __forceinline__ void count_in_units(Products<Shape>& products) {
    Real largest[2] = {0, 0};
    for_each_product<Shape>([&](int tile, int element, int half, int) {
      const Real weight = products[tile][element];
      largest[half] = max(largest[half], weight < 0 ? -weight : weight);
    });
    raise_unit(largest);
    const Real inverse_unit[2] = {inverse_of(state_.unit[0]),
                                  inverse_of(state_.unit[1])};
    for_each_product<Shape>([&](int tile, int element, int half, int) {
      products[tile][element] *= inverse_unit[half];
    });
  }

  __device__ __forceinline__ static Real inverse_of(Real unit) {
    return unit > 0 ? 1 / unit : Real(0);
  }

  __device__ __forceinline__ void raise_unit(const Real (&largest)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Real of_row = largest_over_row(largest[half]);
      if (of_row == 0) continue;
      const Real unit =
          power_of_two_below(of_row * (2 / FitNorms<Storage>::kLargestWeight));
      if (!(unit > state_.unit[half])) continue;
      const Real factor = state_.unit[half] / unit;
      state_.unit[half] = unit;
#pragma unroll
      for (auto& sum : state_.sums) {
        sum[2 * half] *= factor;
        sum[2 * half + 1] *= factor;
      }
    }
  }

  // --- Store -------------------------------------------------------------------------

  // Each lane puts the gradient's elements where it alone reads the document's.
  __device__ __forceinline__ void finish_docs() {
    __syncwarp();  // a warp's slice of its rows is read by no other
    const Real projections[2] = {sum_over_row(state_.projection[0]),
                                 sum_over_row(state_.projection[1])};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t doc = doc_of(half);
      if (doc < 0) continue;
      const Real projection = projections[half] * inverse_norm_of(half);
      const Real factor = scale_ * doc_inverse_norm(doc);
      auto* row = memory_.docs.row(row_of_half<Shape>(half));
#pragma unroll
      for (int v = 0; v < Shape::kSliceDim / kColumnsOfTile; ++v) {
        const int column = slice_ + v * kColumnsOfTile + column_of_lane();
        Real pair[2];
        read_pair(row + column, pair);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Real sum = state_.sums[v][2 * half + j];
          if constexpr (FitNorms<Storage>::kHasUnits) sum *= state_.unit[half];
          Storage rounded;
          round_to((sum - pair[j] * projection) * factor, &rounded);
          row[column + j] = rounded;
        }
      }
    }
  }

  __device__ __forceinline__ void store_docs() const {
#pragma unroll 1
    for (int row = team_.number(); row < rows_; row += Shape::kColumns) {
      const int64_t doc = memory_.docs.index[row];
      team_.store(memory_.docs.row(row),
                  static_cast<Storage*>(arguments_.doc_gradient) + doc * params_.dim);
    }
  }

  const LossParams& params_;
  const GradientArguments& arguments_;
  const GradientScratch& scratch_;
  const PlaceOrder order_;
  const RowTeam<Shape> team_;
  const int slice_;  // where the warp's begins
  const int64_t first_place_;
  const int rows_;       // places of the tile
  const int64_t drawn_;  // queries in front of a document that drew it
  const Real margin_;
  const Real scale_;
  const bool has_ids_;
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
  GradientTile<Shape> tile(params, arguments, scratch,
                           int64_t{blockIdx.x - 1} * Shape::kRows, alignment, margin);
  tile.store_query_gradients();
  if (arguments.doc_gradient != nullptr) tile.store_doc_gradients();
}

}  // namespace cuda
}  // namespace negative_cosine
