// Packets: the elements of a row that one instruction loads or stores, and their
// conversion to and from the type they are computed in.
//
// Global memory is accessed through __ldg, __ldcg, __stcs and __stcg alone: they say
// how long a value is of use, and a test checks each of them.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "core/data_type.h"
#include "cuda/device/load_if.cuh"
#include "cuda/device/shared_arrays.cuh"

namespace negative_cosine {
namespace cuda {

// --- Elements from the bits of a packet ----------------------------------------------

__device__ __forceinline__ void unpack(uint4 bits, const float*, float (&values)[4]) {
  values[0] = __uint_as_float(bits.x);
  values[1] = __uint_as_float(bits.y);
  values[2] = __uint_as_float(bits.z);
  values[3] = __uint_as_float(bits.w);
}

__device__ __forceinline__ double double_of(uint32_t low, uint32_t high) {
  return __hiloint2double(static_cast<int>(high), static_cast<int>(low));
}

__device__ __forceinline__ void unpack(uint4 bits, const double*, double (&values)[2]) {
  values[0] = double_of(bits.x, bits.y);
  values[1] = double_of(bits.z, bits.w);
}

__device__ __forceinline__ float half_to_float(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

__device__ __forceinline__ void unpack(uint4 bits, const Float16*, float (&values)[8]) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    values[2 * word] = half_to_float(words[word] & 0xffffu);
    values[2 * word + 1] = half_to_float(words[word] >> 16);
  }
}

__device__ __forceinline__ void unpack(uint4 bits, const BFloat16*,
                                       float (&values)[8]) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    values[2 * word] = __uint_as_float(words[word] << 16);
    values[2 * word + 1] = __uint_as_float(words[word] & 0xffff0000u);
  }
}

// Two 16-bit elements in one word.
__device__ __forceinline__ void unpack_pair(uint32_t bits, Float16,
                                            float (&values)[2]) {
  values[0] = half_to_float(bits & 0xffffu);
  values[1] = half_to_float(bits >> 16);
}

__device__ __forceinline__ void unpack_pair(uint32_t bits, BFloat16,
                                            float (&values)[2]) {
  values[0] = __uint_as_float(bits << 16);
  values[1] = __uint_as_float(bits & 0xffff0000u);
}

// --- Packets of the input rows, which no kernel writes -------------------------------

// 16 bytes of a row: side by side, for rows whose size and address are multiples of 16
// bytes.
template <typename StorageType>
struct VectorPacket {
  using Storage = StorageType;
  using Real = ComputeType<Storage>;
  static constexpr int kElements = 16 / static_cast<int>(sizeof(Storage));
  static constexpr bool kIsWhole = true;

  __device__ __forceinline__ static VectorPacket load(const Storage* address) {
    return {__ldg(reinterpret_cast<const uint4*>(address))};
  }
  __device__ __forceinline__ static VectorPacket zero() {
    return {make_uint4(0, 0, 0, 0)};
  }
  __device__ __forceinline__ void unpack_to(Real (&values)[kElements]) const {
    unpack(bits, static_cast<const Storage*>(nullptr), values);
  }
  __device__ __forceinline__ void forget() {
    asm volatile("" : "+r"(bits.x), "+r"(bits.y), "+r"(bits.z), "+r"(bits.w));
  }

  uint4 bits;
};

// Or in pieces, for other rows: see rows/columns.cuh.
template <typename Storage>
struct PiecePacket : VectorPacket<Storage> {
  static constexpr bool kIsWhole = false;
};

// One element, for all other rows.
template <typename StorageType>
struct ScalarPacket {
  using Storage = StorageType;
  using Real = ComputeType<Storage>;
  static constexpr int kElements = 1;

  __device__ __forceinline__ static ScalarPacket load(const Storage* address) {
    return {load_element(address)};
  }
  __device__ __forceinline__ static ScalarPacket zero() { return {Real(0)}; }
  __device__ __forceinline__ void unpack_to(Real (&values)[1]) const {
    values[0] = value;
  }

  Real value;

 private:
  __device__ __forceinline__ static float load_element(const float* address) {
    return __ldg(address);
  }
  __device__ __forceinline__ static double load_element(const double* address) {
    return __ldg(address);
  }
  __device__ __forceinline__ static float load_element(const Float16* address) {
    return half_to_float(__ldg(reinterpret_cast<const unsigned short*>(address)));
  }
  __device__ __forceinline__ static float load_element(const BFloat16* address) {
    const uint32_t bits = __ldg(reinterpret_cast<const unsigned short*>(address));
    return __uint_as_float(bits << 16);
  }
};

