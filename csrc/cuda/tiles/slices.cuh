// Products of rows whose slices belong to several warps: the warps' parts are added up
// through shared memory, by each of them in the same order, so that all continue with
// the same numbers.
#pragma once

#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
class TileSlices {
 public:
  using Real = typename Shape::Real;
  static constexpr int kPartsOfWarp = kFragments<Shape> * kFragmentElements * kWarpSize;
  static constexpr int kParts = Shape::kSlices == 1 ? 0 : Shape::kWarps * kPartsOfWarp;
  static constexpr int kBytes = shared_bytes(kParts, sizeof(Real));

  __device__ __forceinline__ explicit TileSlices(SharedArrays* arrays)
      : parts_(kParts > 0 ? arrays->template take<Real>(kParts) : nullptr) {}

  // Every thread of the block calls it, with a barrier before the next call;
  // `takes_part` tells whether the warp has computed products.
  __device__ __forceinline__ void add_up(bool takes_part,
                                         Products<Shape>& products) const {
    if constexpr (Shape::kSlices > 1) {
      if (takes_part) store(products);
      __syncthreads();
      if (takes_part) load_sum(products);
    }
  }

 private:
  // A lane's elements lie beside the other lanes' same elements: 32 banks.
  __device__ __forceinline__ static int index_of(int of_warp, int fragment,
                                                 int element) {
    return of_warp * kPartsOfWarp +
           (fragment * kFragmentElements + element) * kWarpSize + lane_of_thread();
  }

  __device__ __forceinline__ void store(const Products<Shape>& products) const {
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        parts_[index_of(warp_of_thread(), fragment, element)] =
            products[fragment][element];
      }
    }
  }

  __device__ __forceinline__ void load_sum(Products<Shape>& products) const {
    const int first = warp_of_thread() / Shape::kSlices * Shape::kSlices;
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        Real sum = 0;
#pragma unroll
        for (int slice = 0; slice < Shape::kSlices; ++slice) {
          sum += parts_[index_of(first + slice, fragment, element)];
        }
        products[fragment][element] = sum;
      }
    }
  }

  SharedElement<Real>* const parts_;
};

}  // namespace cuda
}  // namespace negative_cosine
