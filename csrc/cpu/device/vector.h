// The processor's vectors behind one small interface.
//
// This file and the kernels are compiled once for each instruction set into a namespace
// of its own (NEGATIVE_COSINE_ISA, set by the build); its flags decide the width. The
// vectors are the compilers' portable vector extension, so arithmetic is written with
// operators; only what operators cannot say (fused multiply-add, half conversion, sums
// across lanes) has instructions named here, each beside a portable form.
#pragma once

#include <cstdint>

#include "core/data_type.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef double DoubleVector __attribute__((vector_size(kVectorBytes)));
typedef int32_t Int32Vector __attribute__((vector_size(kVectorBytes)));
typedef int64_t Int64Vector __attribute__((vector_size(kVectorBytes)));
typedef uint32_t Uint32Vector __attribute__((vector_size(kVectorBytes)));
typedef uint64_t Uint64Vector __attribute__((vector_size(kVectorBytes)));
typedef uint16_t Uint16HalfVector __attribute__((vector_size(kVectorBytes / 2)));

template <typename Real>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = FloatVector;
  using mask = Int32Vector;
  using bits = uint32_t;
  using bits_vector = Uint32Vector;
};
template <>
struct VectorOf<double> {
  using type = DoubleVector;
  using mask = Int64Vector;
  using bits = uint64_t;
  using bits_vector = Uint64Vector;
};
template <typename Real>
using Vector = typename VectorOf<Real>::type;

// What comparing two vectors gives: -1 in a lane where it holds, 0 where not.
template <typename Real>
using Mask = typename VectorOf<Real>::mask;

template <typename Real>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Real));

template <typename Real>
NEGATIVE_COSINE_INLINE Vector<Real> broadcast(Real value) {
  return value - Vector<Real>{};  // x - 0 is x, so this is the broadcast alone
}

// --- Memory: any alignment, converted to the compute type on load. -------------------

