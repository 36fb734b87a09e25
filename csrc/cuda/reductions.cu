// Sums over all rows in two stages of fixed order: each thread takes every 1024th item,
// then the block adds up its threads. In float64, whatever the embeddings' type.
#include "core/rules.h"
#include "cuda/device/block.cuh"
#include "cuda/device/kernel_facts.h"
#include "cuda/device/launch.h"
#include "cuda/reductions.h"
#include "cuda/rows/saved.cuh"

namespace negative_cosine {
namespace cuda {
namespace {

constexpr int kThreads = 1024;

template <typename Term>
__device__ __forceinline__ double sum_over(int64_t count, const Term& term) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += term(i);
  return sum_over_block(sum);
}

// The largest logit z_i0, its first row, and whether any is NaN.
struct Largest {
  double logit;
  int64_t row;
  bool has_nan;
};

__device__ __forceinline__ Largest larger_of(const Largest& a, const Largest& b) {
  const bool first = a.logit > b.logit || (a.logit == b.logit && a.row < b.row);
  const Largest& larger = first ? a : b;
  return {larger.logit, larger.row, a.has_nan || b.has_nan};
}

__device__ __forceinline__ Largest largest_over_block(Largest mine) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance >= 1; distance /= 2) {
    const Largest other{
        __shfl_xor_sync(kWholeWarp, mine.logit, distance),
        __shfl_xor_sync(kWholeWarp, static_cast<long long>(mine.row), distance),
        __shfl_xor_sync(kWholeWarp, static_cast<int>(mine.has_nan), distance) != 0};
    mine = larger_of(mine, other);
  }
  return combine_warps(mine, larger_of);
}

// The rows' losses of row_loss_over_batch.
template <typename Real>
class SoftmaxOverBatch {
 public:
  __device__ SoftmaxOverBatch(const LossParams& params, const ForwardOutputs& outputs)
      : params_(params), cosines_(static_cast<const Real*>(outputs.positive_cosine)) {
    const double infinity = INFINITY;
    Largest mine{-infinity, params.batch_size, false};
    for (int64_t row = threadIdx.x; row < params.batch_size; row += blockDim.x) {
      const Real logit = logit_of(row);
      mine = larger_of(mine, {logit, row, logit != logit});
    }
    largest_ = largest_over_block(mine);
    others_ = sum_over(params.batch_size, [&](int64_t row) {
      return row == largest_.row ? 0.0 : exp_of(logit_of(row) - largest_.logit);
    });
    if (largest_.has_nan) largest_.logit = NAN;
  }

  __device__ Real row_loss(int64_t row) const {
    return row_loss_over_batch(static_cast<Real>(largest_.logit), logit_of(row),
                               others_);
  }

 private:
  __device__ Real logit_of(int64_t row) const {
    return positive_logit(params_, static_cast<Real>(params_.margin), row,
                          __ldcg(cosines_ + row));
  }

  const LossParams& params_;
  const Real* const cosines_;
  Largest largest_;
  double others_;
};

// The rows' losses over the batch, weighted; row by row into the outputs.
template <typename Real>
__device__ double losses_over_batch(const LossParams& params,
                                    const ForwardOutputs& outputs) {
  const SoftmaxOverBatch<Real> softmax(params, outputs);
  return sum_over(params.batch_size, [&](int64_t row) {
    const Real row_loss = softmax.row_loss(row);
    __stcs(static_cast<Real*>(outputs.row_loss) + row, row_loss);
    const Real loss = weighted_loss(params, row, row_loss);
    if (params.reduction == Reduction::kNone) {
      __stcs(static_cast<Real*>(outputs.loss) + row, loss);
    }
    return static_cast<double>(loss);
  });
}

template <typename Real>
__global__ void __launch_bounds__(kThreads)
    finish_forward_kernel(const LossParams params, const ForwardOutputs outputs,
                          const double* block_losses, int64_t num_blocks) {
  const double loss = params.normalize_over == NormalizeOver::kBatch
                          ? losses_over_batch<Real>(params, outputs)
                          : sum_over(num_blocks, [&](int64_t block) {
                              return __ldg(block_losses + block);
                            });
  if (params.reduction == Reduction::kNone || threadIdx.x != 0) return;
  __stcs(static_cast<Real*>(outputs.loss), static_cast<Real>(loss));
}

template <typename Real>
__global__ void __launch_bounds__(kThreads)
    coefficient_sum_kernel(const LossParams params, const GradientArguments arguments,
                           double* coefficient_sum) {
  const double sum = sum_over(params.batch_size, [&](int64_t row) {
    return static_cast<double>(zero_safe_product(
        loss_coefficient(params, row, row_loss_of<Real>(arguments, row)),
        upstream_of_row<Real>(params, arguments, row)));
  });
  if (threadIdx.x == 0) __stcs(coefficient_sum, sum);
}

}  // namespace

cudaError_t find_kernel() {
  cudaFuncAttributes attributes;
  const cudaError_t error = find_attributes(coefficient_sum_kernel<float>, &attributes);
  if (error != cudaSuccess) cudaGetLastError();
  return error;
}

cudaError_t launch_finish_forward(const LossParams& params,
                                  const ForwardOutputs& outputs,
                                  const double* block_losses, int64_t num_blocks,
                                  cudaStream_t stream) {
  const auto kernel = params.data_type == DataType::kFloat64
                          ? finish_forward_kernel<double>
                          : finish_forward_kernel<float>;
  return launch(kernel, 1, kThreads, stream, params, outputs, block_losses, num_blocks);
}

cudaError_t launch_coefficient_sum(const LossParams& params,
                                   const GradientArguments& arguments,
                                   double* coefficient_sum, cudaStream_t stream) {
  const auto kernel = params.data_type == DataType::kFloat64
                          ? coefficient_sum_kernel<double>
                          : coefficient_sum_kernel<float>;
  return launch(kernel, 1, kThreads, stream, params, arguments, coefficient_sum);
}

}  // namespace cuda
}  // namespace negative_cosine
