// Both passes on the device, with copies of every array there.
#pragma once

#include <cuda_runtime.h>

#include "cuda/passes.h"
#include "numpy/device_memory.h"
#include "numpy/loss_arguments.h"

namespace negative_cosine {

inline int64_t index_size(IndexType type) { return type == IndexType::kInt64 ? 8 : 4; }

// Every array of a run on the device, with the structs that point there.
class DeviceRun {
 public:
  // `embedding_offset` elements off an aligned address: rows that no packet fits.
  DeviceRun(const LossParams& host_params, const LossResults& results,
            int embedding_offset, cudaStream_t stream)
      : params_(host_params),
        outputs_(results.outputs),
        gradient_(results.gradient),
        stream_(stream) {
    require(embedding_offset >= 0, "embedding_offset must be at least 0, got " +
                                       std::to_string(embedding_offset));
    copy_params(embedding_offset);
    input_bytes_ = copies_.allocated_bytes();
    make_outputs();
    if (results.with_gradient()) make_gradients(embedding_offset);
    // One each, so that no pass reads what the other has left.
    forward_scratch_ = copies_.allocate(cuda::forward_scratch_bytes(params_));
    if (results.with_gradient()) {
      gradient_scratch_ = copies_.allocate(cuda::gradient_scratch_bytes(params_));
    }
    // The copies are on another stream.
    raise_unless_successful(cudaDeviceSynchronize(), "copying to the device");
  }

  // Puts the passes on the stream.
  void launch() {
    params_.scratch = forward_scratch_;
    raise_unless_ok(cuda::forward(params_, outputs_, stream_));
    if (gradient_scratch_ == nullptr) return;
    params_.scratch = gradient_scratch_;
    raise_unless_ok(cuda::gradient(params_, gradient_, stream_));
  }

  void wait() const {
    raise_unless_successful(cudaStreamSynchronize(stream_), "running the kernels");
  }

  void copy_back() const {
    wait();
    copies_.copy_back();
  }

  // So that what a launch leaves out is seen.
  void spoil_results() const {
    wait();
    copies_.spoil_results();
    raise_unless_successful(cudaDeviceSynchronize(), "writing to device memory");
  }

  // Outputs, gradients and work memory.
  int64_t bytes_beside_inputs() const {
    return copies_.allocated_bytes() - input_bytes_;
  }

 private:
  void copy_params(int64_t embedding_offset) {
    const int64_t element = storage_size_of(params_.data_type);
    const int64_t rows = params_.batch_size, docs = params_.num_candidates;
    const int64_t offset = embedding_offset * element;
    copies_.copy_in(&params_.query, rows * params_.dim * element, offset);
    copies_.copy_in(&params_.doc, docs * params_.dim * element, offset);
    copies_.copy_in(&params_.logit_scale, real());
    copies_.copy_in(&params_.seed, 2 * index_size(params_.seed_type));
    copies_.copy_in(
        &params_.negative_indices,
        rows * params_.num_negatives * index_size(params_.negative_indices_type));
    copies_.copy_in(&params_.doc_ids, docs * index_size(params_.doc_ids_type));
    copies_.copy_in(&params_.query_ids, rows * index_size(params_.query_ids_type));
    copies_.copy_in(&params_.doc_log_q, docs * real());
    copies_.copy_in(&params_.sample_weight, rows * real());
  }

  void make_outputs() {
    const int64_t rows = params_.batch_size * real();
    copies_.make_result(&outputs_.loss, loss_bytes());
    copies_.make_result(&outputs_.row_loss, rows);
    copies_.make_result(&outputs_.positive_cosine, rows);
    copies_.make_result(&outputs_.saved_rows, 4 * rows);
    copies_.make_result(&outputs_.doc_inverse_norm, params_.num_candidates * real());
    copies_.make_result(&outputs_.row_scale_gradient, rows);
    copies_.make_result(&outputs_.query_direction, rows * params_.dim);
    copies_.make_result(&outputs_.num_kept, params_.batch_size * 4);
    copies_.make_result(&outputs_.positive_rank, params_.batch_size * 4);
  }

  void make_gradients(int64_t embedding_offset) {
    const int64_t row = params_.dim * storage_size_of(params_.data_type);
    const int64_t offset = embedding_offset * storage_size_of(params_.data_type);
    gradient_.row_loss = outputs_.row_loss;
    gradient_.saved_rows = outputs_.saved_rows;
    gradient_.doc_inverse_norm = outputs_.doc_inverse_norm;
    gradient_.row_scale_gradient = outputs_.row_scale_gradient;
    gradient_.query_direction = outputs_.query_direction;
    copies_.copy_in(&gradient_.loss_gradient, loss_bytes());
    copies_.make_result(&gradient_.query_gradient, params_.batch_size * row, offset);
    copies_.make_result(&gradient_.doc_gradient, params_.num_candidates * row, offset);
    copies_.make_result(&gradient_.logit_scale_gradient, real());
    copies_.make_result(&gradient_.sample_weight_gradient, params_.batch_size * real());
  }

  int64_t real() const { return compute_size_of(params_.data_type); }
  int64_t loss_bytes() const {
    return params_.reduction == Reduction::kNone ? params_.batch_size * real() : real();
  }

  LossParams params_;
  ForwardOutputs outputs_;
  GradientArguments gradient_;
  cudaStream_t stream_;
  DeviceCopies copies_;
  int64_t input_bytes_ = 0;
  void* forward_scratch_ = nullptr;
  void* gradient_scratch_ = nullptr;
};

}  // namespace negative_cosine
