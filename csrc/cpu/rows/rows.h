// Arithmetic on embedding rows: norms, dot products with several rows at a time, and
// weighted sums of rows.
//
// A row of D elements is read as D / L whole vectors of L lanes and, where D is not a
// multiple of L, one tail vector. The tail covers the row's last L elements, so it
// overlaps the last whole vector; the left operand of a dot product holds zeros in the
// overlap. A row shorter than a vector is padded with zeros.
#pragma once

#include <cstdint>

#include "core/norms.h"
#include "cpu/device/vector.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

template <typename Real>
struct RowShape {
  explicit RowShape(int64_t dim)
      : dim(dim), whole(dim / kLanes<Real>), has_tail(dim % kLanes<Real> != 0) {}

  int64_t padded() const { return (whole + has_tail) * kLanes<Real>; }
  int64_t tail_start() const { return dim < kLanes<Real> ? 0 : dim - kLanes<Real>; }

  const int64_t dim;
  const int64_t whole;
  const bool has_tail;
};

template <typename Storage>
NEGATIVE_COSINE_INLINE Vector<ComputeType<Storage>> load_tail(
    const RowShape<ComputeType<Storage>>& shape, const Storage* row) {
  using Real = ComputeType<Storage>;
  if (shape.dim >= kLanes<Real>) return load(row + shape.tail_start());
  Real padded[kLanes<Real>] = {};
  for (int64_t i = 0; i < shape.dim; ++i) padded[i] = to_compute(row[i]);
  return load(padded);
}

// Writes the tail's elements that no whole vector covers.
template <typename Storage>
NEGATIVE_COSINE_INLINE void store_tail(const RowShape<ComputeType<Storage>>& shape,
                                       Vector<ComputeType<Storage>> tail,
                                       Storage* row) {
  using Real = ComputeType<Storage>;
  Real lanes[kLanes<Real>];
  store(lanes, tail);
  for (int64_t i = shape.whole * kLanes<Real>; i < shape.dim; ++i) {
    round_to(lanes[i - shape.tail_start()], row + i);
  }
}

template <typename Storage>
static ComputeType<Storage> sum_of_squares(const RowShape<ComputeType<Storage>>& shape,
                                           const Storage* row) {
  using Real = ComputeType<Storage>;
  Vector<Real> sums = {};
  for (int64_t v = 0; v < shape.whole; ++v) {
    const auto x = load(row + v * kLanes<Real>);
    sums = multiply_add(x, x, sums);
  }
  Real sum = sum_of_lanes(sums);
  for (int64_t i = shape.whole * kLanes<Real>; i < shape.dim; ++i) {
    sum += to_compute(row[i]) * to_compute(row[i]);
  }
  return sum;
}

// See core/norms.h.
template <typename Storage>
static ComputeType<Storage> inverse_norm(const RowShape<ComputeType<Storage>>& shape,
                                         const Storage* row) {
  using Real = ComputeType<Storage>;
  const Real sum = sum_of_squares(shape, row);
  if (!may_have_overflowed(sum)) return inverse_norm_of(sum);
  Real largest = 0;
  for (int64_t i = 0; i < shape.dim; ++i) {
    const Real x = to_compute(row[i]);
    const Real magnitude = x < 0 ? -x : x;
    largest = magnitude > largest ? magnitude : largest;
  }
  Real scaled_sum = 0;
  for (int64_t i = 0; i < shape.dim; ++i) {
    const Real scaled = to_compute(row[i]) / largest;
    scaled_sum += scaled * scaled;
  }
  return inverse_norm_of_scaled(largest, scaled_sum);
}

// unit = row * inverse_norm, padded, with zeros where the tail overlaps.
template <typename Storage>
NEGATIVE_COSINE_INLINE void load_unit_row(const RowShape<ComputeType<Storage>>& shape,
                                          const Storage* row,
                                          ComputeType<Storage> inverse_norm,
                                          ComputeType<Storage>* unit) {
  using Real = ComputeType<Storage>;
  for (int64_t v = 0; v < shape.whole; ++v) {
    store(unit + v * kLanes<Real>, load(row + v * kLanes<Real>) * inverse_norm);
  }
  if (!shape.has_tail) return;
  Real* tail = unit + shape.whole * kLanes<Real>;
  store(tail, load_tail(shape, row) * inverse_norm);
  const int64_t overlap = shape.whole * kLanes<Real> - shape.tail_start();
  for (int64_t lane = 0; lane < overlap; ++lane) tail[lane] = 0;
}

