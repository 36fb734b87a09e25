// A stable radix sort of pairs of a row and a document by document, a pass for each
// byte: count each chunk's digits, scan the counts to offsets, move the pairs. It uses
// no atomics, so the order is always the same: a chunk belongs to one warp, which takes
// it 32 pairs at a time.
//
// Dropped pairs get the key C, one past the last document, and so end up behind all
// others.
#include <algorithm>

#include "core/rules.h"
#include "cuda/candidates/candidates.cuh"
#include "cuda/candidates/inverted_table.h"
#include "cuda/device/block.cuh"
#include "cuda/device/launch.h"

namespace negative_cosine {
namespace cuda {
namespace {

constexpr int kDigits = 256;
constexpr int kDigitBits = 8;
constexpr int64_t kSmallestChunk = 1024;
constexpr int64_t kMostChunks = 512;
constexpr int kThreads = 256;
constexpr int kScanThreads = 1024;
constexpr int kScanItems = 16;  // a thread and round

struct Pairs {
  uint32_t* docs;
  int32_t* rows;
};

struct Chunks {
  explicit Chunks(int64_t num_pairs)
      : pairs(num_pairs),
        size(
            std::max(kSmallestChunk,
                     round_up((num_pairs + kMostChunks - 1) / kMostChunks, kWarpSize))),
        count((num_pairs + size - 1) / size) {}

  int64_t pairs;
  int64_t size;  // of a chunk
  int64_t count;
};

// A source of pairs in the first pass: the caller's table itself.
class TablePairs {
 public:
  explicit TablePairs(const LossParams& params) : params_(params) {}

  __device__ const TablePairs& opened() const { return *this; }

  __device__ uint32_t doc(int64_t position) const {
    const int64_t doc =
        load_index(params_.negative_indices, params_.negative_indices_type, position);
    const bool exists = doc >= 0 && doc < params_.num_candidates;
    const bool kept = exists && !is_dropped(params_, row(position), doc);
    return static_cast<uint32_t>(kept ? doc : params_.num_candidates);
  }
  __device__ int32_t row(int64_t position) const {
    return static_cast<int32_t>(position / params_.num_negatives);
  }

 private:
  LossParams params_;
};

// Likewise: the draws of `shuffle`, one permutation after the other. They are hashed
// where they are read.
class DrawnPairs {
 public:
  explicit DrawnPairs(const LossParams& params) : params_(params) {}

  // With the seed, which is on the device.
  class Opened {
   public:
    __device__ explicit Opened(const LossParams& params)
        : params_(params), permutations_(params) {}

    __device__ uint32_t doc(int64_t position) const {
      const int64_t number = position / params_.batch_size + 1;
      const int32_t of_row = row(position);
      const uint32_t doc = permutations_[number].forward(static_cast<uint32_t>(of_row));
      return is_dropped(params_, of_row, doc)
                 ? static_cast<uint32_t>(params_.num_candidates)
                 : doc;
    }
    __device__ int32_t row(int64_t position) const {
      return static_cast<int32_t>(position % params_.batch_size);
    }

   private:
    const LossParams& params_;
    Permutations permutations_;
  };
  __device__ Opened opened() const { return Opened(params_); }

 private:
  LossParams params_;
};

// What the last pass wrote.
class SortedPairs {
 public:
  explicit SortedPairs(const Pairs& pairs) : pairs_(pairs) {}

  __device__ const SortedPairs& opened() const { return *this; }

  __device__ uint32_t doc(int64_t position) const {
    return __ldg(pairs_.docs + position);
  }
  __device__ int32_t row(int64_t position) const {
    return __ldg(pairs_.rows + position);
  }

