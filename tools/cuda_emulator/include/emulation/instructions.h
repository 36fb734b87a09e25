// Instructions of the Ampere generation and later that CUDA C++ has no word for, as
// functions that check what each instruction asks for: copies from global to shared
// memory that a thread does not wait for, and products of small matrices.
//
// A source that reaches them by inline PTX keeps that in a header of its own, and the
// host's build has another header of the same name that calls these: see README.md.
#pragma once

#include <cstdint>
#include <cstring>

#include "emulation/device_math.h"
#include "emulation/device_memory.h"
#include "emulation/qualifiers.h"
#include "emulation/shared_element.h"
#include "emulation/tiles.h"

namespace emulator {

// cp.async of 4, 8 or 16 bytes; zeros where they are not wanted.
//
// Inlined, so that each copy in a kernel has a return address of its own to be counted
// under.
template <int kBytes, typename Element>
__forceinline__ void copy_async(SharedElement<Element>* to, const void* from,
                                bool wanted) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "PTX copies no other size");
  constexpr int kElements = kBytes / static_cast<int>(sizeof(Element));
  check_copy(to, from, kBytes);
  Element elements[kElements] = {};
  if (wanted) {
    std::memcpy(elements, locate_source_of_copy(from, kBytes), kBytes);
  }
  SharedHistory* first = to[0].start_copy(elements[0]);
  for (int e = 1; e < kElements; ++e) to[e].start_copy(elements[e]);
  add_copy({first, sizeof(SharedElement<Element>), kElements});
}

// ldmatrix.x4: four matrices of 8 rows of 16 bytes, of which each lane names one row.
template <typename Element>
void load_rows(const SharedElement<Element>* row, bool transposed,
               uint32_t (&matrices)[4]) {
  RowOfMatrix mine;
  mine.place = place_of_row(row);
  mine.matrices = matrices;
  for (int e = 0; e < kPacketBytes / static_cast<int>(sizeof(Element)); ++e) {
    const Element element = row[e];
    std::memcpy(&mine.words[e * sizeof(Element) / 2], &element, sizeof element);
  }
  exchange_rows(&mine, transposed);
}

template <typename Element>
void load_matrices(const SharedElement<Element>* row, uint32_t (&matrices)[4]) {
  load_rows<Element>(row, false, matrices);
}

template <typename Element>
void load_transposed(const SharedElement<Element>* row, uint32_t (&matrices)[4]) {
  static_assert(sizeof(Element) == 2, "only elements of 16 bits are transposed");
  load_rows<Element>(row, true, matrices);
}

// mma.sync with float32 sums: m16n8k16 of 16-bit factors, m16n8k8 of TensorFloat-32.
inline void multiply_matrices(const uint32_t (&left)[4], uint32_t right_0,
                              uint32_t right_1, Factor type, float (&sums)[4]) {
  ProductOfMatrices product = {
      {left[0], left[1], left[2], left[3]}, {right_0, right_1}, sums};
  multiply(&product, type);
}

// cvt.rna.tf32: half of the last kept bit is added to the magnitude; the rest is cut
// off. NaN stays.
inline uint32_t round_to_tf32(float value) {
  if (value != value) return 0x7fffffffu;
  return (__float_as_uint(value) + 0x1000u) & ~0x1fffu;
}

// ex2.approx.ftz: off by as much as a device's may be, upwards.
inline float approximate_exp2(float power) {
  const float result = exp2f(power) * (1 + 2.4e-7f);
  return result < 1.17549435e-38f ? 0.0f : result;  // NaN is not less
}

}  // namespace emulator
