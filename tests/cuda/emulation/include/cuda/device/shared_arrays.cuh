// The shared memory of csrc/cuda/device/shared_arrays.cuh as the emulator's, which sees
// reads of what nothing wrote and missing barriers.
#pragma once

#include "cuda/device/shared_bytes.h"
#include "emulation/shared_arrays.h"

namespace negative_cosine {
namespace cuda {

using emulator::SharedArrays;
using emulator::SharedElement;
using emulator::SwizzledSharedArrays;

// The emulator's arrays begin at a multiple of every alignment.
constexpr int kSwizzledSlack = 0;

template <typename Bits, typename Element>
Bits read_bits(const SharedElement<Element>* from) {
  return emulator::read_together<Bits>(from);
}

inline void write_packet(const float (&values)[4], SharedElement<float>* to) {
  emulator::write_together(values, to);
}

}  // namespace cuda
}  // namespace negative_cosine
