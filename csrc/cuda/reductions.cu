// Sums over all rows in stages of fixed order: each thread takes every 1024th item of
// its block's, then the block adds up its threads, and a block of a later launch the
// blocks where there are several. In float64, whatever the embeddings' type.
#include <algorithm>

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
constexpr int kItems = 8;  // of a thread, whose loads are in flight together

// Of one block where there are few rows: launches would take longer than they save. A
// softmax has an exponential and a logarithm in float64 for each row.
constexpr int64_t kRowsOfOneSoftmax = 8192;
constexpr int64_t kRowsOfOneSum = 32768;
constexpr int kThreadsOfMany = 256;

// Blocks, each of neighbouring rows.
struct Split {
  Split(int64_t rows, int64_t rows_of_one)
      : blocks(rows <= rows_of_one ? 1
                                   : std::min(kMostReductionBlocks,
                                              round_up(rows, kThreadsOfMany * kItems) /
                                                  (kThreadsOfMany * kItems))),
        threads(blocks == 1 ? kThreads : kThreadsOfMany),
        rows_of_block((rows + blocks - 1) / blocks) {}

  int64_t blocks;
  int threads;
  int64_t rows_of_block;
};

struct Range {
  int64_t begin;
  int64_t end;
};

__device__ __forceinline__ Range rows_of_block(const LossParams& params,
                                               int64_t rows_of_block) {
  const int64_t begin = blockIdx.x * rows_of_block;
  const int64_t end = begin + rows_of_block;
  return {begin, end < params.batch_size ? end : params.batch_size};
}

// Calls work(i, load(i)) for the thread's items in their order.
template <typename Load, typename Work>
__device__ __forceinline__ void for_each_item(const Range& range, const Load& load,
                                              const Work& work) {
  const int64_t step = blockDim.x;
  for (int64_t first = range.begin + threadIdx.x; first < range.end;
       first += kItems * step) {
    decltype(load(first)) values[kItems] = {};
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int64_t i = first + item * step;
      if (i < range.end) values[item] = load(i);
    }
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int64_t i = first + item * step;
      if (i < range.end) work(i, values[item]);
    }
  }
}

__device__ __forceinline__ double sum_over(int64_t count, const double* values) {
  double sum = 0;
  for_each_item(
      Range{0, count}, [&](int64_t i) { return __ldg(values + i); },
      [&](int64_t, double value) { sum += value; });
  return sum_over_block(sum);
}

// --- The softmax over the batch ------------------------------------------------------

// A softmax of some logits z_i0: the largest, NaN if any is, and the sum of e^(z - it)
// over the others.
struct SoftmaxSum {
  double largest;
  double others;
};

__device__ __forceinline__ bool is_nan(double value) { return value != value; }

__device__ __forceinline__ SoftmaxSum no_logits() { return {-kInfinity<double>, 0}; }

__device__ __forceinline__ SoftmaxSum combined(const SoftmaxSum& a,
                                               const SoftmaxSum& b) {
  // By value: of a reference to one or the other the compiler keeps both in memory.
  const bool first = is_nan(a.largest) || a.largest >= b.largest;
  const double largest = first ? a.largest : b.largest;
  const double smaller = first ? b.largest : a.largest;
  const double others = first ? a.others : b.others;
  if (smaller == -kInfinity<double>) return {largest, others};
  const double of_smaller = (first ? b.others : a.others) + 1;
  return {largest, others + of_smaller * exp_of(smaller - largest)};
}

// With one more logit: by one exponential, whichever is the larger.
__device__ __forceinline__ SoftmaxSum with_logit(const SoftmaxSum& sum, double logit) {
  if (logit == -kInfinity<double>) return sum;
  const double share = exp_of(-fabs(logit - sum.largest));
  if (is_nan(logit) || logit > sum.largest) return {logit, (sum.others + 1) * share};
  return {sum.largest, sum.others + share};
}

__device__ __forceinline__ SoftmaxSum combined_over_block(SoftmaxSum mine) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance >= 1; distance /= 2) {
    mine = combined(mine, {__shfl_xor_sync(kWholeWarp, mine.largest, distance),
                           __shfl_xor_sync(kWholeWarp, mine.others, distance)});
  }
  return combine_warps(mine, combined);
}

