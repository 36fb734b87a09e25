// Rows in shared memory: copied there, padded with zeros, and prepared to be
// multiplied.
//
// The elements stay as they are, so that a product of two rows is as exact as float32
// sums make it; the inverse norms, which a product has to be multiplied by, are kept
// beside them. Only what is multiplied as Tf32 is rounded to it, each element once.
// Three kinds of row are changed in place:
//
//   a row too long or too short for products and weights within its element type is
//   multiplied by a power of two, which costs it no digit
//
//   a row with infinite or NaN elements becomes zeros and gets NaN as its norm, which
//   makes its cosines NaN: a weight of zero then keeps it out of the sums
//
//   a row without direction (core/norms.h) becomes zeros
#pragma once

#include "core/norms.h"
#include "cuda/device/alignment.h"
#include "cuda/device/arithmetic.cuh"
#include "cuda/device/instructions.cuh"
#include "cuda/device/packets.cuh"
#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// Inverse norms of rows that stay as they are. Weights of bfloat16 have float32's
// range: they lose digits only below about 1e-32, where float32 has few itself.
template <typename Storage>
struct FitNorms {
  using Real = ComputeType<Storage>;
  static constexpr Real kSmallestInverse = Real(1e-12);
  static constexpr Real kLargestInverse = Real(1e12);
  static constexpr bool kScalesWeights = false;
  static constexpr Real kForwardWeightFactor = 1;
};

// Weights of float16 rows are themselves float16, which ends at 65504 and has fewer
// digits below 6e-5: they are scaled so that the largest weights are near the end.
template <>
struct FitNorms<Float16> {
  static constexpr float kSmallestInverse = 1.0f / 64;
  static constexpr float kLargestInverse = 16;
  static constexpr bool kScalesWeights = true;
  static constexpr float kLargestWeight = 32768;
  // The softmax's weights are at most 1, and multiplied by an inverse norm.
  static constexpr float kForwardWeightFactor = kLargestWeight / kLargestInverse;
};

template <typename Storage>
__device__ __forceinline__ bool is_fit(ComputeType<Storage> inverse_norm) {
  return inverse_norm >= FitNorms<Storage>::kSmallestInverse &&
         inverse_norm <= FitNorms<Storage>::kLargestInverse;
}

// The largest power of two that is not above a positive number, or the smallest normal
// one.
__device__ __forceinline__ float power_of_two_below(float value) {
  const float power = __uint_as_float(__float_as_uint(value) & 0x7f800000u);
  return power > 0 ? power : __uint_as_float(0x00800000u);
}
__device__ __forceinline__ double power_of_two_below(double value) {
  const double power =
      __longlong_as_double(__double_as_longlong(value) & 0x7ff0000000000000ll);
  return power > 0 ? power : __longlong_as_double(0x0010000000000000ll);
}

// What a row's weights are multiplied by: its norm, or 0 where that is NaN, since the
// row's elements are then zeros.
template <typename Real>
__device__ __forceinline__ Real finite_norm(Real norm) {
  return norm == norm ? norm : Real(0);
}

// The threads that copy and prepare one row together: neighbouring lanes. A row is a
// pointer or a SwizzledRow (layout.cuh).
template <typename Shape>
class RowTeam {
 public:
  using Storage = typename Shape::Storage;
  using Factor = typename Shape::Factor;
  using Real = typename Shape::Real;

  __device__ __forceinline__ RowTeam(int64_t dim, const RowAlignment& alignment)
      : dim_(static_cast<int>(dim)), alignment_(alignment) {}

  // The team's number: it takes every kTeams-th row from there on.
  __device__ __forceinline__ static int number() {
    return (static_cast<int>(threadIdx.x) - Shape::kFirstThreadOfTeams) /
           Shape::kThreadsOfRow;
  }
  __device__ __forceinline__ static bool is_first_thread() { return thread() == 0; }
  // The running thread of the team.
  __device__ __forceinline__ static int thread() {
    return static_cast<int>(threadIdx.x) % Shape::kThreadsOfRow;
  }

