// Element types of the embeddings, and the type each one is computed in.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/portability.h"

namespace negative_cosine {

enum class DataType { kFloat16, kBFloat16, kFloat32, kFloat64 };
enum class IndexType { kInt32, kInt64 };

// Storage of the 16-bit types: bits only, converted to float on load.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// docs/semantics.md, "Arithmetic": float32 for 16- and 32-bit inputs, float64 for
// float64.
template <typename Storage>
struct ComputeTypeOf {
  using type = float;
};
template <>
struct ComputeTypeOf<double> {
  using type = double;
};
template <typename Storage>
using ComputeType = typename ComputeTypeOf<Storage>::type;

NEGATIVE_COSINE_INLINE int64_t storage_size_of(DataType type) {
  return type == DataType::kFloat64 ? 8 : type == DataType::kFloat32 ? 4 : 2;
}

NEGATIVE_COSINE_INLINE int64_t compute_size_of(DataType type) {
  return type == DataType::kFloat64 ? 8 : 4;
}

NEGATIVE_COSINE_INLINE int64_t load_index(const void* values, IndexType type,
                                          int64_t position) {
  return type == IndexType::kInt64
             ? load_value(static_cast<const int64_t*>(values) + position)
             : load_value(static_cast<const int32_t*>(values) + position);
}

// Calls `call` with a value-initialised element of the storage type named by `type`.
template <typename Call>
NEGATIVE_COSINE_INLINE_HOST void with_storage_type(DataType type, const Call& call) {
  switch (type) {
    case DataType::kFloat16:
      return call(Float16{});
    case DataType::kBFloat16:
      return call(BFloat16{});
    case DataType::kFloat32:
      return call(float{});
    case DataType::kFloat64:
      return call(double{});
  }
}

// The same of the type that it is computed in.
template <typename Call>
NEGATIVE_COSINE_INLINE_HOST void with_compute_type(DataType type, const Call& call) {
  if (type == DataType::kFloat64) return call(double{});
  call(float{});
}

NEGATIVE_COSINE_INLINE uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

NEGATIVE_COSINE_INLINE float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

NEGATIVE_COSINE_INLINE float to_compute(BFloat16 value) {
  return float_of(static_cast<uint32_t>(value.bits) << 16);
}

// IEEE half to float. No step passes through a subnormal float: TensorFlow's threads
// flush those to zero.
NEGATIVE_COSINE_INLINE float to_compute(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude < 0x400u) {
    // A subnormal half is `magnitude` times 2^-24, the spacing of floats at 0.5.
    return float_of(sign | bits_of(float_of(0x3f000000u + magnitude) - 0.5f));
  }
  const uint32_t exponent_shift = magnitude >= 0x7c00u ? 224u << 23 : 112u << 23;
  return float_of(sign | ((magnitude << 13) + exponent_shift));
}

NEGATIVE_COSINE_INLINE float to_compute(float value) { return value; }
NEGATIVE_COSINE_INLINE double to_compute(double value) { return value; }

// Round to nearest, ties to even.
NEGATIVE_COSINE_INLINE void round_to(float value, float* rounded) { *rounded = value; }
NEGATIVE_COSINE_INLINE void round_to(double value, double* rounded) {
  *rounded = value;
}

// NaN keeps a quiet bit so that it stays NaN.
NEGATIVE_COSINE_INLINE void round_to(float value, BFloat16* rounded) {
  const uint32_t bits = bits_of(value);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  rounded->bits = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : nearest);
}

NEGATIVE_COSINE_INLINE uint32_t rounded_half_magnitude(uint32_t magnitude) {
  if (magnitude > 0x7f800000u) return 0x7e00u;   // NaN
  if (magnitude >= 0x477ff000u) return 0x7c00u;  // at least 65520: infinity
  if (magnitude < 0x38800000u) {
    // A subnormal half is a multiple of 2^-24, the spacing of floats at 0.5: the
    // addition rounds to such a multiple and leaves it in the low bits of the sum.
    return bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
  }
  const uint32_t rebiased = magnitude - (112u << 23);
  return (rebiased + 0xfffu + ((rebiased >> 13) & 1u)) >> 13;
}

NEGATIVE_COSINE_INLINE void round_to(float value, Float16* rounded) {
  const uint32_t bits = bits_of(value);
  rounded->bits = static_cast<uint16_t>(((bits >> 16) & 0x8000u) |
                                        rounded_half_magnitude(bits & 0x7fffffffu));
}

}  // namespace negative_cosine