// One element without conversion.
__device__ __forceinline__ float load_storage(const float* from) { return __ldg(from); }
__device__ __forceinline__ double load_storage(const double* from) {
  return __ldg(from);
}
template <typename Storage>
__device__ __forceinline__ Storage load_storage(const Storage* from) {
  return {__ldg(reinterpret_cast<const unsigned short*>(from))};
}

// --- Stores --------------------------------------------------------------------------

__device__ __forceinline__ void store_element(float value, float* to) {
  __stcs(to, value);
}
__device__ __forceinline__ void store_element(double value, double* to) {
  __stcs(to, value);
}
template <typename Storage>
__device__ __forceinline__ void store_element(float value, Storage* to) {
  Storage rounded;
  round_to(value, &rounded);
  __stcs(reinterpret_cast<unsigned short*>(to), rounded.bits);
}

__device__ __forceinline__ void store_two(const float (&values)[2], float* to) {
  __stcs(reinterpret_cast<float2*>(to), make_float2(values[0], values[1]));
}
__device__ __forceinline__ void store_two(const double (&values)[2], double* to) {
  __stcs(reinterpret_cast<double2*>(to), make_double2(values[0], values[1]));
}

template <typename Real, typename Out>
__device__ __forceinline__ void store_packet(const Real (&values)[1], Out* to) {
  store_element(values[0], to);
}
__device__ __forceinline__ void store_packet(const float (&values)[2], float* to) {
  store_two(values, to);
}
__device__ __forceinline__ void store_packet(const float (&values)[4], float* to) {
  __stcs(reinterpret_cast<float4*>(to),
         make_float4(values[0], values[1], values[2], values[3]));
}
__device__ __forceinline__ void store_packet(const float (&values)[8], float* to) {
  __stcs(reinterpret_cast<float4*>(to),
         make_float4(values[0], values[1], values[2], values[3]));
  __stcs(reinterpret_cast<float4*>(to) + 1,
         make_float4(values[4], values[5], values[6], values[7]));
}
__device__ __forceinline__ void store_packet(const double (&values)[2], double* to) {
  __stcs(reinterpret_cast<double2*>(to), make_double2(values[0], values[1]));
}

// Pairs of numbers rounded to 16-bit elements, two in a word.
template <typename Storage, int kWords>
__device__ __forceinline__ void round_to_words(const float (&values)[2 * kWords],
                                               uint32_t (&words)[kWords]) {
#pragma unroll
  for (int word = 0; word < kWords; ++word) {
    Storage low, high;
    round_to(values[2 * word], &low);
    round_to(values[2 * word + 1], &high);
    words[word] = low.bits | static_cast<uint32_t>(high.bits) << 16;
  }
}

template <typename Storage>
__device__ __forceinline__ void store_packet(const float (&values)[2], Storage* to) {
  uint32_t words[1];
  round_to_words<Storage>(values, words);
  __stcs(reinterpret_cast<uint32_t*>(to), words[0]);
}
template <typename Storage>
__device__ __forceinline__ void store_packet(const float (&values)[4], Storage* to) {
  uint32_t words[2];
  round_to_words<Storage>(values, words);
  __stcs(reinterpret_cast<uint2*>(to), make_uint2(words[0], words[1]));
}
template <typename Storage>
__device__ __forceinline__ void store_packet(const float (&values)[8], Storage* to) {
  uint32_t words[4];
  round_to_words<Storage>(values, words);
  __stcs(reinterpret_cast<uint4*>(to),
         make_uint4(words[0], words[1], words[2], words[3]));
}

// Two neighbouring elements of a row, by one access where rows are whole packets, and
// the second only if it exists.
template <typename Real>
__device__ __forceinline__ void store_pair(const Real (&values)[2], bool has_second,
                                           bool together, Real* to) {
  if (together) {
    store_two(values, to);
    return;
  }
  __stcs(to, values[0]);
  if (has_second) __stcs(to + 1, values[1]);
}

// The same as a load. A pair stays as it is stored until it is needed, so that nothing
// waits for it before.
template <typename Storage>
struct StoredPair {
  uint32_t elements;
};
template <>
struct StoredPair<float> {
  float2 elements;
};
template <>
struct StoredPair<double> {
  double2 elements;
};

__device__ __forceinline__ void load_single(const float* from, bool has_second,
                                            StoredPair<float>* pair) {
  pair->elements = make_float2(__ldg(from), has_second ? __ldg(from + 1) : 0.0f);
}
__device__ __forceinline__ void load_single(const double* from, bool has_second,
                                            StoredPair<double>* pair) {
  pair->elements = make_double2(__ldg(from), has_second ? __ldg(from + 1) : 0.0);
}
template <typename Storage>
__device__ __forceinline__ void load_single(const Storage* from, bool has_second,
                                            StoredPair<Storage>* pair) {
  const uint32_t second = has_second ? load_storage(from + 1).bits : 0u;
  pair->elements = load_storage(from).bits | second << 16;
}