  __device__ __forceinline__ bool has_whole_packets() const {
    return alignment_.whole_packets;
  }

  // Starts to copy a row; zeros where it is not wanted, and behind its end.
  template <typename Row>
  __device__ __forceinline__ void copy(const Storage* from, bool wanted,
                                       const Row& to) const {
    // Warpgroups take no other rows.
    if (Shape::kIsOfWarpgroups || alignment_.copied_bytes == 16) {
      return copy_pieces<16>(from, wanted, to);
    }
    if (alignment_.copied_bytes == 8) return copy_pieces<8>(from, wanted, to);
    if constexpr (sizeof(Storage) <= 4) {
      if (alignment_.copied_bytes == 4) return copy_pieces<4>(from, wanted, to);
    }
    if constexpr (sizeof(Storage) == 2) copy_elements(from, wanted, to);
  }

  // 1 / |row| by core/norms.h, from the row in shared memory.
  template <typename Row>
  __device__ __forceinline__ Real inverse_norm(const Row& row) const {
    Real sums[Shape::kPacket] = {};  // which do not wait for each other
    for_each_packet([&](int column) {
      Real x[Shape::kPacket];
      read_packet(row + column, x);
#pragma unroll
      for (int e = 0; e < Shape::kPacket; ++e) {
        sums[e] = multiply_add(x[e], x[e], sums[e]);
      }
    });
    Real squares = 0;
    for (const Real sum : sums) squares += sum;
    squares = sum_over_team(squares);
    const bool overflowed = may_have_overflowed(squares);
    Real result = inverse_norm_of(squares);
    if (__any_sync(kWholeWarp, overflowed)) {
      const Real scaled = scaled_inverse_norm(row);
      if (overflowed) result = scaled;
    }
    return result;
  }

  // Prepares a row of that inverse norm in place, and returns what its products have to
  // be multiplied by. No thread of the warp may still be reading it.
  template <typename Row>
  __device__ __forceinline__ Real prepare(Real inverse_norm, const Row& row) const {
    if (is_fit<Storage>(inverse_norm)) {
      if constexpr (std::is_same_v<Factor, Tf32>) round_elements(row);
      return inverse_norm;
    }
    const bool has_direction = inverse_norm > 0;  // it may be NaN
    const Real factor = has_direction ? power_of_two_below(inverse_norm) : Real(0);
    for_each_packet([&](int column) {
      Real x[Shape::kPacket];
      read_packet(row + column, x);
#pragma unroll
      for (int e = 0; e < Shape::kPacket; ++e) {
        row[column + e] = to_factor(has_direction ? x[e] * factor : Real(0));
      }
    });
    const bool is_nan = inverse_norm != inverse_norm;
    return has_direction ? inverse_norm / factor : is_nan ? inverse_norm : Real(0);
  }

  // Writes finished rows from shared memory.
  template <typename Rows, typename To>
  __device__ __forceinline__ void store(const Rows& rows, int count,
                                        const To& to) const {
#pragma unroll 1
    for (int row = number(); row < count; row += Shape::kTeams) {
      const auto from = rows.row(row);
      if (has_whole_packets()) {
        store_packets(from, to(row));
      } else {
        store_elements(from, to(row));
      }
    }
  }

 private:
  static constexpr int kPacketsOfThread =
      Shape::kDim / Shape::kPacket / Shape::kThreadsOfRow;
  static_assert(kPacketsOfThread * Shape::kPacket * Shape::kThreadsOfRow == Shape::kDim,
                "all packets, as many for each thread");

  // An element as it is multiplied.
  __device__ __forceinline__ static Storage to_factor(Real value) {
    if constexpr (std::is_same_v<Factor, Tf32>) {
      return __uint_as_float(round_to_tf32(value));
    } else {
      Storage rounded;
      round_to(value, &rounded);
      return rounded;
    }
  }