 private:
  Pairs pairs_;
};

// Calls work(position, doc, digit, peers) for each pair of the warp's chunk, where
// `peers` are the lanes whose pair has the same digit; absent lanes get no peers.
template <typename Opened, typename Work>
__device__ __forceinline__ void for_each_pair(const Opened& source,
                                              const Chunks& chunks, int shift,
                                              const Work& work) {
  const int64_t begin = blockIdx.x * chunks.size;
  const int64_t end =
      begin + chunks.size < chunks.pairs ? begin + chunks.size : chunks.pairs;
  for (int64_t start = begin; start < end; start += kWarpSize) {
    const int64_t position = start + lane_of_thread();
    const bool present = position < end;
    const uint32_t doc = present ? source.doc(position) : 0;
    const int digit =
        present ? static_cast<int>(doc >> shift & (kDigits - 1)) : kDigits;
    const unsigned same = __match_any_sync(kWholeWarp, digit);
    work(position, doc, digit, present ? same : 0u);
    __syncwarp();
  }
}

__device__ __forceinline__ bool leads(unsigned peers) {
  return peers != 0 && __ffs(static_cast<int>(peers)) - 1 == lane_of_thread();
}

template <typename Source>
__global__ void __launch_bounds__(kWarpSize)
    count_digits_kernel(const Source source, const Chunks chunks, int shift,
                        int64_t* counts) {
  __shared__ SharedElement<int> count[kDigits];
  for (int digit = lane_of_thread(); digit < kDigits; digit += kWarpSize)
    count[digit] = 0;
  __syncwarp();
  for_each_pair(source.opened(), chunks, shift,
                [&](int64_t, uint32_t, int digit, unsigned peers) {
                  if (leads(peers)) count[digit] = count[digit] + __popc(peers);
                });
  for (int digit = lane_of_thread(); digit < kDigits; digit += kWarpSize) {
    __stcg(counts + digit * chunks.count + blockIdx.x, int64_t{count[digit]});
  }
}

// counts becomes its exclusive prefix sum: the offset of each chunk's first pair of
// each digit. One block.
__global__ void __launch_bounds__(kScanThreads)
    scan_counts_kernel(int64_t* counts, int64_t size) {
  __shared__ SharedElement<int64_t> of_warp[kMostWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  int64_t before = 0;  // of this round
  for (int64_t start = 0; start < size; start += kScanThreads * kScanItems) {
    const int64_t first = start + threadIdx.x * kScanItems;
    int64_t own = 0;
    for (int64_t i = first; i < first + kScanItems && i < size; ++i) {
      own += __ldcg(counts + i);
    }
    int64_t inclusive = own;
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int64_t other =
          __shfl_up_sync(kWholeWarp, static_cast<long long>(inclusive), distance);
      if (lane_of_thread() >= distance) inclusive += other;
    }
    if (lane_of_thread() == kWarpSize - 1) of_warp[warp] = inclusive;
    __syncthreads();
    int64_t offset = before + inclusive - own;
    for (int other = 0; other < kScanThreads / kWarpSize; ++other) {
      const int64_t total = of_warp[other];
      if (other < warp) offset += total;
      before += total;
    }
    for (int64_t i = first; i < first + kScanItems && i < size; ++i) {
      const int64_t count = __ldcg(counts + i);
      __stcg(counts + i, offset);
      offset += count;
    }
    __syncthreads();
  }
}

template <typename Source>
__global__ void __launch_bounds__(kWarpSize)
    move_pairs_kernel(const Source source, const Chunks chunks, int shift,
                      const int64_t* offsets, const Pairs sorted) {
  __shared__ SharedElement<int64_t> next[kDigits];
  for (int digit = lane_of_thread(); digit < kDigits; digit += kWarpSize) {
    next[digit] = __ldg(offsets + digit * chunks.count + blockIdx.x);
  }
  __syncwarp();
  const auto& pairs = source.opened();
  for_each_pair(pairs, chunks, shift,
                [&](int64_t position, uint32_t doc, int digit, unsigned peers) {
                  if (peers != 0) {
                    const unsigned before = peers & ((1u << lane_of_thread()) - 1u);
                    const int64_t to = next[digit] + __popc(before);
                    __stcg(sorted.docs + to, doc);
                    __stcg(sorted.rows + to, pairs.row(position));
                  }
                  __syncwarp();
                  if (leads(peers)) next[digit] = next[digit] + __popc(peers);
                });
}

// starts[j] is the first position whose document is j or above.
__global__ void __launch_bounds__(kThreads)
    find_starts_kernel(const uint32_t* docs, int64_t num_pairs, int64_t num_docs,
                       int64_t* starts) {
  const int64_t doc = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (doc > num_docs) return;
  int64_t below = 0, above = num_pairs;  // the answer lies in between
  while (below < above) {
    const int64_t middle = (below + above) / 2;
    if (__ldg(docs + middle) < doc) {
      below = middle + 1;
    } else {
      above = middle;
    }
  }
  __stcg(starts + doc, below);
}

// The scratch's parts, one behind the other, in bytes.
struct TableLayout {
  explicit TableLayout(const LossParams& params) {
    const Chunks chunks(params.batch_size * params.num_negatives);
    for (int buffer = 0; buffer < 2; ++buffer) {
      docs_offset[buffer] = take(chunks.pairs * 4);
      rows_offset[buffer] = take(chunks.pairs * 4);
    }
    counts_offset = take(kDigits * chunks.count * 8);
    starts_offset = take((params.num_candidates + 1) * 8);
  }

