// A stable radix sort of pairs of a row and a document by document. A pass for each
// digit of the documents' numbers: count the digits of each chunk of pairs, scan the
// counts to offsets, move the pairs. It uses no atomics, so the order is always the
// same. The first pass finds the documents, for all passes, and leaves out dropped
// pairs.
//
// A block takes a chunk by tiles, of which each lane has several pairs in flight. A
// tile is put in order in shared memory, so that what goes to neighbouring places is
// written together. Sectors moved for each pair are counted in
// tests/kernels/test_inverted_table.py.
#include <algorithm>

#include "cuda/candidates/inverted_table.h"
#include "cuda/candidates/pairs.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/shared_arrays.cuh"

namespace negative_cosine {
namespace cuda {
namespace {

constexpr int kMostDigitBits = 8;
constexpr int kMostDigits = 1 << kMostDigitBits;
static_assert(kMostDigits <= kPairThreads, "a thread has a digit");

// That fit a multiprocessor: 64 registers a thread, or 80.
constexpr int kCountingBlocks = 4;
constexpr int kMovingBlocks = 3;

// A block of the scan takes neighbouring digits, whose counts are two sectors, of all
// chunks: each thread a few chunks of one digit.
constexpr int kScanDigits = 8;
constexpr int kScanItems = 8;
constexpr int kScanThreads = 1024;
constexpr int kScanParts = kScanThreads / kScanDigits;
constexpr int64_t kMostChunks = kScanParts * kScanItems;
constexpr int kStartThreads = 256;

// The pairs of each block.
struct Chunks {
  explicit Chunks(int64_t num_pairs)
      : pairs(num_pairs),
        size(round_up((num_pairs + kMostChunks - 1) / kMostChunks, kPairTile)),
        count(size == 0 ? 0 : (num_pairs + size - 1) / size) {}

  __device__ __forceinline__ int64_t begin() const { return blockIdx.x * size; }

  int64_t pairs;
  int64_t size;  // of a chunk
  int64_t count;
};

struct Pairs {
  uint32_t* docs;
  int32_t* rows;
};

struct Digit {
  int shift;
  int bits;

  __host__ __device__ int count() const { return 1 << bits; }
  __device__ __forceinline__ int of(uint32_t doc) const {
    return static_cast<int>(doc >> shift) & (count() - 1);
  }
};

// As few digits as hold the documents' numbers, of nearly equal lengths: few counts.
class Digits {
 public:
  explicit Digits(int64_t num_docs) {
    int bits = 1;
    while (((num_docs - 1) >> bits) != 0) ++bits;
    count_ = (bits + kMostDigitBits - 1) / kMostDigitBits;
    bits_ = (bits + count_ - 1) / count_;
  }
  int count() const { return count_; }
  Digit operator[](int number) const { return {number * bits_, bits_}; }

 private:
  int count_;
  int bits_;
};

// The lanes whose pair has the same digit, none for a lane without a pair. By a ballot
// a bit, whose time is known: others found that a match takes longer the more digits
// there are. The lane's own bit is read from the ballot, or the compiler keeps a mask
// for each bit of all items.
__device__ __forceinline__ unsigned peers_of(bool present, int digit) {
  unsigned peers = __ballot_sync(kWholeWarp, present);
#pragma unroll
  for (int bit = 0; bit < kMostDigitBits; ++bit) {
    const unsigned set = __ballot_sync(kWholeWarp, (digit >> bit & 1) != 0);
    const unsigned own = set >> lane_of_thread() & 1u;
    peers &= ~(set ^ (0u - own));
  }
  return present ? peers : 0u;
}

__device__ __forceinline__ unsigned lanes_below() {
  return (1u << lane_of_thread()) - 1u;
}

// How many pairs of each digit a warp has met.
class DigitCounts {
 public:
  __device__ __forceinline__ explicit DigitCounts(SharedElement<int>* counts)
      : counts_(counts) {
    for (int digit = lane_of_thread(); digit < kMostDigits; digit += kWarpSize) {
      counts_[digit] = 0;
    }
    __syncwarp();
  }

  // Counts a pair a lane. Returns how many of the same digit the warp met before it.
  __device__ __forceinline__ int add(bool present, int digit) {
    const unsigned peers = peers_of(present, digit);
    const unsigned before = peers & lanes_below();
    const int met = present ? counts_[digit] : 0;
    __syncwarp();
    if (present && before == 0) counts_[digit] = met + __popc(peers);
    __syncwarp();
    return met + __popc(before);
  }

