// A stable radix sort of the table's pairs by document, a byte a pass: count each
// tile's digits, turn the counts into places, move the pairs. Without atomics, so in an
// order that never changes: a tile belongs to one warp, which takes it 32 pairs at a
// time.
//
// Dropped pairs get the key C, one past the last document, and so end up behind all
// that count.
#include <algorithm>

#include "core/rules.h"
#include "cuda/candidates/inverted_table.h"
#include "cuda/device/block.cuh"
#include "cuda/device/launch.h"

namespace negative_cosine {
namespace cuda {
namespace {

constexpr int kDigits = 256;
constexpr int kDigitBits = 8;
constexpr int64_t kSmallestTile = 1024;
constexpr int64_t kMostTiles = 512;
constexpr int kThreads = 256;
constexpr int kScanThreads = 1024;
constexpr int kScanItems = 16;  // a thread and round

struct Pairs {
  uint32_t* docs;
  int32_t* rows;
};

struct Tiling {
  explicit Tiling(int64_t num_pairs)
      : pairs(num_pairs),
        size(std::max(kSmallestTile,
                      round_up((num_pairs + kMostTiles - 1) / kMostTiles, kWarpSize))),
        tiles((num_pairs + size - 1) / size) {}

  int64_t pairs;
  int64_t size;  // of a tile
  int64_t tiles;
};

// A source of pairs: the caller's table itself, in the first pass.
class TablePairs {
 public:
  explicit TablePairs(const LossParams& params) : params_(params) {}

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

// What the last pass wrote.
class SortedPairs {
 public:
  explicit SortedPairs(const Pairs& pairs) : pairs_(pairs) {}

  __device__ uint32_t doc(int64_t position) const {
    return __ldg(pairs_.docs + position);
  }
  __device__ int32_t row(int64_t position) const {
    return __ldg(pairs_.rows + position);
  }

 private:
  Pairs pairs_;
};

// Calls work(position, doc, digit, peers) for each pair of the warp's tile, where
// `peers` are the lanes whose pair has the same digit; absent lanes get no peers.
template <typename Source, typename Work>
__device__ __forceinline__ void for_each_pair(const Source& source,
                                              const Tiling& tiling, int shift,
                                              const Work& work) {
  const int64_t begin = blockIdx.x * tiling.size;
  const int64_t end =
      begin + tiling.size < tiling.pairs ? begin + tiling.size : tiling.pairs;
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
    count_digits_kernel(const Source source, const Tiling tiling, int shift,
                        int64_t* counts) {
  __shared__ SharedElement<int> count[kDigits];
  for (int digit = lane_of_thread(); digit < kDigits; digit += kWarpSize)
    count[digit] = 0;
  __syncwarp();
  for_each_pair(source, tiling, shift,
                [&](int64_t, uint32_t, int digit, unsigned peers) {
                  if (leads(peers)) count[digit] = count[digit] + __popc(peers);
                });
  for (int digit = lane_of_thread(); digit < kDigits; digit += kWarpSize) {
    __stcg(counts + digit * tiling.tiles + blockIdx.x, int64_t{count[digit]});
  }
}

// counts becomes its exclusive prefix sum: the place of each tile's first pair of each
// digit. One block.
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
    int64_t place = before + inclusive - own;
    for (int other = 0; other < kScanThreads / kWarpSize; ++other) {
      const int64_t total = of_warp[other];
      if (other < warp) place += total;
      before += total;
    }
    for (int64_t i = first; i < first + kScanItems && i < size; ++i) {
      const int64_t count = __ldcg(counts + i);
      __stcg(counts + i, place);
      place += count;
    }
    __syncthreads();
  }
}

template <typename Source>
__global__ void __launch_bounds__(kWarpSize)
    move_pairs_kernel(const Source source, const Tiling tiling, int shift,
                      const int64_t* places, const Pairs sorted) {
  __shared__ SharedElement<int64_t> next[kDigits];
  for (int digit = lane_of_thread(); digit < kDigits; digit += kWarpSize) {
    next[digit] = __ldg(places + digit * tiling.tiles + blockIdx.x);
  }
  __syncwarp();
  for_each_pair(source, tiling, shift,
                [&](int64_t position, uint32_t doc, int digit, unsigned peers) {
                  if (peers != 0) {
                    const unsigned before = peers & ((1u << lane_of_thread()) - 1u);
                    const int64_t place = next[digit] + __popc(before);
                    __stcg(sorted.docs + place, doc);
                    __stcg(sorted.rows + place, source.row(position));
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

// The parts of the work memory, one behind the other.
struct Memory {
  explicit Memory(const LossParams& params, char* base = nullptr) {
    const Tiling tiling(params.batch_size * params.num_negatives);
    const auto take = [&](int64_t count, int64_t size) {
      char* part = base + bytes;
      bytes += round_up(count * size, 256);
      return part;
    };
    for (Pairs& pairs : buffers) {
      pairs.docs = reinterpret_cast<uint32_t*>(take(tiling.pairs, 4));
      pairs.rows = reinterpret_cast<int32_t*>(take(tiling.pairs, 4));
    }
    counts = reinterpret_cast<int64_t*>(take(kDigits * tiling.tiles, 8));
    starts = reinterpret_cast<int64_t*>(take(params.num_candidates + 1, 8));
  }

  Pairs buffers[2];
  int64_t* counts;
  int64_t* starts;
  int64_t bytes = 0;
};

template <typename Source>
cudaError_t launch_pass(const Source& source, const Tiling& tiling, int shift,
                        int64_t* counts, const Pairs& sorted, cudaStream_t stream) {
  cudaError_t error = launch(count_digits_kernel<Source>, tiling.tiles, kWarpSize,
                             stream, source, tiling, shift, counts);
  if (error != cudaSuccess) return error;
  error = launch(scan_counts_kernel, 1, kScanThreads, stream, counts,
                 kDigits * tiling.tiles);
  if (error != cudaSuccess) return error;
  return launch(move_pairs_kernel<Source>, tiling.tiles, kWarpSize, stream, source,
                tiling, shift, counts, sorted);
}

}  // namespace

int64_t inverted_table_bytes(const LossParams& params) { return Memory(params).bytes; }

cudaError_t launch_invert_table(const LossParams& params, void* memory,
                                cudaStream_t stream, RowsOfDocs* rows_of_docs) {
  const Memory parts(params, static_cast<char*>(memory));
  const Tiling tiling(params.batch_size * params.num_negatives);
  int sorted = 0;
  // The keys go up to C itself.
  for (int shift = 0; tiling.pairs > 0 && params.num_candidates >> shift != 0;
       shift += kDigitBits) {
    const Pairs& to = parts.buffers[1 - sorted];
    const cudaError_t error =
        shift == 0
            ? launch_pass(TablePairs(params), tiling, shift, parts.counts, to, stream)
            : launch_pass(SortedPairs(parts.buffers[sorted]), tiling, shift,
                          parts.counts, to, stream);
    if (error != cudaSuccess) return error;
    sorted = 1 - sorted;
  }
  rows_of_docs->starts = parts.starts;
  rows_of_docs->rows = parts.buffers[sorted].rows;
  return launch(find_starts_kernel, params.num_candidates / kThreads + 1, kThreads,
                stream, static_cast<const uint32_t*>(parts.buffers[sorted].docs),
                tiling.pairs, params.num_candidates, parts.starts);
}

}  // namespace cuda
}  // namespace negative_cosine