  int64_t docs_offset[2];
  int64_t rows_offset[2];
  int64_t counts_offset;
  int64_t starts_offset;
  int64_t total = 0;

 private:
  int64_t take(int64_t bytes) {
    const int64_t offset = total;
    total += round_up(bytes, 256);
    return offset;
  }
};

struct TableScratch {
  TableScratch(const TableLayout& layout, void* memory) {
    auto* base = static_cast<char*>(memory);
    for (int buffer = 0; buffer < 2; ++buffer) {
      buffers[buffer] = {reinterpret_cast<uint32_t*>(base + layout.docs_offset[buffer]),
                         reinterpret_cast<int32_t*>(base + layout.rows_offset[buffer])};
    }
    counts = reinterpret_cast<int64_t*>(base + layout.counts_offset);
    starts = reinterpret_cast<int64_t*>(base + layout.starts_offset);
  }

  Pairs buffers[2];
  int64_t* counts;
  int64_t* starts;
};

template <typename Source>
cudaError_t launch_pass(const Source& source, const Chunks& chunks, int shift,
                        int64_t* counts, const Pairs& sorted, cudaStream_t stream) {
  cudaError_t error = launch(count_digits_kernel<Source>, chunks.count, kWarpSize,
                             stream, source, chunks, shift, counts);
  if (error != cudaSuccess) return error;
  error = launch(scan_counts_kernel, 1, kScanThreads, stream, counts,
                 kDigits * chunks.count);
  if (error != cudaSuccess) return error;
  return launch(move_pairs_kernel<Source>, chunks.count, kWarpSize, stream, source,
                chunks, shift, counts, sorted);
}

}  // namespace

int64_t inverted_table_bytes(const LossParams& params) {
  return TableLayout(params).total;
}

cudaError_t launch_invert_table(const LossParams& params, void* memory,
                                cudaStream_t stream, RowsOfDocs* rows_of_docs) {
  const TableScratch scratch(TableLayout(params), memory);
  const Chunks chunks(params.batch_size * params.num_negatives);
  int sorted = 0;
  // The keys go up to C itself.
  for (int shift = 0; chunks.pairs > 0 && params.num_candidates >> shift != 0;
       shift += kDigitBits) {
    const Pairs& to = scratch.buffers[1 - sorted];
    const auto launch_from = [&](const auto& source) {
      return launch_pass(source, chunks, shift, scratch.counts, to, stream);
    };
    const cudaError_t error =
        shift != 0 ? launch_from(SortedPairs(scratch.buffers[sorted]))
        : params.negative_indices != nullptr ? launch_from(TablePairs(params))
                                             : launch_from(DrawnPairs(params));
    if (error != cudaSuccess) return error;
    sorted = 1 - sorted;
  }
  rows_of_docs->starts = scratch.starts;
  rows_of_docs->rows = scratch.buffers[sorted].rows;
  return launch(find_starts_kernel, params.num_candidates / kThreads + 1, kThreads,
                stream, static_cast<const uint32_t*>(scratch.buffers[sorted].docs),
                chunks.pairs, params.num_candidates, scratch.starts);
}

}  // namespace cuda
}  // namespace negative_cosine