 private:
  SharedElement<int>* counts_;
};

// Calls work(count) for each tile of the block's chunk. There are *num_pairs pairs, or,
// where that is null, as many as the chunks were made for.
template <typename Work>
__device__ __forceinline__ void for_each_tile(const Chunks& chunks,
                                              const int64_t* num_pairs,
                                              const Work& work) {
  const int64_t count = num_pairs != nullptr ? __ldg(num_pairs) : chunks.pairs;
  int64_t left = count - chunks.begin();
  if (left > chunks.size) left = chunks.size;
  for (; left > 0; left -= kPairTile) {
    work(left < kPairTile ? static_cast<int>(left) : kPairTile);
  }
}

__device__ __forceinline__ int warp_of_thread() {
  return static_cast<int>(threadIdx.x) / kWarpSize;
}

// counts [chunks][digits]. Writes the documents of new pairs to `docs`.
template <typename Docs>
__global__ void __launch_bounds__(kPairThreads, kCountingBlocks)
    count_digits_kernel(const Docs source, const int64_t* num_pairs,
                        const Chunks chunks, const Digit digit, uint32_t* docs,
                        int64_t* counts) {
  __shared__ SharedElement<int> of_warp[kPairWarps][kMostDigits];
  DigitCounts own(of_warp[warp_of_thread()]);
  auto opened = source.opened(chunks.begin());
  uint32_t* to = docs + chunks.begin();
  for_each_tile(chunks, num_pairs, [&](int count) {
    uint32_t found[kPairItems];
    opened.load(count, found);
    opened.advance();
#pragma unroll
    for (int item = 0; item < kPairItems; ++item) {
      const int place = place_of_item(item);
      if (Docs::kAreNew && place < count) __stcg(to + place, found[item]);
      own.add(found[item] != kNoDoc, digit.of(found[item]));
    }
    to += kPairTile;
  });
  __syncthreads();
  const int mine = static_cast<int>(threadIdx.x);
  if (mine >= digit.count()) return;
  int64_t sum = 0;
  for (int warp = 0; warp < kPairWarps; ++warp) sum += of_warp[warp][mine];
  __stcg(counts + static_cast<int64_t>(blockIdx.x) * digit.count() + mine, sum);
}

// Each digit's counts become their exclusive prefix sums over the chunks.
__global__ void __launch_bounds__(kScanThreads)
    scan_counts_kernel(int64_t* counts, int num_chunks, int num_digits,
                       int64_t* totals) {
  __shared__ SharedElement<int64_t> of_warp[kScanThreads / kWarpSize][kScanDigits];
  const int column = static_cast<int>(threadIdx.x) % kScanDigits;
  const int part = static_cast<int>(threadIdx.x) / kScanDigits;
  const int digit = static_cast<int>(blockIdx.x) * kScanDigits + column;
  const int each = (num_chunks + kScanParts - 1) / kScanParts;
  const auto is_mine = [&](int item) {
    return digit < num_digits && item < each && part * each + item < num_chunks;
  };
  int64_t* mine = counts + static_cast<int64_t>(part) * each * num_digits + digit;
  int64_t found[kScanItems];
#pragma unroll
  for (int item = 0; item < kScanItems; ++item) {
    found[item] = is_mine(item) ? __ldcg(mine + item * num_digits) : 0;
  }
  int64_t own = 0;
#pragma unroll
  for (int item = 0; item < kScanItems; ++item) own += found[item];
  int64_t inclusive = own;
#pragma unroll
  for (int distance = kScanDigits; distance < kWarpSize; distance *= 2) {
    const int64_t other =
        __shfl_up_sync(kWholeWarp, static_cast<long long>(inclusive), distance);
    if (lane_of_thread() >= distance) inclusive += other;
  }
  const int warp = warp_of_thread();
  if (lane_of_thread() >= kWarpSize - kScanDigits) of_warp[warp][column] = inclusive;
  __syncthreads();
  int64_t before = inclusive - own, total = 0;
#pragma unroll
  for (int other = 0; other < kScanThreads / kWarpSize; ++other) {
    const int64_t sum = of_warp[other][column];
    if (other < warp) before += sum;
    total += sum;
  }
#pragma unroll
  for (int item = 0; item < kScanItems; ++item) {
    if (is_mine(item)) __stcg(mine + item * num_digits, before);
    before += found[item];
  }
  if (part == 0 && digit < num_digits) __stcg(totals + digit, total);
}

// The sum of the values of the threads in front, and of all.
template <typename Value>
struct SumBefore {
  Value before;
  Value total;
};

template <typename Value>
__device__ __forceinline__ SumBefore<Value> sum_before(Value value) {
  __shared__ SharedElement<Value> of_warp[kPairWarps];
  Value inclusive = value;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const Value other = __shfl_up_sync(kWholeWarp, inclusive, distance);
    if (lane_of_thread() >= distance) inclusive += other;
  }
  const int warp = warp_of_thread();
  if (lane_of_thread() == kWarpSize - 1) of_warp[warp] = inclusive;
  __syncthreads();
  SumBefore<Value> sums{inclusive - value, 0};
#pragma unroll
  for (int other = 0; other < kPairWarps; ++other) {
    const Value sum = of_warp[other];
    if (other < warp) sums.before += sum;
    sums.total += sum;
  }
  __syncthreads();  // the next call writes over what others may be reading
  return sums;
}

// A tile in the order of its digits.
struct OrderedTile {
  // Of each warp's pairs of each digit: their number, then the place of the first.
  SharedElement<int> (&of_warp)[kPairWarps][kMostDigits];
  SharedElement<int64_t> (&distance)[kMostDigits];  // from the tile to the result
  SharedElement<uint32_t> (&docs)[kPairTile];
  SharedElement<int32_t> (&rows)[kPairTile];