  template <typename Row>
  __device__ __forceinline__ static void round_elements(const Row& row) {
    for_each_packet([&](int column) {
      Real x[Shape::kPacket];
      read_packet(row + column, x);
      for (Real& value : x) value = to_factor(value);
      write_packet(x, row + column);
    });
  }

  // The packets in shared memory that are a thread's: eight lanes, whose packets move
  // together, take neighbouring ones, and so all banks once.
  template <typename Work>
  __device__ __forceinline__ static void for_each_packet(const Work& work) {
#pragma unroll
    for (int step = 0; step < kPacketsOfThread; ++step) {
      work((step * Shape::kThreadsOfRow + thread()) * Shape::kPacket);
    }
  }

  __device__ __forceinline__ static Real sum_over_team(Real value) {
    return sum_over_lanes<Shape::kThreadsOfRow / 2, 1>(value);
  }

  // Side by side, so that the lanes of a team read neighbouring pieces.
  template <int kBytes, typename Row>
  __device__ __forceinline__ void copy_pieces(const Storage* from, bool wanted,
                                              const Row& to) const {
    constexpr int kElements = kBytes / static_cast<int>(sizeof(Storage));
    constexpr int kStep = Shape::kThreadsOfRow * kElements;
    constexpr int kSteps = Shape::kDim / kStep;
#pragma unroll(kBytes == 16 ? kSteps : 4)
    for (int step = 0; step < kSteps; ++step) {
      const int column = step * kStep + thread() * kElements;
      const bool exists = wanted && column < dim_;
      copy_async<kBytes>(to + column, from + column, exists);
    }
  }

  template <typename Row>
  __device__ __forceinline__ void store_packets(const Row& from, Storage* to) const {
    for_each_packet([&](int column) {
      if (column >= dim_) return;
      __stcs(reinterpret_cast<uint4*>(to + column),
             read_bits<uint4, Storage>(from + column));
    });
  }

  template <typename Row>
  __device__ __forceinline__ void store_elements(const Row& from, Storage* to) const {
#pragma unroll 1
    for (int column = thread(); column < dim_; column += Shape::kThreadsOfRow) {
      store_element(to_compute(static_cast<Storage>(from[column])), to + column);
    }
  }

  // 16-bit elements in odd numbers or at odd addresses, which no asynchronous copy
  // takes.
  template <typename Row>
  __device__ __forceinline__ void copy_elements(const Storage* from, bool wanted,
                                                const Row& to) const {
#pragma unroll 4
    for (int column = thread(); column < Shape::kDim; column += Shape::kThreadsOfRow) {
      const bool exists = wanted && column < dim_;
      Storage element{};
      if (exists) element = load_storage(from + column);
      to[column] = element;
    }
  }

  // Rare, so element by element.
  template <typename Row>
  __device__ __forceinline__ Real scaled_inverse_norm(const Row& row) const {
    Real largest = 0;
#pragma unroll 1
    for (int column = thread(); column < Shape::kDim; column += Shape::kThreadsOfRow) {
      const Real x = to_compute(static_cast<Storage>(row[column]));
      const Real magnitude = x < 0 ? -x : x;
      largest = magnitude > largest ? magnitude : largest;
    }
#pragma unroll
    for (int distance = Shape::kThreadsOfRow / 2; distance >= 1; distance /= 2) {
      const Real other = __shfl_xor_sync(kWholeWarp, largest, distance);
      largest = other > largest ? other : largest;
    }
    Real sum = 0;
#pragma unroll 1
    for (int column = thread(); column < Shape::kDim; column += Shape::kThreadsOfRow) {
      const Real scaled = to_compute(static_cast<Storage>(row[column])) / largest;
      sum = multiply_add(scaled, scaled, sum);
    }
    return inverse_norm_of_scaled(largest, sum_over_team(sum));
  }

  const int dim_;
  const RowAlignment alignment_;
};

}  // namespace cuda
}  // namespace negative_cosine
