// The instructions of csrc/cuda/device/instructions.cuh as the emulator's functions,
// which check what each of them asks for.
#pragma once

#include "core/data_type.h"
#include "cuda/device/element_types.h"
#include "cuda/device/shared_arrays.cuh"
#include "emulation/instructions.h"

namespace negative_cosine {
namespace cuda {

using emulator::approximate_exp2;
using emulator::commit_copies;
using emulator::copy_async;
using emulator::load_matrices;
using emulator::load_transposed;
using emulator::round_to_tf32;

template <int kPending>
void wait_for_copies() {
  static_assert(kPending >= 0);
  emulator::wait_for_copies(kPending);
}

inline emulator::Factor factor_of(Float16) { return emulator::Factor::kFloat16; }
inline emulator::Factor factor_of(BFloat16) { return emulator::Factor::kBFloat16; }
inline emulator::Factor factor_of(Tf32) { return emulator::Factor::kTf32; }

template <typename Element>
void multiply_matrices(const uint32_t (&left)[4], uint32_t right_0, uint32_t right_1,
                       Element, float (&sums)[4]) {
  emulator::multiply_matrices(left, right_0, right_1, factor_of(Element{}), sums);
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