  // By the thread of a digit: makes places of the numbers. Returns how many of the
  // digit the tile has; its first one goes to `next` in the result. *total is of all
  // digits.
  __device__ __forceinline__ int find_places(int digit, int64_t next, int* total) {
    int count = 0;
#pragma unroll
    for (int warp = 0; warp < kPairWarps; ++warp) count += of_warp[warp][digit];
    const SumBefore<int> sums = sum_before(count);
    *total = sums.total;
    int place = sums.before;
#pragma unroll
    for (int warp = 0; warp < kPairWarps; ++warp) {
      const int of_this = of_warp[warp][digit];
      of_warp[warp][digit] = place;
      place += of_this;
    }
    distance[digit] = next - sums.before;
    return count;
  }

  template <typename OpenedRows>
  __device__ __forceinline__ void write_to(const Pairs& sorted, const Digit& digit,
                                           int total, const OpenedRows& opened) const {
#pragma unroll
    for (int item = 0; item < kPairItems; ++item) {
      const int place = item * kPairThreads + static_cast<int>(threadIdx.x);
      if (place >= total) continue;
      const uint32_t doc = docs[place];
      const int64_t to = distance[digit.of(doc)] + place;
      __stcg(sorted.docs + to, doc);
      __stcg(sorted.rows + to, opened.row_of(rows[place]));
    }
  }
};

// offsets [chunks][digits]: of a chunk's first pair of a digit behind the first of all.
// Writes to num_kept, if it is not null, how many pairs there are.
template <typename Rows>
__global__ void __launch_bounds__(kPairThreads, kMovingBlocks)
    move_pairs_kernel(const WrittenDocs docs, const Rows rows, const int64_t* num_pairs,
                      const Chunks chunks, const Digit digit, const int64_t* offsets,
                      const int64_t* totals, const Pairs sorted, int64_t* num_kept) {
  __shared__ SharedElement<int> of_warp[kPairWarps][kMostDigits];
  __shared__ SharedElement<int64_t> distance[kMostDigits];
  __shared__ SharedElement<uint32_t> docs_in_order[kPairTile];
  __shared__ SharedElement<int32_t> rows_in_order[kPairTile];
  OrderedTile tile{of_warp, distance, docs_in_order, rows_in_order};
  // Where the next pair of the thread's digit goes.
  const int mine = static_cast<int>(threadIdx.x);
  const int64_t of_chunk = static_cast<int64_t>(blockIdx.x) * digit.count() + mine;
  const bool has_digit = mine < digit.count();
  const int64_t total_of_mine = has_digit ? __ldg(totals + mine) : 0;
  int64_t next = has_digit ? __ldg(offsets + of_chunk) : 0;
  const SumBefore<long long> of_digits = sum_before<long long>(total_of_mine);
  next += of_digits.before;
  if (num_kept != nullptr && blockIdx.x == 0 && threadIdx.x == 0) {
    __stcg(num_kept, int64_t{of_digits.total});
  }
  auto opened_docs = docs.opened(chunks.begin());
  auto opened_rows = rows.opened(chunks.begin());
  for_each_tile(chunks, num_pairs, [&](int count) {
    uint32_t doc[kPairItems];
    int32_t row[kPairItems];
    opened_docs.load(count, doc);
    opened_rows.load(count, row);
    opened_docs.advance();
    DigitCounts own(of_warp[warp_of_thread()]);
    int met[kPairItems];
#pragma unroll
    for (int item = 0; item < kPairItems; ++item) {
      met[item] = own.add(doc[item] != kNoDoc, digit.of(doc[item]));
    }
    __syncthreads();
    int total;
    next += tile.find_places(mine, next, &total);
    __syncthreads();
#pragma unroll
    for (int item = 0; item < kPairItems; ++item) {
      if (doc[item] == kNoDoc) continue;
      const int place = of_warp[warp_of_thread()][digit.of(doc[item])] + met[item];
      docs_in_order[place] = doc[item];
      rows_in_order[place] = row[item];
    }
    __syncthreads();
    tile.write_to(sorted, digit, total, opened_rows);
    opened_rows.advance();
  });
}

// starts[j] is the first position whose document is j or above. Neighbours search along
// nearly the same way: for 50 pairs a document that is fewer sectors than the documents
// of all pairs have, and no thread waits for others where most documents have none.
__global__ void __launch_bounds__(kStartThreads)
    find_starts_kernel(const uint32_t* docs, const int64_t* num_pairs, int64_t num_docs,
                       int64_t* starts) {
  const int64_t doc = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (doc > num_docs) return;
  // The answer lies in between.
  int64_t below = 0, above = num_pairs != nullptr ? __ldg(num_pairs) : 0;
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
    counts_offset = take(kMostDigits * chunks.count * 8);
    totals_offset = take(kMostDigits * 8);
    num_kept_offset = take(8);
    starts_offset = take((params.num_candidates + 1) * 8);
  }

