// How a warp holds embedding rows: its own row, a tile of rows that it meets, and the
// weighted sum of them.
//
// RegisterRows keeps all three in registers, for rows of up to kLanes * kPackets
// packets of 16 bytes. A row is spread over a group of kLanes lanes; a warp has 32 /
// kLanes groups, and each has kRows rows in flight, so that a tile is (32 / kLanes) *
// kRows rows. A long row is spread over the kWarps warps of a block, which go through
// the same candidates side by side. StreamedRows is for every other row, longer still
// or not of whole packets: it reads a tile twice, through the caches, and keeps the sum
// in global memory.
//
// Both have the same members, so that a kernel is written once:
//
//   load_unit      a row at unit length
//
//   load_tile      the rows of a tile, whose indices the lanes from `first` on hold;
//                  zeros where an index is kNotKept
//
//   products       of each row of the tile with the unit row, and its squares if asked
//                  for; a lane gets those of the row number candidate_of_lane()
//
//   add_weighted   sums += weight * row, with the weight of a lane's row
//
//   store          combine(unit row, sum, another row), element by element
#pragma once

#include "core/norms.h"
#include "cuda/device/device.cuh"
#include "cuda/rows/kernels.h"

namespace negative_cosine {
namespace cuda {

template <typename Real>
struct RowProducts {
  Real dot;
  Real squares;  // of the row itself
};

// 1 / |row| of a row whose sum of squares overflowed (see core/norms.h); all lanes work
// on it. Rare, so it reads the row again, element by element.
template <typename Storage>
__device__ __forceinline__ ComputeType<Storage> scaled_inverse_norm(const Storage* row,
                                                                    int64_t dim) {
  using Real = ComputeType<Storage>;
  Real element[1];
  Real largest = 0;
#pragma unroll 1
  for (int64_t column = lane_of_thread(); column < dim; column += kWarpSize) {
    ScalarPacket<Storage>::load(row + column).unpack_to(element);
    const Real magnitude = element[0] < 0 ? -element[0] : element[0];
    largest = magnitude > largest ? magnitude : largest;
  }
  largest = largest_over_lanes(largest);
  Real sum = 0;
#pragma unroll 1
  for (int64_t column = lane_of_thread(); column < dim; column += kWarpSize) {
    ScalarPacket<Storage>::load(row + column).unpack_to(element);
    const Real scaled = element[0] / largest;
    sum = multiply_add(scaled, scaled, sum);
  }
  return inverse_norm_of_scaled(largest, sum_over_lanes(sum));
}

template <typename Storage>
__device__ __forceinline__ ComputeType<Storage> inverse_norm_of_row(
    ComputeType<Storage> squares, const Storage* row, int64_t dim) {
  return may_have_overflowed(squares) ? scaled_inverse_norm(row, dim)
                                      : inverse_norm_of(squares);
}

// Adds up what the warps of a block have of a row, in the order of the warps; there is
// nothing to do for one warp.
template <typename Real, int kWarps>
class WarpTeam {
  static_assert(kWarps == 1 || kWarps == kMostWarpsPerBlock,
                "a team is a warp or the whole block: it waits at the block's barrier");

 public:
  template <int kValues>
  __device__ __forceinline__ void sum(Real (&values)[kValues]) const {
    if constexpr (kWarps > 1) {
      // Two of each, used in turn: a barrier then lies between every read and the next
      // write of the same element.
      __shared__ SharedElement<Real> of_thread[2][kValues][kWarps * kWarpSize];
      turn_ = 1 - turn_;
#pragma unroll
      for (int i = 0; i < kValues; ++i) of_thread[turn_][i][threadIdx.x] = values[i];
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        values[i] = of_thread[turn_][i][lane_of_thread()];
#pragma unroll
        for (int warp = 1; warp < kWarps; ++warp) {
          values[i] += of_thread[turn_][i][warp * kWarpSize + lane_of_thread()];
        }
      }
    }
  }

 private:
  mutable int turn_ = 0;
};

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
  static constexpr int kTile = kWarpSize / kLanes * kRows;
  static constexpr int kLanesPerCandidate = kWarpSize / kTile;
  static constexpr bool kNeedsSumMemory = false;
  // Blocks of four warps that share a multiprocessor's registers without spilling any:
  // by the bytes a lane holds of the unit row, and as many of the sum. Two of them have
  // 32 KiB in flight, more than a multiprocessor's share of the second-level cache's
  // bandwidth takes to be kept busy.
  static constexpr int kBytesOfLane =
      kPackets * kElements * static_cast<int>(sizeof(Real));
  static constexpr int kBlocksPerMultiprocessor = kBytesOfLane > 64 ? 2
                                                  : kBytesOfLane > 32 ||
                                                          sizeof(Storage) != 4
                                                      ? 3
                                                      : 4;

