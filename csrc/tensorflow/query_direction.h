// The direction of the query's gradient, for a gradient op that was given none.
//
// Eager execution does not know, when the loss is computed, whether anybody will ask
// for a gradient. It leaves the direction out, and the gradient op runs the forward
// pass for it: one op all the same.
#pragma once

#include <algorithm>

#include "core/params.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/op_memory.h"
#include "tensorflow/op_status.h"

namespace negative_cosine {
namespace op_kernels {

// Memory for what the forward pass writes besides the direction, and nobody reads.
class UnreadOutputs {
 public:
  explicit UnreadOutputs(const LossParams& params) : params_(params) {
    const int64_t rows = params.batch_size;
    saved_rows_ = reserve(4 * rows);  // the first: it needs the widest alignment
    loss_ = reserve(std::max<int64_t>(rows, 1));
    row_loss_ = reserve(rows);
    positive_cosine_ = reserve(rows);
    row_scale_gradient_ = reserve(rows);
    doc_inverse_norm_ = reserve(params.num_candidates);
  }

  absl::Status allocate(OpKernelContext* context, ForwardOutputs* outputs) {
    char* start = nullptr;
    TF_RETURN_IF_ERROR(allocate_bytes(context, bytes_, &memory_, &start));
    outputs->saved_rows = start + saved_rows_;
    outputs->loss = start + loss_;
    outputs->row_loss = start + row_loss_;
    outputs->positive_cosine = start + positive_cosine_;
    outputs->row_scale_gradient = start + row_scale_gradient_;
    outputs->doc_inverse_norm = start + doc_inverse_norm_;
    return absl::OkStatus();
  }

 private:
  int64_t reserve(int64_t count) {
    const int64_t offset = bytes_;
    bytes_ += round_up(count * compute_size_of(params_.data_type), 64);
    return offset;
  }

  const LossParams& params_;
  int64_t bytes_ = 0;
  int64_t saved_rows_, loss_, row_loss_, positive_cosine_, row_scale_gradient_,
      doc_inverse_norm_;
  Tensor memory_;
};

// Runs the forward pass for the direction alone, into `memory`.
template <typename Device>
absl::Status compute_query_direction(OpKernelContext* context, LossParams params,
                                     Tensor* memory, const void** query_direction) {
  char* direction = nullptr;
  TF_RETURN_IF_ERROR(allocate_bytes(
      context, params.batch_size * params.dim * compute_size_of(params.data_type),
      memory, &direction));
  ForwardOutputs outputs;
  outputs.query_direction = direction;
  UnreadOutputs unread(params);
  TF_RETURN_IF_ERROR(unread.allocate(context, &outputs));
  Tensor scratch;
  TF_RETURN_IF_ERROR(allocate_scratch(context, Device::forward_scratch_bytes(params),
                                      &scratch, &params));
  TF_RETURN_IF_ERROR(to_tensorflow(
      without_exceptions([&] { return Device::forward(context, params, outputs); })));
  *query_direction = direction;
  return absl::OkStatus();
}

}  // namespace op_kernels
}  // namespace negative_cosine
