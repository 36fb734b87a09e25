// Rows in registers: up to kLanes * kPackets packets of 16 bytes, whole or in pieces
// (columns.cuh).
//
// A row is spread over a group of kLanes lanes; a warp has 32 / kLanes groups, and each
// has kRows rows in flight, so that a fragment is (32 / kLanes) * kRows rows. A long
// row is spread over the kWarps warps of a block, which go through the same candidates
// side by side.
#pragma once

#include "cuda/rows/columns.cuh"
#include "cuda/rows/rows.cuh"
#include "cuda/rows/warp_team.cuh"

namespace negative_cosine {
namespace cuda {

template <typename PacketType, int kLanesOfRow, int kPacketsOfLane, int kWarpsOfRow = 1>
class RegisterRows {
 public:
  using Packet = PacketType;
  using Storage = typename Packet::Storage;
  using Real = typename Packet::Real;
  static constexpr int kLanes = kLanesOfRow;  // of one warp
  static constexpr int kWarps = kWarpsOfRow;
  static constexpr int kPackets = kPacketsOfLane;
  static constexpr int kElements = Packet::kElements;
  // Eight packets a lane in flight: 4 KiB a warp, 16 KiB a block.
  static constexpr int kRows = 8 / kPackets;
  static constexpr int kFragmentRows = kWarpSize / kLanes * kRows;
  static constexpr int kLanesPerProduct = kWarpSize / kFragmentRows;
  static constexpr bool kNeedsSumMemory = false;
  // How many blocks of four warps share a multiprocessor's registers without spilling:
  // by the bytes that a lane holds of the unit row, and as many of the sum. Two of them
  // have 32 KiB in flight, enough to saturate a multiprocessor's share of the
  // second-level cache's bandwidth.
  static constexpr int kBytesOfLane =
      kPackets * kElements * static_cast<int>(sizeof(Real));
  static constexpr bool kHasWholeHalves = Packet::kIsWhole && sizeof(Storage) == 2;
  static constexpr int kBlocksPerMultiprocessor = kBytesOfLane > 64 && !kHasWholeHalves
                                                      ? 2
                                                  : kBytesOfLane > 32 ||
                                                          sizeof(Storage) == 8
                                                      ? 3
                                                      : 4;

  using Row = RowOfPackets<Packet, kPackets>;
  struct Fragment {
    Row rows[kRows];

    // Hides from the compiler that these have been unpacked before: it would hold the
    // elements of a whole fragment as floats instead of converting them a second time.
    __device__ __forceinline__ void forget() {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int v = 0; v < kPackets; ++v) rows[r].packets[v].forget();
      }
    }
  };
  using Reals = RowOfReals<Packet, kPackets>;
  using Unit = Reals;
  using Sums = Reals;

  __device__ __forceinline__ RegisterRows(int64_t dim, int piece_bytes)
      : dim_(static_cast<int>(dim)),
        row_bytes_(static_cast<uint32_t>(dim * sizeof(Storage))),
        piece_bytes_(piece_bytes) {}

  // Whether this thread writes the scalars of a row.
  __device__ __forceinline__ static bool is_first_lane() {
    return static_cast<int>(threadIdx.x) % (kWarps * kWarpSize) == 0;
  }

  __device__ __forceinline__ static int product_of_lane() {
    return lane_of_thread() / kLanesPerProduct;
  }

  __device__ __forceinline__ Unit load_unit(const Storage* row,
                                            Real* inverse_norm) const {
    const Row loaded = load_row(row, true);
    *inverse_norm = inverse_norm_of_held(loaded, row);
    return times(unpacked(loaded), *inverse_norm);
  }

  __device__ __forceinline__ Unit load_unit_of_norm(const Storage* row,
                                                    Real inverse_norm) const {
    return times(unpacked(load_row(row, true)), inverse_norm);
  }

  // The product of the unit row with one other row, and the other's squares.
  __device__ __forceinline__ RowProducts<Real> products_with(const Unit& unit,
                                                             const Storage* row) const {
    Real dot, squares;
    multiply(unit, load_row(row, true), &dot, &squares);
    Real totals[2] = {sum_over_lanes<kLanes / 2, 1>(dot),
                      sum_over_lanes<kLanes / 2, 1>(squares)};
    team_.sum(totals);
    return {totals[0], totals[1]};
  }

