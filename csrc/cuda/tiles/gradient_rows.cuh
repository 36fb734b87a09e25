// What a warp does with the products of its documents and some queries in the gradient
// pass: weigh, add the positives' weights, and in the end store; and the gradients of
// the queries, which need no products. Where the products come from is gradient.cuh's
// matter.
//
// The softmax weight of a pair is recomputed from its product and the query's saved
// values, as in rows/gradient.cuh, so no two blocks add to the same row and nothing of
// the size B * K is stored.
#pragma once

#include "cuda/rows/gradient.cuh"
#include "cuda/tiles/gradient_memory.cuh"
#include "cuda/tiles/pass.cuh"
#include "cuda/tiles/rounding.cuh"

namespace negative_cosine {
namespace cuda {

// What a lane keeps of its documents: its part of their sums. With float16 the
// weights are divided by a power of two, which the largest weight so far determines
// (FitNorms).
template <typename Shape>
struct GradientTileState {
  using Real = typename Shape::Real;
  Real weight_divisor[kRowsOfLane] = {};  // 0 before any weight
  Real projection[kRowsOfLane] = {};
  LostByRounding<Shape> lost = {};  // divided as the weights are
  RowSums<Shape> sums = {};
};

template <typename Shape, bool kHasGaps>
class GradientRows {
 public:
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;

  __device__ __forceinline__ GradientRows(const LossParams& params,
                                          const GradientArguments& arguments,
                                          const GradientScratch& scratch,
                                          uint32_t first_place,
                                          const RowAlignment& alignment, Real margin)
      : params_(params),
        arguments_(arguments),
        scratch_(scratch),
        team_(params.dim, alignment),
        first_place_(first_place),
        rows_(rows_of_tile<Shape>(params.num_candidates, first_place_)),
        // Over the batch the candidates are not part of the loss.
        drawn_(params.normalize_over == NormalizeOver::kBatch
                   ? 0
                   : static_cast<int32_t>(params.num_negatives)),
        margin_(margin),
        scale_(logit_scale_of<Real>(params)) {}

  // Finds the tile's documents, a thread for each, and what concerns their own queries.
  // It comes before all other steps.
  __device__ __forceinline__ void find_docs() const {
    static_assert(Shape::kRows <= Shape::kThreads, "a thread for each row");
    const int row = static_cast<int>(threadIdx.x);
    if (row < Shape::kRows) {
      const PlaceOrder order(params_);
      const int32_t doc = row < rows_
                              ? static_cast<int32_t>(order.index_at(first_place_ + row))
                              : kNotKept;
      memory_.docs.index[row] = doc;
      find_own_query(row, doc);
    }
    __syncthreads();
  }

  __device__ __forceinline__ void store_query_gradients() const {
    if (arguments_.query_gradient == nullptr) return;
    if (team_.has_whole_packets()) {
      scale_directions<16 / static_cast<int>(sizeof(Real))>();
    } else {
      scale_directions<1>();
    }
  }

 protected:
  static constexpr int32_t kNoPanel = -1;

  // Each warp takes one of the queries at the tile's places, and then others: several
  // at once, so that their loads are in flight together.
  template <int kElements>
  __device__ __forceinline__ void scale_directions() const {
    constexpr int kAtOnce = 4;
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const auto* directions = static_cast<const Real*>(arguments_.query_direction);
    auto* gradients = static_cast<Storage*>(arguments_.query_gradient);
#pragma unroll 1
    for (int first = warp; first < rows_; first += kAtOnce * Shape::kWarps) {
      int64_t starts[kAtOnce];  // of the rows' elements, -1 where there is no query
      Real factors[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int row = first + i * Shape::kWarps;
        const int32_t query = row < rows_ ? memory_.docs.index[row] : kNotKept;
        const bool is_query = query != kNotKept && query < params_.batch_size;
        starts[i] = is_query ? query * params_.dim : -1;
        factors[i] = is_query ? static_cast<Real>(memory_.query_factors[row]) : Real(0);
      }
#pragma unroll 1
      for (int64_t column = lane_of_thread() * kElements; column < params_.dim;
           column += kWarpSize * kElements) {
        Real values[kAtOnce][kElements];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (starts[i] >= 0)
            load_packet_from_l2(directions + starts[i] + column, values[i]);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (starts[i] < 0) continue;
#pragma unroll
          for (Real& value : values[i]) value = zero_safe_product(factors[i], value);
          store_packet(values[i], gradients + starts[i] + column);
        }
      }
    }
  }

