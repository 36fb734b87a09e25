// Rows to lanes: element d of neighbouring rows side by side.
#pragma once

#include <cstdint>

#include "cpu/device/vector.h"
#include "cpu/tiles/scratch_size.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// Blocks of kWidth lanes off the diagonal change places, in squares of twice as many.
template <int kWidth, typename Real>
NEGATIVE_COSINE_INLINE void transpose_blocks(Vector<Real> (&rows)[kLanes<Real>]) {
  constexpr int kCount = kLanes<Real>;
  Mask<Real> upper;
  Mask<Real> lower;
  for (int lane = 0; lane < kCount; ++lane) {
    const bool is_left = (lane & kWidth) == 0;
    upper[lane] = is_left ? lane : kCount + lane - kWidth;
    lower[lane] = is_left ? lane + kWidth : kCount + lane;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kCount; ++r) {
    if ((r & kWidth) != 0) continue;
    const Vector<Real> first = rows[r];
    const Vector<Real> second = rows[r + kWidth];
    rows[r] = pick_lanes<Real>(first, second, upper);
    rows[r + kWidth] = pick_lanes<Real>(first, second, lower);
  }
}

// Transposes a square of as many vectors as a vector has lanes.
template <typename Real, int kWidth = kLanes<Real> / 2>
NEGATIVE_COSINE_INLINE void transpose_square(Vector<Real> (&rows)[kLanes<Real>]) {
  transpose_blocks<kWidth, Real>(rows);
  if constexpr (kWidth > 1) transpose_square<Real, kWidth / 2>(rows);
}

// lanes[d][r] = rows[r][d] for `count` rows of a tile, with `elements` elements: both
// are whole vectors.
template <typename Real>
NEGATIVE_COSINE_INLINE void transpose_rows(const Real* rows, int64_t stride, int count,
                                           int64_t elements, Real* lanes) {
  constexpr int kCount = kLanes<Real>;
  for (int row = 0; row < count; row += kCount) {
    for (int64_t d = 0; d < elements; d += kCount) {
      Vector<Real> square[kCount];
      for (int i = 0; i < kCount; ++i) square[i] = load(rows + (row + i) * stride + d);
      transpose_square<Real>(square);
      for (int i = 0; i < kCount; ++i)
        store(lanes + (d + i) * kTileRows + row, square[i]);
    }
  }
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
