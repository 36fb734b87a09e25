// Which columns of a row a lane holds, and how they come and go.
//
// A lane holds kPackets packets of 16 bytes. Of whole packets (PacketColumns) each is
// 16 bytes side by side, moved by one instruction. Where addresses allow no such access
// (PieceColumns) a packet is made of pieces of 8, 4 or 2 bytes. Then it is the lanes'
// pieces that lie side by side, so that an access of all lanes covers whole sectors. A
// piece exists or not as a whole: nothing behind a row's end is touched.
//
// Products and sums do not ask which column an element is of. Both classes have
//
//   load        packets of an input row; zeros where it is not wanted, and behind its
//   end store       a row of results load_reals  a row of the compute type that a
//   kernel has written
#pragma once

#include "cuda/device/packets.cuh"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Packet, int kPackets>
struct RowOfPackets {
  Packet packets[kPackets];
};

template <typename Packet, int kPackets>
struct RowOfReals {
  typename Packet::Real values[kPackets][Packet::kElements];
};

// Of a row over kLanes lanes of each of kWarps warps, once for each of a warp's groups
// of kLanes lanes. The first group stores.
template <typename Packet, int kLanes, int kPackets, int kWarps>
class PacketColumns {
 public:
  using Storage = typename Packet::Storage;
  using Real = typename Packet::Real;
  using Row = RowOfPackets<Packet, kPackets>;
  using Reals = RowOfReals<Packet, kPackets>;

  __device__ __forceinline__ explicit PacketColumns(int dim)
      : dim_(dim), first_column_(lane_of_row() * kElements) {}

  __device__ __forceinline__ Row load(const Storage* row, bool wanted) const {
    Row loaded;
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
      loaded.packets[v].bits = load_if(wanted && has_packet(v), row + column_of(v));
    }
    return loaded;
  }

  template <typename Out>
  __device__ __forceinline__ void store(Reals row, Out* to) const {
    constexpr bool kShares = kElements * sizeof(Out) > 16;
    if constexpr (kShares) share_packets(&row);
    if (lane_of_thread() >= kLanes) return;
    const int lane = hidden_lane_of_row();
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
      if constexpr (kShares) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int column = shared_column_of(lane, v, half);
          if (column < dim_) store_half(row.values[v], half, to + column);
        }
      } else if (const int column = lane * kElements + v * kStep; column < dim_) {
        store_packet(row.values[v], to + column);
      }
    }
  }

  __device__ __forceinline__ Reals load_reals(const Real* from) const {
    Reals row = {};
    const int lane = hidden_lane_of_row();
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
      if constexpr (kSharesPackets) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int column = shared_column_of(lane, v, half);
          if (column < dim_) load_half_from_l2(from + column, half, row.values[v]);
        }
      } else if (const int column = lane * kElements + v * kStep; column < dim_) {
        load_packet_from_l2(from + column, row.values[v]);
      }
    }
    if constexpr (kSharesPackets) share_packets(&row);
    return row;
  }

 private:
  static constexpr int kElements = Packet::kElements;
  static constexpr int kStep = kLanes * kWarps * kElements;  // to a lane's next packet

  // Eight elements of 16 bits are a packet, which as floats is 32 bytes, too many for
  // one access. Two neighbouring lanes then share their packets: together they access
  // the 32 bytes of the one, then of the other, so that each access of the warp covers
  // whole sectors. The even lane holds the first half of each, the odd lane the second.
  static constexpr bool kSharesPackets = kElements * sizeof(Real) > 16;
  static constexpr int kHalf = kElements / 2;

  // Converts own packets to shared ones, and back: it is its own inverse.
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

  // The column of half `half` of what a lane holds of shared packet v.
  __device__ __forceinline__ static int shared_column_of(int lane, int v, int half) {
    return ((lane & ~1) + half) * kElements + lane % 2 * kHalf + v * kStep;
  }

  // The compiler does not know it: columns that are used once a row are not worked out
  // before all rows, where they would take registers.
  __device__ __forceinline__ static int hidden_lane_of_row() {
    int lane = lane_of_row();
    asm volatile("" : "+r"(lane));
    return lane;
  }

  __device__ __forceinline__ static int lane_of_row() {
    return static_cast<int>(threadIdx.x) % (kLanes * kWarps);
  }
  __device__ __forceinline__ int column_of(int v) const {
    return first_column_ + v * kStep;
  }
  __device__ __forceinline__ bool has_packet(int v) const {
    return column_of(v) < dim_;
  }

  const int dim_;
  const int first_column_;
};

// The same by pieces of kBytes bytes, for rows of one warp.
template <int kBytes, typename Packet, int kLanes, int kPackets>
class PieceColumns {
 public:
  using Storage = typename Packet::Storage;
  using Real = typename Packet::Real;
  using Row = RowOfPackets<Packet, kPackets>;
  using Reals = RowOfReals<Packet, kPackets>;

  __device__ __forceinline__ explicit PieceColumns(int dim)
      : first_column_(lane_of_thread() % kLanes * kElements),
        columns_(dim - first_column_) {}

  __device__ __forceinline__ Row load(const Storage* row, bool wanted) const {
    const Storage* first = row + first_column_;
    const int columns = wanted ? columns_ : 0;
    Row loaded;
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
      uint32_t words[4] = {};
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        const int column = column_of(v, p);
        insert_piece(load_piece_if<kBytes>(column < columns, first + column), p, words);
      }
      loaded.packets[v].bits = make_uint4(words[0], words[1], words[2], words[3]);
    }
    return loaded;
  }

  template <typename Out>
  __device__ __forceinline__ void store(const Reals& row, Out* to) const {
    if (lane_of_thread() >= kLanes) return;
    for_each_piece([&](int v, int p, int column) {
      Real piece[kElements];
#pragma unroll
      for (int e = 0; e < kElements; ++e) piece[e] = row.values[v][p * kElements + e];
      store_packet(piece, to + first_column_ + column);
    });
  }

  __device__ __forceinline__ Reals load_reals(const Real* from) const {
    Reals row = {};
    for_each_piece([&](int v, int p, int column) {
      Real piece[kElements];
      load_packet_from_l2(from + first_column_ + column, piece);
#pragma unroll
      for (int e = 0; e < kElements; ++e) row.values[v][p * kElements + e] = piece[e];
    });
    return row;
  }

 private:
  static constexpr int kPieces = 16 / kBytes;
  static constexpr int kElements = kBytes / static_cast<int>(sizeof(Storage));

  // Behind the lane's first column.
  __device__ __forceinline__ static constexpr int column_of(int v, int p) {
    return (v * kPieces + p) * kLanes * kElements;
  }

  // Of the pieces that exist.
  template <typename Work>
  __device__ __forceinline__ void for_each_piece(const Work& work) const {
#pragma unroll
    for (int v = 0; v < kPackets; ++v) {
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        if (column_of(v, p) < columns_) work(v, p, column_of(v, p));
      }
    }
  }

  __device__ __forceinline__ static void insert_piece(uint2 piece, int number,
                                                      uint32_t (&words)[4]) {
    if constexpr (kBytes == 8) {
      words[2 * number] = piece.x;
      words[2 * number + 1] = piece.y;
    } else if constexpr (kBytes == 4) {
      words[number] = piece.x;
    } else {
      words[number / 2] |= piece.x << number % 2 * 16;
    }
  }

  const int first_column_;
  const int columns_;  // from the lane's first one to the row's end
};

}  // namespace cuda
}  // namespace negative_cosine
