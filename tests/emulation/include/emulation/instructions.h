// What csrc/cuda/device/instructions.cuh asks of a GPU, checked: that file includes
// this one, behind its element types and SharedElement.
#pragma once

#include <cstdint>
#include <cstring>

#include "emulation/device_memory.h"
#include "emulation/qualifiers.h"
#include "emulation/tiles.h"

namespace negative_cosine {
namespace cuda {

// Inlined, so that each copy in a kernel has a return address of its own to be counted
// under.
template <int kBytes, typename Element>
__forceinline__ void copy_async(SharedElement<Element>* to, const void* from,
                                bool wanted) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "PTX copies no other size");
  constexpr int kElements = kBytes / static_cast<int>(sizeof(Element));
  emulator::check_copy(to, from, kBytes);
  Element elements[kElements] = {};
  if (wanted) {
    std::memcpy(elements, emulator::locate_source_of_copy(from, kBytes), kBytes);
  }
  emulator::SharedHistory* first = to[0].start_copy(elements[0]);
  for (int e = 1; e < kElements; ++e) to[e].start_copy(elements[e]);
  emulator::add_copy({first, sizeof(SharedElement<Element>), kElements});
}

inline void commit_copies() { emulator::commit_copies(); }

template <int kPending>
void wait_for_copies() {
  static_assert(kPending >= 0);
  emulator::wait_for_copies(kPending);
}

template <typename Element>
void load_rows(const SharedElement<Element>* row, bool transposed,
               uint32_t (&matrices)[4]) {
  emulator::RowOfMatrix mine;
  mine.place = emulator::place_of_row(row);
  mine.matrices = matrices;
  for (int e = 0; e < emulator::kPacketBytes / static_cast<int>(sizeof(Element)); ++e) {
    const Element element = row[e];
    std::memcpy(&mine.words[e * sizeof(Element) / 2], &element, sizeof element);
  }
  emulator::exchange_rows(&mine, transposed);
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

inline void multiply(const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1,
                     emulator::Factor type, float (&sums)[4]) {
  emulator::ProductOfMatrices product = {
      {left[0], left[1], left[2], left[3]}, {right_0, right_1}, sums};
  emulator::multiply(&product, type);
}

inline void multiply_matrices(const uint32_t (&left)[4], uint32_t right_0,
                              uint32_t right_1, BFloat16, float (&sums)[4]) {
  multiply(left, right_0, right_1, emulator::Factor::kBFloat16, sums);
}

inline void multiply_matrices(const uint32_t (&left)[4], uint32_t right_0,
                              uint32_t right_1, Float16, float (&sums)[4]) {
  multiply(left, right_0, right_1, emulator::Factor::kFloat16, sums);
}

inline void multiply_matrices(const uint32_t (&left)[4], uint32_t right_0,
                              uint32_t right_1, Tf32, float (&sums)[4]) {
  multiply(left, right_0, right_1, emulator::Factor::kTf32, sums);
}

// Half of the last kept bit is added to the magnitude; the rest is cut off. NaN stays.
inline uint32_t round_to_tf32(float value) {
  if (value != value) return 0x7fffffffu;
  return (bits_of(value) + 0x1000u) & ~0x1fffu;
}

// Off by as much as a device's may be, upwards.
inline float approximate_exp2(float power) {
  const float result = exp2f(power) * (1 + 2.4e-7f);
  return result < 1.17549435e-38f ? 0.0f : result;  // NaN is not less
}

template <typename Element>
uint32_t round_pair(float low, float high, Element) {
  Element elements[2];
  round_to(low, &elements[0]);
  round_to(high, &elements[1]);
  return elements[0].bits | static_cast<uint32_t>(elements[1].bits) << 16;
}

}  // namespace cuda
}  // namespace negative_cosine