  int64_t docs_offset[2];
  int64_t rows_offset[2];
  int64_t counts_offset;
  int64_t totals_offset;
  int64_t num_kept_offset;
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
    totals = reinterpret_cast<int64_t*>(base + layout.totals_offset);
    num_kept = reinterpret_cast<int64_t*>(base + layout.num_kept_offset);
    starts = reinterpret_cast<int64_t*>(base + layout.starts_offset);
  }

  Pairs buffers[2];
  int64_t* counts;
  int64_t* totals;
  int64_t* num_kept;
  int64_t* starts;
};

struct Pass {
  Chunks chunks;
  Digit digit;
  TableScratch scratch;
  cudaStream_t stream;
};

// Of pairs from `docs` and `rows`, of which there are *num_pairs: the documents are in
// from.docs, or are written to it.
template <typename Docs, typename Rows>
cudaError_t launch_pass(const Pass& pass, const Docs& docs, const Rows& rows,
                        const int64_t* num_pairs, const Pairs& from,
                        const Pairs& sorted) {
  const int64_t blocks = pass.chunks.count;
  const int num_digits = pass.digit.count();
  const TableScratch& scratch = pass.scratch;
  cudaError_t error =
      launch(count_digits_kernel<Docs>, blocks, kPairThreads, pass.stream, docs,
             num_pairs, pass.chunks, pass.digit, from.docs, scratch.counts);
  if (error != cudaSuccess) return error;
  error = launch(scan_counts_kernel, round_up(num_digits, kScanDigits) / kScanDigits,
                 kScanThreads, pass.stream, scratch.counts, static_cast<int>(blocks),
                 num_digits, scratch.totals);
  if (error != cudaSuccess) return error;
  return launch(move_pairs_kernel<Rows>, blocks, kPairThreads, pass.stream,
                WrittenDocs(from.docs), rows, num_pairs, pass.chunks, pass.digit,
                scratch.counts, scratch.totals, sorted,
                Docs::kAreNew ? scratch.num_kept : nullptr);
}

cudaError_t launch_first_pass(const LossParams& params, const Pass& pass,
                              const Pairs& from, const Pairs& sorted) {
  const NewRows rows(params);
  return params.negative_indices != nullptr
             ? launch_pass(pass, TableDocs(params), rows, nullptr, from, sorted)
             : launch_pass(pass, DrawnDocs(params), rows, nullptr, from, sorted);
}

// Sorts into scratch.buffers[*sorted].
cudaError_t launch_sort(const LossParams& params, const Chunks& chunks,
                        const TableScratch& scratch, cudaStream_t stream, int* sorted) {
  const Digits digits(params.num_candidates);
  for (int number = 0; number < digits.count(); ++number) {
    const Pass pass{chunks, digits[number], scratch, stream};
    const Pairs& from = scratch.buffers[*sorted];
    const Pairs& to = scratch.buffers[1 - *sorted];
    const cudaError_t error =
        number == 0 ? launch_first_pass(params, pass, from, to)
                    : launch_pass(pass, WrittenDocs(from.docs), WrittenRows(from.rows),
                                  scratch.num_kept, from, to);
    if (error != cudaSuccess) return error;
    *sorted = 1 - *sorted;
  }
  return cudaSuccess;
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
  const int64_t* num_pairs = nullptr;
  if (chunks.pairs > 0) {
    const cudaError_t error = launch_sort(params, chunks, scratch, stream, &sorted);
    if (error != cudaSuccess) return error;
    num_pairs = scratch.num_kept;
  }
  rows_of_docs->starts = scratch.starts;
  rows_of_docs->rows = scratch.buffers[sorted].rows;
  return launch(find_starts_kernel, params.num_candidates / kStartThreads + 1,
                kStartThreads, stream,
                static_cast<const uint32_t*>(scratch.buffers[sorted].docs), num_pairs,
                params.num_candidates, scratch.starts);
}

}  // namespace cuda
}  // namespace negative_cosine