  // Asked of the parameters each time: they leave no register for the answer.
  __device__ __forceinline__ bool has_log_q() const {
    return params_.doc_log_q != nullptr;
  }

  // What a document's own query adds, if there is one, and the gradient of its weight.
  __device__ __forceinline__ void find_own_query(int row, int32_t doc) const {
    memory_.own_coefficients[row] = 0;
    if (doc == kNotKept || doc >= params_.batch_size) return;
    const RowCoefficients<Real> coefficients =
        coefficients_of_row<Real>(params_, arguments_, scratch_.coefficient_sum, doc);
    memory_.own_coefficients[row] = coefficients.doc;
    memory_.query_factors[row] =
        zero_safe_product(coefficients.query, logit_scale_of<Real>(params_));
    store_weight_gradient<Real>(params_, arguments_, doc);
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
  __device__ __forceinline__ int32_t next_panel(int32_t panel) const {
    const auto panels =
        static_cast<int32_t>((columns() + Shape::kColumns - 1) / Shape::kColumns);
    while (params_.sampler != Sampler::kRing && panel < panels) {
      const uint32_t first = PlaceOrder::wrapped(
          first_place_of_band() + first_column<Shape>(panel), params_.num_candidates);
      const int64_t to_first_query = params_.num_candidates - first;
      if (first < params_.batch_size || to_first_query < Shape::kColumns) break;
      panel += static_cast<int32_t>(to_first_query / Shape::kColumns);
    }
    return panel < panels ? panel : kNoPanel;
  }

  // --- Copy and prepare --------------------------------------------------------------

  __device__ __forceinline__ void copy_docs() const {
    const auto* docs = static_cast<const Storage*>(params_.doc);
    for_each_row_of_team<Shape>(Shape::kRows, [&](int row) {
      const int32_t doc = memory_.docs.index[row];
      const bool exists = doc >= 0;
      const int64_t source = exists ? doc : 0;
      team_.copy(docs + source * params_.dim, exists, memory_.docs.row(row));
      if (team_.is_first_thread())
        memory_.pair_inputs.copy(params_, row, source, exists);
    });
  }

  __device__ __forceinline__ void prepare_docs() const {
    for_each_row_of_team<Shape>(Shape::kRows, [&](int row) {
      const int32_t doc = memory_.docs.index[row];
      if (doc < 0) {
        if (team_.is_first_thread()) memory_.docs.norm[row] = 0;
        return;
      }
      const Real norm = team_.prepare(doc_inverse_norm(doc), memory_.docs.row(row));
      if (team_.is_first_thread()) memory_.docs.norm[row] = norm;
    });
  }

  __device__ __forceinline__ Real doc_inverse_norm(int64_t doc) const {
    return __ldg(static_cast<const Real*>(arguments_.doc_inverse_norm) + doc);
  }

  __device__ __forceinline__ void copy_saved(int64_t query, bool is_query,
                                             int staged) const {
    constexpr int kSavedNumbers = GradientTileMemory<Shape, kHasGaps>::kSavedNumbers;
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
    for_each_row_of_team<Shape>(Shape::kColumns, [&](int row) {
      const int staged = stage * Shape::kColumns + row;
      const SavedRow<Real> saved = memory_.saved_of(staged);
      const Real norm =
          team_.prepare(saved.query_inverse_norm, memory_.queries.row(staged));
      if (team_.is_first_thread()) set_query(staged, saved, norm);
    });
  }

  // What pairs need of a query, by one thread.
  __device__ __forceinline__ void set_query(int staged, const SavedRow<Real>& saved,
                                            Real norm) const {
    const Real coefficient = zero_safe_product(
        saved.candidate_coefficient, static_cast<Real>(memory_.upstream[staged]));
    memory_.queries.norm[staged] = norm;
    memory_.coefficients[staged] = coefficient;
    memory_.positive_cosines[staged] = saved.positive_cosine;
    memory_.shifts[staged] = saved.shift;
    if (coefficient == 0 && drawn_ > 0) memory_.queries.index[staged] = kNotKept;
  }

  // --- Multiply, weigh, accumulate ---------------------------------------------------

  __device__ __forceinline__ int32_t doc_of(int row) const {
    return memory_.docs.index[row_in_tile<Shape>(row)];
  }

  // Each place has a column: those of row r are r .. r + drawn - 1, and behind them
  // that of the document's own query.
  // The running warp's columns begin at `start`.
  __device__ __forceinline__ BandOfPanel<Shape, PlacesSideBySide> band_of_columns(
      uint32_t start, uint32_t first, uint32_t end) const {
    return {PlacesSideBySide{}, first, end, start};
  }
  __device__ __forceinline__ uint32_t drawn() const {
    return static_cast<uint32_t>(drawn_);
  }

  // Whether one of the warp's columns may belong to one of its rows.
  __device__ __forceinline__ bool meets_queries(uint32_t start, int staged) const {
    if constexpr (kHasGaps) {
      const auto first_row = static_cast<uint32_t>(first_row_of_warp<Shape>());
      const uint32_t first = memory_.query_places[staged];
      const uint32_t last = memory_.query_places[staged + Shape::kColumnsOfWarp - 1];
      return first <= first_row + kRowsOfWarp - 1 + drawn() && last >= first_row;
    } else {
      return !band_of_columns(start, 0, drawn() + 1).is_empty();
    }
  }

  // The queries that drew the documents of the lane's rows, as columns of the warp's.
  __device__ __forceinline__ void find_drawing_queries(
      uint32_t start, int staged, uint32_t (&columns)[kRowsOfLane]) const {
    if constexpr (kHasGaps) {
      const uint32_t drawn = this->drawn();
      find_queries_behind(
          staged, [=](uint32_t places) { return places < drawn; }, columns);
    } else {
      const auto drew = band_of_columns(start, 0, drawn());
      if (drew.is_whole()) return;
      for_each_row_of_lane([&](int row) { columns[row] = drew.columns_of(row); });
    }
  }
  // The documents' own queries, likewise.
  __device__ __forceinline__ void find_own_queries(
      uint32_t start, int staged, uint32_t (&columns)[kRowsOfLane]) const {
    if constexpr (kHasGaps) {
      const uint32_t drawn = this->drawn();
      find_queries_behind(
          staged, [=](uint32_t places) { return places == drawn; }, columns);
    } else {
      const auto own = band_of_columns(start, drawn(), drawn() + 1);
      if (own.is_empty()) return;
      for_each_row_of_lane([&](int row) { columns[row] = own.columns_of(row); });
    }
  }

  // Those for which `is_met` of how many places they are behind column 0 of a row's
  // band: columns with gaps have the places that were copied with them.
  template <typename IsMet>
  __device__ __forceinline__ void find_queries_behind(
      int staged, const IsMet& is_met, uint32_t (&columns)[kRowsOfLane]) const {
    columns[0] = columns[1] = 0;
#pragma unroll 1
    for (int first = 0; first < Shape::kColumnsOfWarp; first += kFragmentColumns) {
      const auto places = read_bits<uint2, uint32_t>(memory_.query_places + staged +
                                                     first + column_of_lane());
      for_each_row_of_lane([&](int row) {
        const auto own = static_cast<uint32_t>(row_in_tile<Shape>(row));
        if (is_met(places.x - own)) columns[row] |= 1u << first;
        if (is_met(places.y - own)) columns[row] |= 2u << first;
      });
    }
  }
  // Turns products into weights, of the candidates and of the positives.
  __device__ __forceinline__ void weigh_all(uint32_t start, int staged,
                                            Products<Shape>& products) {
    weigh(start, staged, products);
    weigh_positives(start, staged, products);
  }

  // Turns products into weights times the queries' inverse norms, and adds the weights
  // to the documents' projections.
  __device__ __forceinline__ void weigh(uint32_t start, int staged,
                                        Products<Shape>& products) {
    auto& cosines = products;
    Products<Shape> weights;
    find_weights(start, staged, cosines, weights);
    const auto* first_norm = memory_.queries.norm + staged + column_of_lane();
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      Real norms[2];
      read_pair(first_norm + fragment * kFragmentColumns, norms);
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        const Real weight = weights[fragment][element];
        Real& projection = state_.projection[element / 2];
        projection = multiply_add(weight, cosines[fragment][element], projection);
        products[fragment][element] = weight * finite_norm(norms[element % 2]);
      }
    }
  }

