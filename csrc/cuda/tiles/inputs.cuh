// The inputs of a pair's rules (core/rules.h) besides the elements of its rows: logQ
// and ids, copied to shared memory beside the rows.
#pragma once

#include "core/rules.h"
#include "cuda/device/instructions.cuh"
#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
class PairInputs {
 public:
  using Real = typename Shape::Real;

  __device__ __forceinline__ PairInputs(SharedArrays* arrays, int count)
      : log_q_(arrays->template take<Real>(count)),
        doc_ids_(arrays->template take<int32_t>(kWords * count)),
        query_ids_(arrays->template take<int32_t>(kWords * count)) {}

  __host__ __device__ static constexpr int bytes(int count) {
    return shared_bytes(count, sizeof(Real)) +
           2 * shared_bytes(kWords * count, sizeof(int32_t));
  }

  // Starts to copy what belongs to a row of doc; one thread does it.
  __device__ __forceinline__ void copy(const LossParams& params, int number,
                                       int64_t row, bool exists) const {
    if (params.doc_log_q != nullptr) {
      copy_async<sizeof(Real)>(
          log_q_ + number, static_cast<const Real*>(params.doc_log_q) + row, exists);
    }
    if (params.doc_ids != nullptr) {
      copy_id(params.doc_ids, params.doc_ids_type, row, exists,
              doc_ids_ + kWords * number);
    }
    if (params.query_ids != nullptr) {
      copy_id(params.query_ids, params.query_ids_type, row,
              exists && row < params.batch_size, query_ids_ + kWords * number);
    }
  }

  __device__ __forceinline__ Real log_q(int number) const { return log_q_[number]; }

  // Whether ids of two rows may be equal to ids of a lane's columns: their lower words
  // are. The columns' numbers begin with `first`, which is even.
  __device__ __forceinline__ bool are_alike(const LossParams& params,
                                            const int (&rows)[2], int first) const {
    bool any = false;
    for_each_alike(params, rows, first, [&](int, int) { any = true; });
    return any;
  }
  // Marks these columns: a bit is a column as in band.cuh.
  __device__ __forceinline__ void find_alike(const LossParams& params,
                                             const int (&rows)[2], int first,
                                             uint32_t (&alike)[2]) const {
    for_each_alike(params, rows, first,
                   [&](int half, int column) { alike[half] |= 1u << column; });
  }

  // As in core/rules.h, for the rows of two numbers, of which one is the candidate's.
  __device__ __forceinline__ bool are_equal(const LossParams& params, int row,
                                            int candidate, int32_t index) const {
    return has_equal_ids(
        params, index, [&] { return is_same(doc_ids_, row, candidate); },
        [&] { return is_same(query_ids_, row, candidate); });
  }

 private:
  static constexpr int kWords = 2;  // of an id: the second of a 32-bit id is 0

  __device__ __forceinline__ static void copy_id(const void* ids, IndexType type,
                                                 int64_t row, bool exists,
                                                 SharedElement<int32_t>* to) {
    const int64_t source = exists ? row : 0;
    if (type == IndexType::kInt64) {
      copy_async<8>(to, static_cast<const int64_t*>(ids) + source, exists);
    } else {
      copy_async<4>(to, static_cast<const int32_t*>(ids) + source, exists);
      copy_async<4>(to + 1, ids, false);
    }
  }

  // Calls `work(half, bit of the column)` for each such pair.
  template <typename Work>
  __device__ __forceinline__ void for_each_alike(const LossParams& params,
                                                 const int (&rows)[2], int first,
                                                 const Work& work) const {
    if (params.doc_ids != nullptr) for_each_alike(doc_ids_, rows, first, work);
    if (params.query_ids != nullptr) for_each_alike(query_ids_, rows, first, work);
  }
  template <typename Work>
  __device__ __forceinline__ static void for_each_alike(
      const SharedElement<int32_t>* ids, const int (&rows)[2], int first,
      const Work& work) {
    const int32_t of_rows[2] = {ids[kWords * rows[0]], ids[kWords * rows[1]]};
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      const int column = fragment * kFragmentColumns;
      const uint4 pair =
          read_bits<uint4, int32_t>(ids + kWords * (first + column + column_of_lane()));
      const int32_t of_columns[2] = {static_cast<int32_t>(pair.x),
                                     static_cast<int32_t>(pair.z)};
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        if (of_rows[element / 2] == of_columns[element % 2]) {
          work(element / 2, column + element % 2);
        }
      }
    }
  }

  __device__ __forceinline__ static bool is_same(const SharedElement<int32_t>* ids,
                                                 int left, int right) {
    return ids[kWords * left] == ids[kWords * right] &&
           ids[kWords * left + 1] == ids[kWords * right + 1];
  }

  SharedElement<Real>* const log_q_;
  SharedElement<int32_t>* const doc_ids_;
  SharedElement<int32_t>* const query_ids_;
};

}  // namespace cuda
}  // namespace negative_cosine