  struct Row {
    Packet packets[kPackets];
  };
  struct Tile {
    Row rows[kRows];

    // Makes the compiler forget that it has unpacked these before: it would hold the
    // elements of a whole tile as floats instead of converting them a second time.
    __device__ __forceinline__ void forget() {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int v = 0; v < kPackets; ++v) rows[r].packets[v].forget();
      }
    }
  };
  struct Reals {
    Real values[kPackets][kElements];
  };
  using Unit = Reals;
  using Sums = Reals;

  __device__ __forceinline__ explicit RegisterRows(int64_t dim)
      : dim_(static_cast<int>(dim)),
        row_bytes_(static_cast<uint32_t>(dim * sizeof(Storage))),
        first_column_(lane_of_row() * kElements) {}

  // Whether this thread writes what there is one of for a row.
  __device__ __forceinline__ static bool is_first_lane() {
    return static_cast<int>(threadIdx.x) % (kWarps * kWarpSize) == 0;
  }

  __device__ __forceinline__ static int candidate_of_lane() {
    return lane_of_thread() / kLanesPerCandidate;
  }

  __device__ __forceinline__ Unit load_unit(const Storage* row,
                                            Real* inverse_norm) const {
    Unit unit = unpacked(load_row(row, true));
    Real squares = 0;
    for_each([&](int v, int e) {
      squares = multiply_add(unit.values[v][e], unit.values[v][e], squares);
    });
    Real total[1] = {sum_over_lanes<kLanes / 2, 1>(squares)};
    team_.sum(total);
    *inverse_norm = inverse_norm_of_row(total[0], row, dim_);
    return times(unit, *inverse_norm);
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

  __device__ __forceinline__ Tile load_tile(const Storage* matrix, int32_t index,
                                            int first) const {
    const int group = lane_of_thread() / kLanes;
    const auto* bytes = reinterpret_cast<const char*>(matrix);
    Tile tile;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = __shfl_sync(kWholeWarp, index, first + group * kRows + r);
      // Two factors of 32 bits and a sum of 64: one instruction.
      const char* address =
          bytes + static_cast<uint64_t>(static_cast<uint32_t>(row)) * row_bytes_;
      tile.rows[r] = load_row(reinterpret_cast<const Storage*>(address), row >= 0);
    }
    return tile;
  }

  template <bool kWithSquares>
  __device__ __forceinline__ RowProducts<Real> products(const Unit& unit,
                                                        const Tile& tile) const {
    Real dots[kRows], squares[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      multiply(unit, tile.rows[r], &dots[r], &squares[r]);
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

  __device__ __forceinline__ void add_weighted(Tile tile, Real weight,
                                               Sums* sums) const {
    if constexpr (sizeof(Storage) < sizeof(Real)) tile.forget();
    const int first_lane = lane_of_thread() / kLanes * kLanes;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Real row_weight =
          __shfl_sync(kWholeWarp, weight, first_lane + r * kLanesPerCandidate);
      const Reals row = unpacked(tile.rows[r]);
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
    store_row(&results, to);
  }

  // to = factor * from: a row of the compute type. Times 0 it is 0, whatever it holds.
  template <typename Out>
  __device__ __forceinline__ void store_multiple(const Real* from, Real factor,
                                                 Out* to) const {
    Reals row = factor == 0 ? Reals{} : times(load_reals(from), factor);
    store_row(&row, to);
  }

 private:
  // Elements of 16 bits are eight to a packet, which are 32 bytes as floats, too many
  // for one access. Two neighbouring lanes then share their packets: both together
  // touch the 32 bytes of the one, then of the other, so that each access of the warp
  // covers whole sectors. The even lane holds the first half of each, the odd lane the
  // second.
  static constexpr bool kSharesPackets = kElements * sizeof(Real) > 16;
  static constexpr int kHalf = kElements / 2;

  // From own packets to shared ones, and back: it is its own inverse.
  __device__ __forceinline__ static void share_packets(Reals* row) {
    const bool is_odd = lane_of_thread() % 2 != 0;
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
#pragma unroll
      for (int e = 0; e < kHalf; ++e) {
        Real& first = row->values[v][e];
        Real& second = row->values[v][e + kHalf];
        const Real given = __shfl_xor_sync(kWholeWarp, is_odd ? first : second, 1);
        (is_odd ? first : second) = given;
      }
    }
  }

  // Column and presence of half `half` of what the lane holds of shared packet v.
  __device__ __forceinline__ int shared_column_of(int v, int half) const {
    const int lane = lane_of_row();
    return column_of(v) + ((lane & ~1) + half - lane) * kElements + lane % 2 * kHalf;
  }

  template <typename Out>
  __device__ __forceinline__ void store_row(Reals* row, Out* to) const {
    constexpr bool kShares = kElements * sizeof(Out) > 16;
    if constexpr (kShares) share_packets(row);
    if (lane_of_thread() >= kLanes) return;
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
      if constexpr (kShares) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int column = shared_column_of(v, half);
          if (column < dim_) store_half(row->values[v], half, to + column);
        }
      } else if (has_packet(v)) {
        store_packet(row->values[v], to + column_of(v));
      }
    }
  }

  __device__ __forceinline__ Reals load_reals(const Real* from) const {
    Reals row = {};
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
      if constexpr (kSharesPackets) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int column = shared_column_of(v, half);
          if (column < dim_) load_half(from + column, half, row.values[v]);
        }
      } else if (has_packet(v)) {
        load_sums(from + column_of(v), row.values[v]);
      }
    }
    if constexpr (kSharesPackets) share_packets(&row);
    return row;
  }

  __device__ __forceinline__ static int lane_of_row() {
    return static_cast<int>(threadIdx.x) % (kLanes * kWarps);
  }
  __device__ __forceinline__ int column_of(int v) const {
    return first_column_ + v * kLanes * kWarps * kElements;
  }
  __device__ __forceinline__ bool has_packet(int v) const {
    return column_of(v) < dim_;
  }

  template <typename Work>
  __device__ __forceinline__ static void for_each(const Work& work) {
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
#pragma unroll
      for (int e = 0; e < kElements; ++e) work(v, e);
    }
  }

  // Zeros where the row is not wanted, and behind its end.
  __device__ __forceinline__ Row load_row(const Storage* row, bool wanted) const {
    Row loaded;
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
      loaded.packets[v] =
          Packet::load_if_wanted(wanted && has_packet(v), row + column_of(v));
    }
    return loaded;
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
  const int first_column_;
  WarpTeam<Real, kWarps> team_;
};