template <typename Storage>
__device__ __forceinline__ StoredPair<Storage> load_pair(const Storage* from,
                                                         bool has_second,
                                                         bool together) {
  StoredPair<Storage> pair;
  if (together) {
    using Elements = decltype(pair.elements);
    pair.elements = __ldg(reinterpret_cast<const Elements*>(from));
  } else {
    load_single(from, has_second, &pair);
  }
  return pair;
}

__device__ __forceinline__ void unpack_stored(const StoredPair<float>& pair,
                                              float (&values)[2]) {
  values[0] = pair.elements.x;
  values[1] = pair.elements.y;
}
__device__ __forceinline__ void unpack_stored(const StoredPair<double>& pair,
                                              double (&values)[2]) {
  values[0] = pair.elements.x;
  values[1] = pair.elements.y;
}
template <typename Storage>
__device__ __forceinline__ void unpack_stored(const StoredPair<Storage>& pair,
                                              float (&values)[2]) {
  unpack_pair(pair.elements, Storage{}, values);
}

// --- Packets that a kernel has written, from the second-level cache ------------------

__device__ __forceinline__ void load_packet_from_l2(const float* from,
                                                    float (&values)[1]) {
  values[0] = __ldcg(from);
}
__device__ __forceinline__ void load_packet_from_l2(const double* from,
                                                    double (&values)[1]) {
  values[0] = __ldcg(from);
}
__device__ __forceinline__ void load_packet_from_l2(const float* from,
                                                    float (&values)[2]) {
  const float2 packet = __ldcg(reinterpret_cast<const float2*>(from));
  values[0] = packet.x;
  values[1] = packet.y;
}
__device__ __forceinline__ void load_packet_from_l2(const float* from,
                                                    float (&values)[4]) {
  const float4 packet = __ldcg(reinterpret_cast<const float4*>(from));
  values[0] = packet.x;
  values[1] = packet.y;
  values[2] = packet.z;
  values[3] = packet.w;
}
__device__ __forceinline__ void load_packet_from_l2(const float* from,
                                                    float (&values)[8]) {
  float halves[2][4];
  load_packet_from_l2(from, halves[0]);
  load_packet_from_l2(from + 4, halves[1]);
#pragma unroll
  for (int element = 0; element < 8; ++element) {
    values[element] = halves[element / 4][element % 4];
  }
}
__device__ __forceinline__ void load_packet_from_l2(const double* from,
                                                    double (&values)[2]) {
  const double2 packet = __ldcg(reinterpret_cast<const double2*>(from));
  values[0] = packet.x;
  values[1] = packet.y;
}

// Half number `half` of eight floats, whose halves are stored apart.
__device__ __forceinline__ void load_half_from_l2(const float* from, int half,
                                                  float (&values)[8]) {
  float elements[4];
  load_packet_from_l2(from, elements);
#pragma unroll
  for (int e = 0; e < 4; ++e) values[4 * half + e] = elements[e];
}
__device__ __forceinline__ void store_half(const float (&values)[8], int half,
                                           float* to) {
  const float elements[4] = {values[4 * half], values[4 * half + 1],
                             values[4 * half + 2], values[4 * half + 3]};
  store_packet(elements, to);
}

// --- Packets in shared memory --------------------------------------------------------

template <typename Storage, typename Real, int kCount>
__device__ __forceinline__ void read_packet(const SharedElement<Storage>* from,
                                            Real (&values)[kCount]) {
  unpack(read_bits<uint4, Storage>(from), static_cast<const Storage*>(nullptr), values);
}

// Two elements, of which the first has an even number.
__device__ __forceinline__ void read_pair(const SharedElement<float>* from,
                                          float (&values)[2]) {
  const float2 pair = read_bits<float2, float>(from);
  values[0] = pair.x;
  values[1] = pair.y;
}
__device__ __forceinline__ void read_pair(const SharedElement<double>* from,
                                          double (&values)[2]) {
  const double2 pair = read_bits<double2, double>(from);
  values[0] = pair.x;
  values[1] = pair.y;
}
template <typename Storage>
__device__ __forceinline__ void read_pair(const SharedElement<Storage>* from,
                                          float (&values)[2]) {
  unpack_pair(read_bits<uint32_t, Storage>(from), Storage{}, values);
}

}  // namespace cuda
}  // namespace negative_cosine
