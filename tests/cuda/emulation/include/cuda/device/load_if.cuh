// The loads of csrc/cuda/device/load_if.cuh for the emulator, which knows no variable
// in the device's memory: nothing is loaded where nothing is wanted.
#pragma once

#include <cuda_runtime.h>

namespace negative_cosine {
namespace cuda {

__forceinline__ uint4 load_if(bool wanted, const void* address) {
  return wanted ? __ldg(static_cast<const uint4*>(address)) : make_uint4(0, 0, 0, 0);
}

template <int kBytes>
uint2 load_piece_if(bool wanted, const void* address) {
  if (!wanted) return make_uint2(0, 0);
  if constexpr (kBytes == 8) {
    return __ldg(static_cast<const uint2*>(address));
  } else if constexpr (kBytes == 4) {
    return make_uint2(__ldg(static_cast<const uint32_t*>(address)), 0);
  } else {
    return make_uint2(__ldg(static_cast<const unsigned short*>(address)), 0);
  }
}

}  // namespace cuda
}  // namespace negative_cosine