template <typename Real>
__device__ __forceinline__ Real load_cosine(const ForwardOutputs& outputs,
                                            int64_t row) {
  return __ldg(static_cast<const Real*>(outputs.positive_cosine) + row);
}

template <typename Real>
__device__ __forceinline__ Real logit_of(const LossParams& params, int64_t row,
                                         Real cosine) {
  return positive_logit(params, static_cast<Real>(params.margin), row, cosine);
}

template <typename Real>
__device__ __forceinline__ SoftmaxSum softmax_of_rows(const LossParams& params,
                                                      const ForwardOutputs& outputs,
                                                      const Range& rows) {
  SoftmaxSum sum = no_logits();
  for_each_item(
      rows, [&](int64_t row) { return load_cosine<Real>(outputs, row); },
      [&](int64_t row, Real cosine) {
        sum = with_logit(sum, logit_of(params, row, cosine));
      });
  return combined_over_block(sum);
}

// Row by row into the outputs. Returns the block's part of the loss.
template <typename Real>
__device__ __forceinline__ double write_losses(const LossParams& params,
                                               const ForwardOutputs& outputs,
                                               const Range& rows,
                                               const SoftmaxSum& softmax) {
  const auto largest = static_cast<Real>(softmax.largest);
  // The logarithm that row_loss_over_batch adds is the same for all rows, and 0 of no
  // others. Of an infinite logit it is undefined, and all losses infinite.
  const Real log_of_others = largest == kInfinity<Real>
                                 ? Real(0)
                                 : static_cast<Real>(log1p_of(softmax.others));
  double sum = 0;
  for_each_item(
      rows, [&](int64_t row) { return load_cosine<Real>(outputs, row); },
      [&](int64_t row, Real cosine) {
        const Real row_loss =
            row_loss_over_batch(largest, logit_of(params, row, cosine), 0.0) +
            log_of_others;
        __stcs(static_cast<Real*>(outputs.row_loss) + row, row_loss);
        const Real loss = weighted_loss(params, row, row_loss);
        if (params.reduction == Reduction::kNone) {
          __stcs(static_cast<Real*>(outputs.loss) + row, loss);
        }
        sum += loss;
      });
  return sum_over_block(sum);
}

template <typename Real>
__device__ __forceinline__ void write_loss(const LossParams& params,
                                           const ForwardOutputs& outputs, double loss) {
  if (params.reduction == Reduction::kNone || threadIdx.x != 0) return;
  __stcs(static_cast<Real*>(outputs.loss), static_cast<Real>(loss));
}

// One block.
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    batch_softmax_kernel(const LossParams params, const ForwardOutputs outputs) {
  const Range rows{0, params.batch_size};
  const SoftmaxSum softmax = softmax_of_rows<Real>(params, outputs, rows);
  write_loss<Real>(params, outputs, write_losses<Real>(params, outputs, rows, softmax));
}

// parts [2, blocks]: the largest logits and the others' sums.
template <typename Real>
__global__ void __launch_bounds__(kThreadsOfMany)
    softmax_parts_kernel(const LossParams params, const ForwardOutputs outputs,
                         int64_t rows_of_each, double* parts) {
  const SoftmaxSum part =
      softmax_of_rows<Real>(params, outputs, rows_of_block(params, rows_of_each));
  if (threadIdx.x != 0) return;
  __stcg(parts + blockIdx.x, part.largest);
  __stcg(parts + gridDim.x + blockIdx.x, part.others);
}

// Each block combines the parts of all, and then writes the losses of its rows.
template <typename Real>
__global__ void __launch_bounds__(kThreadsOfMany)
    losses_over_batch_kernel(const LossParams params, const ForwardOutputs outputs,
                             int64_t rows_of_each, const double* parts,
                             double* block_losses) {
  static_assert(kMostReductionBlocks <= kThreadsOfMany, "a thread has a part");
  SoftmaxSum part = no_logits();
  if (threadIdx.x < gridDim.x) {
    part = {__ldg(parts + threadIdx.x), __ldg(parts + gridDim.x + threadIdx.x)};
  }
  const double loss = write_losses<Real>(
      params, outputs, rows_of_block(params, rows_of_each), combined_over_block(part));
  if (threadIdx.x == 0) __stcg(block_losses + blockIdx.x, loss);
}