template <typename PacketType>
class StreamedRows {
 public:
  using Packet = PacketType;
  using Storage = typename Packet::Storage;
  using Real = typename Packet::Real;
  static constexpr int kElements = Packet::kElements;
  static constexpr int kWarps = 1;
  static constexpr int kRows = 4;
  static constexpr int kTile = kRows;
  static constexpr int kLanesPerCandidate = kWarpSize / kTile;
  static constexpr bool kNeedsSumMemory = true;
  static constexpr int kBlocksPerMultiprocessor = 4;

  struct Unit {
    const Storage* row;
    Real inverse_norm;
  };
  struct Tile {
    const Storage* rows[kRows];  // null where not kept
  };
  using Sums = Real*;

  __device__ __forceinline__ explicit StreamedRows(int64_t dim) : dim_(dim) {}

  __device__ __forceinline__ static bool is_first_lane() {
    return lane_of_thread() == 0;
  }

  __device__ __forceinline__ static int candidate_of_lane() {
    return lane_of_thread() / kLanesPerCandidate;
  }

  __device__ __forceinline__ Unit load_unit(const Storage* row,
                                            Real* inverse_norm) const {
    Real squares = 0;
    for_each_column([&](int64_t column) {
      Real x[kElements];
      Packet::load(row + column).unpack_to(x);
#pragma unroll
      for (int e = 0; e < kElements; ++e) squares = multiply_add(x[e], x[e], squares);
    });
    *inverse_norm = inverse_norm_of_row(sum_over_lanes(squares), row, dim_);
    return {row, *inverse_norm};
  }

  __device__ __forceinline__ Unit load_unit_of_norm(const Storage* row,
                                                    Real inverse_norm) const {
    return {row, inverse_norm};
  }

