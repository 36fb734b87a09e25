// Fused multiply-adds: only where the source names one, see --fmad=false in
// cmake/cuda.cmake.
#pragma once

namespace negative_cosine {
namespace cuda {

__device__ __forceinline__ float multiply_add(float a, float b, float c) {
  return fmaf(a, b, c);
}
__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}

}  // namespace cuda
}  // namespace negative_cosine