  // Turns products into cosines, and finds the weights of the candidates.
  __device__ __forceinline__ void find_weights(uint32_t start, int staged,
                                               Products<Shape>& cosines,
                                               Products<Shape>& weights) const {
    to_logits(staged, cosines, weights);
    if (has_log_q()) {
      correct(
          memory_.pair_inputs, [&](int half, int) { return row_in_tile<Shape>(half); },
          [&](int, int column) { return Shape::kRows + staged + column; }, weights);
    }
    to_weights(staged, weights);
    uint32_t kept[2] = {kColumnsOfLane<Shape>, kColumnsOfLane<Shape>};
    find_drawing_queries(start, staged, kept);
    keep_queries(staged, kept);
    if (__any_sync(kWholeWarp, kept[0] != kColumnsOfLane<Shape> ||
                                   kept[1] != kColumnsOfLane<Shape>)) {
      // The others add nothing, even if they were NaN.
      keep_columns<Shape>(kept, Real(0), cosines);
      keep_columns<Shape>(kept, Real(0), weights);
    }
  }

  __device__ __forceinline__ void to_logits(int staged, Products<Shape>& cosines,
                                            Products<Shape>& logits) const {
    const Real doc_norm[2] = {memory_.docs.norm[row_in_tile<Shape>(0)],
                              memory_.docs.norm[row_in_tile<Shape>(1)]};
    const int first = staged + column_of_lane();
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      Real norms[2], positives[2];
      read_pair(memory_.queries.norm + first + fragment * kFragmentColumns, norms);
      read_pair(memory_.positive_cosines + first + fragment * kFragmentColumns,
                positives);
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        const int j = element % 2;
        const Real cosine =
            cosine_of_pair(cosines[fragment][element], norms[j], doc_norm[element / 2]);
        cosines[fragment][element] = cosine;
        logits[fragment][element] =
            relative_logit(scale_, margin_, cosine, positives[j]);
      }
    }
  }

  // Of logits, in place.
  __device__ __forceinline__ void to_weights(int staged,
                                             Products<Shape>& logits) const {
    const int first = staged + column_of_lane();
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      Real shifts[2], coefficients[2];
      read_pair(memory_.shifts + first + fragment * kFragmentColumns, shifts);
      read_pair(memory_.coefficients + first + fragment * kFragmentColumns,
                coefficients);
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        const int j = element % 2;
        Real& weight = logits[fragment][element];
        weight = weight_above<Shape>(weight, shifts[j]) * coefficients[j];
      }
    }
  }

  // Leaves, of the queries that drew the documents of the lane's rows, those that did
  // not drop them.
  __device__ __forceinline__ void keep_queries(int staged, uint32_t (&kept)[2]) const {
    const uint32_t queries = columns_of_queries(staged) >> column_of_lane();
    const int rows[2] = {row_in_tile<Shape>(0), row_in_tile<Shape>(1)};
    for_each_row_of_lane([&](int row) {
      kept[row] &= queries;
      // Whether every query drops the document.
      if (has_log_q() && is_excluded(memory_.pair_inputs.log_q(rows[row]))) {
        kept[row] = 0;
      }
    });
    if (!has_ids(params_)) return;
    drop_equal_ids(
        params_, memory_.pair_inputs, rows, Shape::kRows + staged,
        [&](int half, int) { return doc_of(half); }, kept);
  }

  // The warp's columns that hold queries with a coefficient: where C > B, some places
  // have no query.
  __device__ __forceinline__ uint32_t columns_of_queries(int staged) const {
    const int column = lane_of_thread() % Shape::kColumnsOfWarp;
    return __ballot_sync(kWholeWarp, memory_.queries.index[staged + column] >= 0);
  }

  // A document's own query is behind all that drew it, in one of the row's four lanes.
  __device__ __forceinline__ void weigh_positives(uint32_t start, int staged,
                                                  Products<Shape>& products) {
    uint32_t own[kRowsOfLane] = {};
    find_own_queries(start, staged, own);
    if (!__any_sync(kWholeWarp, (own[0] | own[1]) != 0)) return;
    for_each_row_of_lane([&](int row) {
      if (own[row] == 0) return;
      const Real weight = memory_.own_coefficients[row_in_tile<Shape>(row)];
      if (weight == 0) return;
      const int query =
          staged + column_of_lane() + __ffs(static_cast<int>(own[row])) - 1;
      state_.projection[row] =
          multiply_add(weight, memory_.positive_cosines[query], state_.projection[row]);
      const Real weight_of_row =
          weight * finite_norm<Real>(memory_.queries.norm[query]);
      for_each_product<Shape>([&](int fragment, int element, int half, int) {
        if (half == row && has_column(own[row], fragment, element)) {
          products[fragment][element] = weight_of_row;
        }
      });
    });
  }

  // Divides the weights by a power of two, which costs no digit, so that none is above
  // kLargestWeight.
  __device__ __forceinline__ void scale_weights(Products<Shape>& products) {
    Real largest[2] = {0, 0};
    find_largest_weights(products, largest);
    raise_divisors(largest);
    divide_weights(products);
  }

  __device__ __forceinline__ static void find_largest_weights(
      const Products<Shape>& products, Real (&largest)[2]) {
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      const Real weight = products[fragment][element];
      largest[half] = max(largest[half], weight < 0 ? -weight : weight);
    });
  }

  // `largest` is of the lane's columns.
  __device__ __forceinline__ void raise_divisors(const Real (&largest)[2]) {
    for_each_row_of_lane([&](int row) {
      const Real of_row = largest_over_row(largest[row]);
      if (of_row == 0) return;
      raise_divisor(
          row, power_of_two_below(of_row * (2 / FitNorms<Storage>::kLargestWeight)));
    });
  }

  __device__ __forceinline__ void divide_weights(Products<Shape>& products) const {
    const Real inverse_divisor[2] = {inverse_of(state_.weight_divisor[0]),
                                     inverse_of(state_.weight_divisor[1])};
    for_each_product<Shape>([&](int fragment, int element, int half, int) {
      products[fragment][element] *= inverse_divisor[half];
    });
  }

  __device__ __forceinline__ static Real inverse_of(Real divisor) {
    return divisor > 0 ? 1 / divisor : Real(0);
  }

  __device__ __forceinline__ void raise_divisor(int row, Real divisor) {
    if (!(divisor > state_.weight_divisor[row])) return;
    const Real factor = state_.weight_divisor[row] / divisor;
    state_.weight_divisor[row] = divisor;
    state_.lost.scale(row, factor);
    scale_row<Shape>(row, factor, state_.sums);
  }

  // --- Store -------------------------------------------------------------------------

  // Behind it the gradients are in the place of the documents.
  __device__ __forceinline__ void finish_rows() {
    share_projections();
    Shape::synchronise();
    merge_projections();
    Shape::synchronise();
    finish_docs();
  }

  __device__ __forceinline__ void finish() {
    finish_rows();
    __syncthreads();
    store_docs();
  }

  __device__ __forceinline__ void share_projections() {
    for_each_row_of_lane([&](int row) {
      state_.projection[row] = sum_over_row(state_.projection[row]);
      memory_.groups.set_number(kProjection, row, state_.projection[row]);
      memory_.groups.set_number(kWeightDivisor, row, state_.weight_divisor[row]);
    });
  }

  // A thread for each document: what all groups have found of it.
  __device__ __forceinline__ void merge_projections() const {
    const int in_tile = static_cast<int>(threadIdx.x);
    if (in_tile >= Shape::kRows) return;
    Real projection = 0;
    for (int group = 0; group < Shape::kGroups; ++group) {
      projection += memory_.groups.number_of(kProjection, group, in_tile);
    }
    memory_.factor(kMergedDivisor, in_tile) = merged_divisor(in_tile);
    set_doc_factors(in_tile, projection);
  }
  __device__ __forceinline__ Real merged_divisor(int in_tile) const {
    Real divisor = 0;
    for (int group = 0; group < Shape::kGroups; ++group) {
      divisor = max(divisor, memory_.groups.number_of(kWeightDivisor, group, in_tile));
    }
    return divisor;
  }

  // Of the whole projection.
  __device__ __forceinline__ void set_doc_factors(int in_tile, Real projection) const {
    const int32_t doc = memory_.docs.index[in_tile];
    const Real inverse_norm = doc >= 0 ? doc_inverse_norm(doc) : Real(0);
    const bool is_unused = is_unused_nan(inverse_norm, projection);
    memory_.factor(kProjectionFactor, in_tile) =
        is_unused ? Real(0) : projection * memory_.docs.norm[in_tile];
    memory_.factor(kGradientFactor, in_tile) =
        is_unused ? Real(0) : scale_ * inverse_norm;
  }

  struct DocFactors {
    Real divisor;
    Real projection;
    Real factor;
  };

  __device__ __forceinline__ DocFactors doc_factors(int row) const {
    const int in_tile = row_in_tile<Shape>(row);
    return {FitNorms<Storage>::kScalesWeights ? memory_.factor(kMergedDivisor, in_tile)
                                              : Real(1),
            memory_.factor(kProjectionFactor, in_tile),
            memory_.factor(kGradientFactor, in_tile)};
  }

  // Each lane writes the gradient's elements over those of the document, which it alone
  // reads.
  __device__ __forceinline__ void finish_docs() {
    DocFactors factors[kRowsOfLane];
    for_each_row_of_lane([&](int row) {
      factors[row] = doc_factors(row);
      if constexpr (FitNorms<Storage>::kScalesWeights) {
        raise_divisor(row, factors[row].divisor);
      }
    });
    struct Nothing {};
    memory_.groups.for_each_total(
        state_.sums, [](int) { return Nothing{}; },
        [&](int v, const Real(&sums)[kFragmentElements], Nothing) {
          for_each_row_of_lane([&](int row) {
            const Real pair[2] = {sums[2 * row], sums[2 * row + 1]};
            finish_pair(row_in_tile<Shape>(row), v, factors[row], pair);
          });
        });
  }

  __device__ __forceinline__ void finish_pair(int in_tile, int v,
                                              const DocFactors& factors,
                                              const Real (&sums)[2]) const {
    auto* elements =
        memory_.docs.row(in_tile) +
        (first_element_of_slice<Shape>() + v * kFragmentColumns + column_of_lane());
    Real pair[2];
    read_pair(elements, pair);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const Real along = pair[j] * factors.projection;
      Storage rounded;
      round_to((sums[j] * factors.divisor - along) * factors.factor, &rounded);
      elements[j] = rounded;
    }
  }

  __device__ __forceinline__ void store_docs() const {
    auto* gradients = static_cast<Storage*>(arguments_.doc_gradient);
    team_.store(memory_.docs, rows_, [&](int row) {
      return gradients + memory_.docs.index[row] * params_.dim;
    });
  }

  const LossParams& params_;
  const GradientArguments& arguments_;
  const GradientScratch& scratch_;
  const RowTeam<Shape> team_;
  const uint32_t first_place_;
  const int rows_;       // of the tile that exist
  const int32_t drawn_;  // queries in front of a document that drew it
  const Real margin_;
  const Real scale_;
  GradientTileMemory<Shape, kHasGaps> memory_;
  GradientTileState<Shape> state_;
};

}  // namespace cuda
}  // namespace negative_cosine