// One block.
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    finish_forward_kernel(const LossParams params, const ForwardOutputs outputs,
                          const double* block_losses, int64_t num_blocks) {
  write_loss<Real>(params, outputs, sum_over(num_blocks, block_losses));
}

// --- The sum of the coefficients -----------------------------------------------------

// sums [blocks]
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    coefficient_sums_kernel(const LossParams params, const GradientArguments arguments,
                            int64_t rows_of_each, double* sums) {
  double sum = 0;
  for_each_item(
      rows_of_block(params, rows_of_each),
      [&](int64_t row) { return row_loss_of<Real>(arguments, row); },
      [&](int64_t row, Real row_loss) {
        sum += zero_safe_product(loss_coefficient(params, row, row_loss),
                                 upstream_of_row<Real>(params, arguments, row));
      });
  sum = sum_over_block(sum);
  if (threadIdx.x == 0) __stcg(sums + blockIdx.x, sum);
}

// One block.
__global__ void __launch_bounds__(kThreadsOfMany)
    add_up_kernel(const double* parts, int64_t count, double* sum) {
  const double total = sum_over(count, parts);
  if (threadIdx.x == 0) __stcg(sum, total);
}

template <typename Real>
cudaError_t finish_forward(const LossParams& params, const ForwardOutputs& outputs,
                           const double* block_losses, int64_t num_blocks,
                           cudaStream_t stream) {
  return launch(finish_forward_kernel<Real>, 1, kThreads, stream, params, outputs,
                block_losses, num_blocks);
}

template <typename Real>
cudaError_t finish_batch(const LossParams& params, const ForwardOutputs& outputs,
                         double* parts, cudaStream_t stream) {
  const Split split(params.batch_size, kRowsOfOneSoftmax);
  if (split.blocks == 1) {
    return launch(batch_softmax_kernel<Real>, 1, kThreads, stream, params, outputs);
  }
  double* block_losses = parts + 2 * split.blocks;
  cudaError_t error = launch(softmax_parts_kernel<Real>, split.blocks, split.threads,
                             stream, params, outputs, split.rows_of_block, parts);
  if (error != cudaSuccess) return error;
  error = launch(losses_over_batch_kernel<Real>, split.blocks, split.threads, stream,
                 params, outputs, split.rows_of_block,
                 static_cast<const double*>(parts), block_losses);
  if (error != cudaSuccess || params.reduction == Reduction::kNone) return error;
  return finish_forward<Real>(params, outputs, block_losses, split.blocks, stream);
}

}  // namespace

cudaError_t find_kernel() {
  cudaFuncAttributes attributes;
  const cudaError_t error =
      find_attributes(coefficient_sums_kernel<float>, &attributes);
  if (error != cudaSuccess) cudaGetLastError();
  return error;
}

cudaError_t launch_finish_forward(const LossParams& params,
                                  const ForwardOutputs& outputs,
                                  const ForwardScratch& scratch, int64_t num_blocks,
                                  cudaStream_t stream) {
  const bool over_batch = params.normalize_over == NormalizeOver::kBatch;
  cudaError_t error = cudaSuccess;
  with_compute_type(params.data_type, [&](auto real) {
    using Real = decltype(real);
    error = over_batch
                ? finish_batch<Real>(params, outputs, scratch.reduction_parts, stream)
                : finish_forward<Real>(params, outputs, scratch.block_losses,
                                       num_blocks, stream);
  });
  return error;
}

cudaError_t launch_coefficient_sum(const LossParams& params,
                                   const GradientArguments& arguments, double* parts,
                                   double* coefficient_sum, cudaStream_t stream) {
  const Split split(params.batch_size, kRowsOfOneSum);
  const auto kernel = params.data_type == DataType::kFloat64
                          ? coefficient_sums_kernel<double>
                          : coefficient_sums_kernel<float>;
  const cudaError_t error =
      launch(kernel, split.blocks, split.threads, stream, params, arguments,
             split.rows_of_block, split.blocks == 1 ? coefficient_sum : parts);
  if (error != cudaSuccess || split.blocks == 1) return error;
  return launch(add_up_kernel, 1, kThreadsOfMany, stream,
                static_cast<const double*>(parts), split.blocks, coefficient_sum);
}

}  // namespace cuda
}  // namespace negative_cosine