template <typename VectorType, typename Element>
NEGATIVE_COSINE_INLINE VectorType load_bits(const Element* from) {
  VectorType vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

NEGATIVE_COSINE_INLINE FloatVector load(const float* from) {
  return load_bits<FloatVector>(from);
}

NEGATIVE_COSINE_INLINE DoubleVector load(const double* from) {
  return load_bits<DoubleVector>(from);
}

// The high halves of the floats. Named instructions: GCC 12 makes five of a conversion
// written with __builtin_convertvector.
NEGATIVE_COSINE_INLINE FloatVector load(const BFloat16* from) {
#if defined(__AVX512F__)
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
#elif defined(__AVX2__)
  const __m256i wide =
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
#else
  const auto halves = load_bits<Uint16HalfVector>(from);
  return reinterpret_cast<FloatVector>(__builtin_convertvector(halves, Uint32Vector)
                                       << 16);
#endif
}

NEGATIVE_COSINE_INLINE FloatVector load(const Float16* from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__) && defined(__AVX2__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  FloatVector vector;
  for (int lane = 0; lane < kLanes<float>; ++lane)
    vector[lane] = to_compute(from[lane]);
  return vector;
#endif
}

NEGATIVE_COSINE_INLINE void store(float* to, FloatVector vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

NEGATIVE_COSINE_INLINE void store(double* to, DoubleVector vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

NEGATIVE_COSINE_INLINE void store(int32_t* to, Uint32Vector vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

template <typename Half>
NEGATIVE_COSINE_INLINE void store(Half* to, FloatVector vector) {
  float lanes[kLanes<float>];
  store(lanes, vector);
  for (int lane = 0; lane < kLanes<float>; ++lane) round_to(lanes[lane], to + lane);
}

// Into the first-level cache, even where a panel of long rows is more than it holds:
// never slower than into the second, and up to a sixth faster for rows of 512 bytes.
NEGATIVE_COSINE_INLINE void prefetch(const void* address) {
  __builtin_prefetch(address, 0, 3);
}

// --- Arithmetic. The build forbids the compiler to fuse by itself, so that equal -----
// --- expressions give equal bits everywhere.                                     -----

NEGATIVE_COSINE_INLINE FloatVector multiply_add(FloatVector a, FloatVector b,
                                                FloatVector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

NEGATIVE_COSINE_INLINE DoubleVector multiply_add(DoubleVector a, DoubleVector b,
                                                 DoubleVector c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

// --- Across lanes: lane l meets lane l + L/2, and so on by halves, at every width, so
// --- that a row's sum has the same order whether it is summed alone or with others.

template <typename Real>
NEGATIVE_COSINE_INLINE Real sum_by_halves(Vector<Real> vector) {
  Real lanes[kLanes<Real>];
  store(lanes, vector);
  for (int width = kLanes<Real> / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

// Lane l of the result is lane lanes[l] of the two vectors, one behind the other.
template <typename Real>
NEGATIVE_COSINE_INLINE Vector<Real> pick_lanes(Vector<Real> first, Vector<Real> second,
                                               Mask<Real> lanes) {
#if defined(__clang__)
  Vector<Real> picked;
  for (int lane = 0; lane < kLanes<Real>; ++lane) {
    const auto from = lanes[lane];
    picked[lane] = from < kLanes<Real> ? first[from] : second[from - kLanes<Real>];
  }
  return picked;
#else
  return __builtin_shuffle(first, second, lanes);
#endif
}

// All bits in the first `count` lanes.
template <typename Real>
NEGATIVE_COSINE_INLINE Mask<Real> first_lanes(int count) {
  Mask<Real> numbers;
  for (int lane = 0; lane < kLanes<Real>; ++lane) numbers[lane] = lane;
  return numbers < count;
}

template <typename Real>
NEGATIVE_COSINE_INLINE bool is_any(Mask<Real> mask) {
  typename VectorOf<Real>::bits any = 0;
  for (int lane = 0; lane < kLanes<Real>; ++lane) any |= mask[lane];
  return any != 0;
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real max_by_halves(Vector<Real> vector) {
  Real lanes[kLanes<Real>];
  store(lanes, vector);
  for (int width = kLanes<Real> / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) {
      lanes[lane] =
          lanes[lane] < lanes[lane + width] ? lanes[lane + width] : lanes[lane];
    }
  }
  return lanes[0];
}

#if defined(__AVX2__)

NEGATIVE_COSINE_INLINE __m128 sum_to_four(FloatVector vector) {
#if defined(__AVX512F__)
  const __m256 half =
      _mm256_add_ps(_mm512_castps512_ps256(vector), _mm512_extractf32x8_ps(vector, 1));
#else
  const __m256 half = vector;
#endif
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

NEGATIVE_COSINE_INLINE float sum_of_lanes(FloatVector vector) {
  const __m128 four = sum_to_four(vector);
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Two vectors in one: lane l of each meets lane l + 8, l + 4, l + 2 or l + 1.
#if defined(__AVX512F__)

NEGATIVE_COSINE_INLINE FloatVector add_eighths(FloatVector a, FloatVector b) {
  return _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee);
}
NEGATIVE_COSINE_INLINE FloatVector add_fourths(FloatVector a, FloatVector b) {
  return _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
}
NEGATIVE_COSINE_INLINE FloatVector add_seconds(FloatVector a, FloatVector b) {
  return _mm512_shuffle_ps(a, b, 0x44) + _mm512_shuffle_ps(a, b, 0xee);
}
NEGATIVE_COSINE_INLINE FloatVector add_neighbours(FloatVector a, FloatVector b) {
  return _mm512_shuffle_ps(a, b, 0x88) + _mm512_shuffle_ps(a, b, 0xdd);
}

// Of four vectors, four partial sums each, in a block of lanes each.
NEGATIVE_COSINE_INLINE FloatVector partial_sums(FloatVector a, FloatVector b,
                                                FloatVector c, FloatVector d) {
  return add_fourths(add_eighths(a, b), add_eighths(c, d));
}

// sums[r] = sum_of_lanes(v[r]), by transposing as lanes are added.
NEGATIVE_COSINE_INLINE void sums_of_lanes(const FloatVector (&v)[16], float* sums) {
  const FloatVector first = add_seconds(partial_sums(v[0], v[4], v[8], v[12]),
                                        partial_sums(v[1], v[5], v[9], v[13]));
  const FloatVector second = add_seconds(partial_sums(v[2], v[6], v[10], v[14]),
                                         partial_sums(v[3], v[7], v[11], v[15]));
  store(sums, add_neighbours(first, second));
}

#else

NEGATIVE_COSINE_INLINE FloatVector add_fourths(FloatVector a, FloatVector b) {
  return _mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31);
}
NEGATIVE_COSINE_INLINE FloatVector add_seconds(FloatVector a, FloatVector b) {
  return _mm256_shuffle_ps(a, b, 0x44) + _mm256_shuffle_ps(a, b, 0xee);
}
NEGATIVE_COSINE_INLINE FloatVector add_neighbours(FloatVector a, FloatVector b) {
  return _mm256_shuffle_ps(a, b, 0x88) + _mm256_shuffle_ps(a, b, 0xdd);
}

// sums[r] = sum_of_lanes(v[r]), by transposing as lanes are added.
NEGATIVE_COSINE_INLINE void sums_of_lanes(const FloatVector (&v)[8], float* sums) {
  const FloatVector first =
      add_seconds(add_fourths(v[0], v[4]), add_fourths(v[1], v[5]));
  const FloatVector second =
      add_seconds(add_fourths(v[2], v[6]), add_fourths(v[3], v[7]));
  store(sums, add_neighbours(first, second));
}

#endif

NEGATIVE_COSINE_INLINE float max_of_lanes(FloatVector vector) {
#if defined(__AVX512F__)
  const __m256 half =
      _mm256_max_ps(_mm512_castps512_ps256(vector), _mm512_extractf32x8_ps(vector, 1));
#else
  const __m256 half = vector;
#endif
  const __m128 four =
      _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#else

NEGATIVE_COSINE_INLINE float sum_of_lanes(FloatVector vector) {
  return sum_by_halves<float>(vector);
}

NEGATIVE_COSINE_INLINE float max_of_lanes(FloatVector vector) {
  return max_by_halves<float>(vector);
}

#endif

NEGATIVE_COSINE_INLINE double sum_of_lanes(DoubleVector vector) {
  return sum_by_halves<double>(vector);
}

NEGATIVE_COSINE_INLINE double max_of_lanes(DoubleVector vector) {
  return max_by_halves<double>(vector);
}

// The same for whole vectors of sums, of whatever width.
template <int kCount, typename VectorType, typename Real>
NEGATIVE_COSINE_INLINE void sums_of_lanes(const VectorType (&vectors)[kCount],
                                          Real* sums) {
  static_assert(kCount % kLanes<Real> == 0, "whole vectors");
  for (int r = 0; r < kCount; r += kLanes<Real>) {
    VectorType packed;
    for (int lane = 0; lane < kLanes<Real>; ++lane) {
      packed[lane] = sum_of_lanes(vectors[r + lane]);
    }
    store(sums + r, packed);
  }
}

// The smaller of a limit and x; NaN where x is NaN.
NEGATIVE_COSINE_INLINE FloatVector at_most(float limit, FloatVector x) {
#if defined(__AVX512F__)
  return _mm512_min_ps(broadcast(limit), x);
#elif defined(__AVX2__)
  return _mm256_min_ps(broadcast(limit), x);
#else
  return x > limit ? broadcast(limit) : x;
#endif
}

// exp(x): 2^n * exp(r), |r| <= ln(2) / 2, with the coefficients of the Cephes library
// (Moshier). Below the smallest normal number's logarithm the result is 0, as it is for
// -infinity; NaN stays NaN. n is read off the low bits of x / ln 2 + 1.5 *
// 2^(mantissa).
NEGATIVE_COSINE_INLINE FloatVector exponential(FloatVector x) {
  constexpr float kRounding = 12582912.0f;
  x = at_most(88.376f, x);  // a little below 127.5 ln 2: from there on 2^n is infinity
  const FloatVector shifted =
      multiply_add(x, broadcast(1.44269504088896341f), broadcast(kRounding));
  const FloatVector n = shifted - kRounding;
  const FloatVector high = multiply_add(n, broadcast(-0.693359375f), x);
  const FloatVector r = multiply_add(n, broadcast(2.12194440e-4f), high);
  FloatVector polynomial = broadcast(1.9875691500e-4f);
  polynomial = multiply_add(polynomial, r, broadcast(1.3981999507e-3f));
  polynomial = multiply_add(polynomial, r, broadcast(8.3334519073e-3f));
  polynomial = multiply_add(polynomial, r, broadcast(4.1665795894e-2f));
  polynomial = multiply_add(polynomial, r, broadcast(1.6666665459e-1f));
  polynomial = multiply_add(polynomial, r, broadcast(5.0000001201e-1f));
  const FloatVector fraction = multiply_add(polynomial, r * r, r) + 1.0f;
  const Uint32Vector power = (reinterpret_cast<Uint32Vector>(shifted) + 127u) << 23;
  const FloatVector result = fraction * reinterpret_cast<FloatVector>(power);
  return x < -87.3365447505531f ? FloatVector{} : result;
}

NEGATIVE_COSINE_INLINE DoubleVector exponential(DoubleVector x) {
  constexpr double kRounding = 6755399441055744.0;
  // A little below 1023.5 ln 2: from there on 2^n is infinity.
  const DoubleVector above = broadcast(709.436);
  x = x > above ? above : x;
  const DoubleVector shifted = x * 1.4426950408889634073599 + kRounding;
  const DoubleVector n = shifted - kRounding;
  const DoubleVector r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
  const DoubleVector square = r * r;
  const DoubleVector numerator =
      ((1.26177193074810590878e-4 * square + 3.02994407707441961300e-2) * square +
       9.99999999999999999910e-1) *
      r;
  const DoubleVector denominator =
      ((3.00198505138664455042e-6 * square + 2.52448340349684104192e-3) * square +
       2.27265548208155028766e-1) *
          square +
      2.00000000000000000005e0;
  const DoubleVector fraction = 1.0 + 2.0 * (numerator / (denominator - numerator));
  const Uint64Vector power = (reinterpret_cast<Uint64Vector>(shifted) + 1023u) << 52;
  const DoubleVector result = fraction * reinterpret_cast<DoubleVector>(power);
  return x < -708.396 ? DoubleVector{} : result;
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