// sums[r] = the products of `unit` with rows[r], still to be summed over their lanes.
template <int kRows, typename Storage>
NEGATIVE_COSINE_INLINE void multiply_rows(const RowShape<ComputeType<Storage>>& shape,
                                          const ComputeType<Storage>* unit,
                                          const Storage* const* rows,
                                          Vector<ComputeType<Storage>>* sums) {
  using Real = ComputeType<Storage>;
  Vector<Real> own[kRows] = {};  // in registers
  for (int64_t v = 0; v < shape.whole; ++v) {
    const auto x = load(unit + v * kLanes<Real>);
    for (int r = 0; r < kRows; ++r) {
      own[r] = multiply_add(x, load(rows[r] + v * kLanes<Real>), own[r]);
    }
  }
  if (shape.has_tail) {
    const auto x = load(unit + shape.whole * kLanes<Real>);
    for (int r = 0; r < kRows; ++r) {
      own[r] = multiply_add(x, load_tail(shape, rows[r]), own[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) sums[r] = own[r];
}

template <typename Storage>
NEGATIVE_COSINE_INLINE ComputeType<Storage> dot_product(
    const RowShape<ComputeType<Storage>>& shape, const ComputeType<Storage>* unit,
    const Storage* row) {
  Vector<ComputeType<Storage>> sum = {};
  multiply_rows<1>(shape, unit, &row, &sum);
  return sum_of_lanes(sum);
}

// Rows at a time: enough sums that none waits for its own last addition, and whole
// vectors of products. What is stored by parts and read as a vector has to wait until
// the parts have reached the cache.
template <typename Real>
constexpr int kRowsAtATime = sizeof(Real) == 8    ? 8
                             : kVectorBytes == 64 ? 16
                                                  : 8;

// products[r] = unit . rows[r] for kRowsAtATime rows, or for the first half of them and
// zeros. A row's product has the same bits in each place, and as dot_product.
template <typename Storage>
NEGATIVE_COSINE_INLINE void dot_products(const RowShape<ComputeType<Storage>>& shape,
                                         const ComputeType<Storage>* unit,
                                         const Storage* const* rows, bool half,
                                         ComputeType<Storage>* products) {
  using Real = ComputeType<Storage>;
  constexpr int kHalf = kRowsAtATime<Real> / 2;
  Vector<Real> sums[2 * kHalf] = {};
  multiply_rows<kHalf>(shape, unit, rows, sums);
  if (!half) multiply_rows<kHalf>(shape, unit, rows + kHalf, sums + kHalf);
  sums_of_lanes(sums, products);
}

// Asks for a row's cache lines, four at a time and at most the first 1024 bytes: the
// processor fetches what follows in a long row by itself.
template <typename Storage>
NEGATIVE_COSINE_INLINE void prefetch_row(const RowShape<ComputeType<Storage>>& shape,
                                         const Storage* row) {
  const auto* bytes = reinterpret_cast<const char*>(row);
  const int64_t size = shape.dim * static_cast<int64_t>(sizeof(Storage));
  for (int64_t offset = 0; offset < size && offset < 1024; offset += 256) {
    for (int line = 0; line < 4; ++line) prefetch(bytes + offset + 64 * line);
  }
}

template <int kVectors, typename Storage, typename LoadVector>
NEGATIVE_COSINE_INLINE void add_weighted_columns(const Storage* const* rows,
                                                 const ComputeType<Storage>* weights,
                                                 int count,
                                                 const LoadVector& load_vector,
                                                 ComputeType<Storage>* sums) {
  using Real = ComputeType<Storage>;
  Vector<Real> columns[kVectors];
  for (int v = 0; v < kVectors; ++v) columns[v] = load(sums + v * kLanes<Real>);
  for (int r = 0; r < count; ++r) {
    const auto weight = broadcast(weights[r]);
    for (int v = 0; v < kVectors; ++v) {
      columns[v] = multiply_add(weight, load_vector(rows[r], v), columns[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) store(sums + v * kLanes<Real>, columns[v]);
}

// sums += sum over r of weights[r] * rows[r], eight vectors of columns at a time.
template <typename Storage>
NEGATIVE_COSINE_INLINE void add_weighted_rows(
    const RowShape<ComputeType<Storage>>& shape, const Storage* const* rows,
    const ComputeType<Storage>* weights, int count, ComputeType<Storage>* sums) {
  using Real = ComputeType<Storage>;
  int64_t start = 0;
  const auto load_vector = [&](const Storage* row, int v) {
    return load(row + start + v * kLanes<Real>);
  };
  const int64_t end = shape.whole * kLanes<Real>;
  for (; start + 8 * kLanes<Real> <= end; start += 8 * kLanes<Real>) {
    add_weighted_columns<8>(rows, weights, count, load_vector, sums + start);
  }
  if (start + 4 * kLanes<Real> <= end) {
    add_weighted_columns<4>(rows, weights, count, load_vector, sums + start);
    start += 4 * kLanes<Real>;
  }
  for (; start < end; start += kLanes<Real>) {
    add_weighted_columns<1>(rows, weights, count, load_vector, sums + start);
  }
  if (shape.has_tail) {
    const auto load_last = [&](const Storage* row, int) {
      return load_tail(shape, row);
    };
    add_weighted_columns<1>(rows, weights, count, load_last, sums + end);
  }
}

// Zeros, for which all types have the same bits.
template <typename Out, typename Real>
NEGATIVE_COSINE_INLINE void store_zeros(const RowShape<Real>& shape, Out* to) {
  __builtin_memset(to, 0, sizeof(Out) * static_cast<size_t>(shape.dim));
}

// row *= factor, for a padded row of the compute type.
template <typename Real>
NEGATIVE_COSINE_INLINE void scale_row(const RowShape<Real>& shape, Real factor,
                                      Real* row) {
  for (int64_t i = 0; i < shape.padded(); i += kLanes<Real>) {
    store(row + i, load(row + i) * factor);
  }
}

// to[e] = combine(offset, vector) by whole vectors; `combine` maps a vector's offset in
// a padded row and the row's vector there to the result. `to` may be `row` itself: the
// tail is read before anything is written.
template <typename Out, typename Storage, typename Combine>
NEGATIVE_COSINE_INLINE void store_row(const RowShape<ComputeType<Storage>>& shape,
                                      const Storage* row, const Combine& combine,
                                      Out* to) {
  using Real = ComputeType<Storage>;
  const int64_t end = shape.whole * kLanes<Real>;
  const Vector<Real> tail =
      shape.has_tail ? combine(end, load_tail(shape, row)) : Vector<Real>{};
  for (int64_t offset = 0; offset < end; offset += kLanes<Real>) {
    store(to + offset, combine(offset, load(row + offset)));
  }
  if (shape.has_tail) store_tail(shape, tail, to);
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