  __device__ __forceinline__ RowProducts<Real> products_with(const Unit& unit,
                                                             const Storage* row) const {
    Tile tile = {};
    tile.rows[0] = row;
    Real dots[kRows], squares[kRows];
    multiply(unit, tile, dots, squares);
    return {sum_over_lanes(dots[0]), sum_over_lanes(squares[0])};
  }

  __device__ __forceinline__ Tile load_tile(const Storage* matrix, int32_t index,
                                            int first) const {
    Tile tile;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = __shfl_sync(kWholeWarp, index, first + r);
      tile.rows[r] = row >= 0 ? matrix + row * dim_ : nullptr;
    }
    return tile;
  }

  template <bool kWithSquares>
  __device__ __forceinline__ RowProducts<Real> products(const Unit& unit,
                                                        const Tile& tile) const {
    Real dots[kRows], squares[kRows];
    multiply(unit, tile, dots, squares);
    const Real dot = transposed_sums<kRows, kWarpSize>(dots);
    if constexpr (!kWithSquares) return {dot, 0};
    return {dot, transposed_sums<kRows, kWarpSize>(squares)};
  }

  // `memory` has room for a row; each lane touches its own columns of it alone.
  __device__ __forceinline__ Sums no_sums(Real* memory) const {
    const Real zeros[kElements] = {};
    for_each_column([&](int64_t column) { store_packet(zeros, memory + column); });
    return memory;
  }

  __device__ __forceinline__ void scale(Real factor, Sums* sums) const {
    store_multiple(*sums, factor, *sums);
  }

  __device__ __forceinline__ void add_weighted(const Tile& tile, Real weight,
                                               Sums* sums) const {
    Real weights[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      weights[r] = __shfl_sync(kWholeWarp, weight, r * kLanesPerCandidate);
    }
    for_each_column([&](int64_t column) {
      Real sum[kElements];
      load_sums(*sums + column, sum);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        Real x[kElements];
        load_or_zero(tile.rows[r], column, x);
#pragma unroll
        for (int e = 0; e < kElements; ++e)
          sum[e] = multiply_add(weights[r], x[e], sum[e]);
      }
      store_packet(sum, *sums + column);
    });
  }

  template <typename Out, typename Combine>
  __device__ __forceinline__ void store(const Unit& unit, const Sums& sums,
                                        const Storage* other, const Combine& combine,
                                        Out* to) const {
    for_each_column([&](int64_t column) {
      Real x[kElements], sum[kElements], others[kElements];
      Packet::load(unit.row + column).unpack_to(x);
      load_sums(sums + column, sum);
      load_or_zero(other, column, others);
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        sum[e] = combine(x[e] * unit.inverse_norm, sum[e], others[e]);
      }
      store_packet(sum, to + column);
    });
  }

  template <typename Out>
  __device__ __forceinline__ void store_multiple(const Real* from, Real factor,
                                                 Out* to) const {
    for_each_column([&](int64_t column) {
      Real values[kElements];
      load_sums(from + column, values);
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        values[e] = zero_safe_product(factor, values[e]);
      }
      store_packet(values, to + column);
    });
  }

 private:
  template <typename Work>
  __device__ __forceinline__ void for_each_column(const Work& work) const {
#pragma unroll 1
    for (int64_t column = lane_of_thread() * kElements; column < dim_;
         column += kWarpSize * kElements) {
      work(column);
    }
  }

  __device__ __forceinline__ static void load_or_zero(const Storage* row,
                                                      int64_t column,
                                                      Real (&values)[kElements]) {
    const Packet packet = row != nullptr ? Packet::load(row + column) : Packet::zero();
    packet.unpack_to(values);
  }

  __device__ __forceinline__ void multiply(const Unit& unit, const Tile& tile,
                                           Real (&dots)[kRows],
                                           Real (&squares)[kRows]) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) dots[r] = squares[r] = 0;
    for_each_column([&](int64_t column) {
      Real own[kElements];
      Packet::load(unit.row + column).unpack_to(own);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        Real x[kElements];
        load_or_zero(tile.rows[r], column, x);
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
          dots[r] = multiply_add(own[e] * unit.inverse_norm, x[e], dots[r]);
          squares[r] = multiply_add(x[e], x[e], squares[r]);
        }
      }
    });
  }

  const int64_t dim_;
};

}  // namespace cuda
}  // namespace negative_cosine