  __device__ __forceinline__ Fragment load_fragment(const Storage* matrix,
                                                    int32_t index, int first) const {
    const int group = lane_of_thread() / kLanes;
    int indices[kRows];  // first of all, so that nothing comes between the loads
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      indices[r] = __shfl_sync(kWholeWarp, index, first + group * kRows + r);
    }
    const auto* bytes = reinterpret_cast<const char*>(matrix);
    Fragment fragment = {};
    with_columns([&](const auto& columns) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        // Two factors of 32 bits and a sum of 64: one instruction.
        const char* address =
            bytes +
            static_cast<uint64_t>(static_cast<uint32_t>(indices[r])) * row_bytes_;
        fragment.rows[r] =
            columns.load(reinterpret_cast<const Storage*>(address), indices[r] >= 0);
      }
    });
    return fragment;
  }

  template <bool kWithSquares>
  __device__ __forceinline__ RowProducts<Real> products(
      const Unit& unit, const Fragment& fragment) const {
    Real dots[kRows], squares[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      multiply(unit, fragment.rows[r], &dots[r], &squares[r]);
    }
    Real totals[kWithSquares ? 2 : 1];
    totals[0] = transposed_sums<kRows, kLanes>(dots);
    if constexpr (kWithSquares) totals[1] = transposed_sums<kRows, kLanes>(squares);
    team_.sum(totals);
    RowProducts<Real> products{totals[0], 0};
    if constexpr (kWithSquares) products.squares = totals[1];
    return products;
  }

  __device__ __forceinline__ Sums no_sums(Real*) const {
    Sums sums;
    for_each([&](int v, int e) { sums.values[v][e] = 0; });
    return sums;
  }

  __device__ __forceinline__ void scale(Real factor, Sums* sums) const {
    *sums = times(*sums, factor);
  }

  __device__ __forceinline__ void add_weighted(Fragment fragment, Real weight,
                                               Sums* sums) const {
    if constexpr (sizeof(Storage) < sizeof(Real)) fragment.forget();
    const int first_lane = lane_of_thread() / kLanes * kLanes;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Real row_weight =
          __shfl_sync(kWholeWarp, weight, first_lane + r * kLanesPerProduct);
      const Reals row = unpacked(fragment.rows[r]);
      for_each([&](int v, int e) {
        sums->values[v][e] =
            multiply_add(row_weight, row.values[v][e], sums->values[v][e]);
      });
    }
  }

  // to = combine(unit, sums, other), where `other` is one more row.
  template <typename Out, typename Combine>
  __device__ __forceinline__ void store(const Unit& unit, const Sums& sums,
                                        const Storage* other, const Combine& combine,
                                        Out* to) const {
    const Reals others = unpacked(load_row(other, other != nullptr));
    Reals results;
    for_each([&](int v, int e) {
      const Real sum = sum_over_lanes<kWarpSize / 2, kLanes>(sums.values[v][e]);
      results.values[v][e] = combine(unit.values[v][e], sum, others.values[v][e]);
    });
    store_row(results, to);
  }

  // to = factor * from: a row of the compute type. A factor of 0 gives 0, whatever the
  // row holds.
  template <typename Out>
  __device__ __forceinline__ void store_multiple(const Real* from, Real factor,
                                                 Out* to) const {
    with_columns([&](const auto& columns) {
      columns.store(factor == 0 ? Reals{} : times(columns.load_reals(from), factor),
                    to);
    });
  }

 private:
  // Calls `work` with the columns of the row. The size of pieces is the same for all
  // threads.
  template <typename Work>
  __device__ __forceinline__ void with_columns(const Work& work) const {
    if constexpr (Packet::kIsWhole) {
      work(PacketColumns<Packet, kLanes, kPackets, kWarps>(dim_));
    } else {
      static_assert(kWarps == 1, "the pieces of a row are one warp's");
      if (piece_bytes_ == 8) {
        work(PieceColumns<8, Packet, kLanes, kPackets>(dim_));
      } else if constexpr (sizeof(Storage) <= 4) {
        if (piece_bytes_ == 4) {
          work(PieceColumns<4, Packet, kLanes, kPackets>(dim_));
        } else if constexpr (sizeof(Storage) == 2) {
          work(PieceColumns<2, Packet, kLanes, kPackets>(dim_));
        }
      }
    }
  }

  __device__ __forceinline__ Row load_row(const Storage* row, bool wanted) const {
    Row loaded = {};
    with_columns([&](const auto& columns) { loaded = columns.load(row, wanted); });
    return loaded;
  }

  template <typename Out>
  __device__ __forceinline__ void store_row(const Reals& row, Out* to) const {
    with_columns([&](const auto& columns) { columns.store(row, to); });
  }

  // 1 / |row| of a row that is held, and where it lies.
  __device__ __forceinline__ Real inverse_norm_of_held(const Row& held,
                                                       const Storage* row) const {
    const Reals reals = unpacked(held);
    Real squares = 0;
    for_each([&](int v, int e) {
      squares = multiply_add(reals.values[v][e], reals.values[v][e], squares);
    });
    Real total[1] = {sum_over_lanes<kLanes / 2, 1>(squares)};
    team_.sum(total);
    return inverse_norm_of_row(total[0], row, dim_);
  }

  template <typename Work>
  __device__ __forceinline__ static void for_each(const Work& work) {
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
#pragma unroll
      for (int e = 0; e < kElements; ++e) work(v, e);
    }
  }

  __device__ __forceinline__ static Reals unpacked(const Row& row) {
    Reals reals;
#pragma unroll
    for (int v = 0; v < kPackets; ++v) row.packets[v].unpack_to(reals.values[v]);
    return reals;
  }

  __device__ __forceinline__ static Reals times(Reals reals, Real factor) {
    for_each([&](int v, int e) { reals.values[v][e] *= factor; });
    return reals;
  }

  __device__ __forceinline__ static void multiply(const Unit& unit, const Row& row,
                                                  Real* dot, Real* squares) {
    const Reals reals = unpacked(row);
    *dot = *squares = 0;
    for_each([&](int v, int e) {
      const Real x = reals.values[v][e];
      *dot = multiply_add(unit.values[v][e], x, *dot);
      *squares = multiply_add(x, x, *squares);
    });
  }

  const int dim_;
  const uint32_t row_bytes_;
  const int piece_bytes_;
  WarpTeam<Real, kWarps> team_;
};

}  // namespace cuda
}  // namespace negative_cosine
