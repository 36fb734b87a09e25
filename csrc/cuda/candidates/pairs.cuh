// Pairs of a row and a document as the sort of inverted_table.cu reads them: a tile of
// neighbours at a time, several a lane, whose loads are in flight together.
#pragma once

#include "core/rules.h"
#include "cuda/candidates/candidates.cuh"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

constexpr int kPairWarps = 8;  // of a block
constexpr int kPairItems = 8;  // of a lane
constexpr int kPairThreads = kPairWarps * kWarpSize;
constexpr int kPairTile = kPairThreads * kPairItems;

// The document in place of a pair that is dropped or does not exist.
constexpr uint32_t kNoDoc = 0xffffffffu;

// The place in its tile of the thread's item: a warp has 32 * kPairItems neighbours.
__device__ __forceinline__ int place_of_item(int item) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  return (warp * kPairItems + item) * kWarpSize + lane_of_thread();
}

// Positions in lines of B or K, which are less than 2^31.
class Lines {
 public:
  struct Position {
    uint32_t line;
    uint32_t place;  // in the line
  };

  explicit Lines(int64_t length)
      : length_(static_cast<uint32_t>(length)), factor_((1u << 31) / length_ + 1) {}

  __device__ __forceinline__ Position at(int64_t position) const {
    return {static_cast<uint32_t>(position / length_),
            static_cast<uint32_t>(position % length_)};
  }

  // Of what is `distance`, at most a tile, behind the position: without a division.
  __device__ __forceinline__ Position behind(const Position& start,
                                             int distance) const {
    const uint32_t place = start.place + static_cast<uint32_t>(distance);
    const uint32_t lines = lines_in(place);
    return {start.line + lines, place - lines * length_};
  }

 private:
  // place / length_, for less than a line and a tile. The factor exceeds 2^31 / length_
  // by at most one, so that the product exceeds the exact one by at most `place`, and
  // the next quotient is 2^31 / length_ away: in short lines both have 12 bits.
  __device__ __forceinline__ uint32_t lines_in(uint32_t place) const {
    if (length_ >= kPairTile) return place >= length_ ? 1 : 0;
    return static_cast<uint32_t>(uint64_t{place} * factor_ >> 31);
  }

  uint32_t length_;
  uint32_t factor_;
};

// Where a tile starts. Only the first tile of a block takes a 64-bit division.
class LineCursor {
 public:
  __device__ __forceinline__ LineCursor(const Lines& lines, int64_t begin)
      : lines_(lines), start_(lines.at(begin)) {}

  __device__ __forceinline__ Lines::Position behind(int distance) const {
    return lines_.behind(start_, distance);
  }
  __device__ __forceinline__ void advance() { start_ = behind(kPairTile); }

 private:
  const Lines& lines_;
  Lines::Position start_;
};

// --- The documents of a tile ---------------------------------------------------------

// Each source is opened where a block begins, and loads what the tile's `count` pairs
// have of it. Pairs are new where they come from no pass of the sort: then it is asked
// here which of them are dropped.

// The caller's own table, row by row.
class TableDocs {
 public:
  static constexpr bool kAreNew = true;
  explicit TableDocs(const LossParams& params)
      : params_(params), rows_(params.num_negatives) {}

  class Opened {
   public:
    __device__ Opened(const LossParams& params, const Lines& rows, int64_t begin)
        : params_(params), begin_(begin), rows_(rows, begin) {}

    __device__ __forceinline__ void advance() {
      begin_ += kPairTile;
      rows_.advance();
    }
    __device__ __forceinline__ void load(int count,
                                         uint32_t (&docs)[kPairItems]) const {
      if (params_.negative_indices_type == IndexType::kInt64) {
        load_from(static_cast<const int64_t*>(params_.negative_indices), count, docs);
      } else {
        load_from(static_cast<const int32_t*>(params_.negative_indices), count, docs);
      }
    }

   private:
    template <typename Index>
    __device__ __forceinline__ void load_from(const Index* table, int count,
                                              uint32_t (&docs)[kPairItems]) const {
      Index found[kPairItems];
#pragma unroll
      for (int item = 0; item < kPairItems; ++item) {
        const int place = place_of_item(item);
        found[item] = place < count ? load_value(table + begin_ + place) : Index{-1};
      }
#pragma unroll
      for (int item = 0; item < kPairItems; ++item) {
        const bool exists = found[item] >= 0 && found[item] < params_.num_candidates;
        const uint32_t row = rows_.behind(place_of_item(item)).line;
        const bool kept = exists && !is_dropped(params_, row, found[item]);
        docs[item] = kept ? static_cast<uint32_t>(found[item]) : kNoDoc;
      }
    }

    const LossParams& params_;
    int64_t begin_;
    LineCursor rows_;
  };
  __device__ Opened opened(int64_t begin) const {
    return Opened(params_, rows_, begin);
  }

 private:
  LossParams params_;
  Lines rows_;
};

// The draws of `shuffle`, one permutation after the other.
class DrawnDocs {
 public:
  static constexpr bool kAreNew = true;
  explicit DrawnDocs(const LossParams& params)
      : params_(params), draws_(params.batch_size) {}

  // With the seed, which is on the device.
  class Opened {
   public:
    __device__ Opened(const LossParams& params, const Lines& draws, int64_t begin)
        : params_(params), permutations_(params), draws_(draws, begin) {}

    __device__ __forceinline__ void advance() { draws_.advance(); }
    __device__ __forceinline__ void load(int count,
                                         uint32_t (&docs)[kPairItems]) const {
#pragma unroll
      for (int item = 0; item < kPairItems; ++item) {
        const int place = place_of_item(item);
        docs[item] = place < count ? doc_of(draws_.behind(place)) : kNoDoc;
      }
    }

   private:
    __device__ __forceinline__ uint32_t doc_of(Lines::Position draw) const {
      const uint32_t doc = permutations_[int64_t{draw.line} + 1].forward(draw.place);
      return is_dropped(params_, draw.place, doc) ? kNoDoc : doc;
    }

    const LossParams& params_;
    Permutations permutations_;
    LineCursor draws_;
  };
  __device__ Opened opened(int64_t begin) const {
    return Opened(params_, draws_, begin);
  }

 private:
  LossParams params_;
  Lines draws_;
};

// Of what a kernel wrote, the documents or the rows of pairs.
template <typename Value>
class WrittenValues {
 public:
  static constexpr bool kAreNew = false;
  explicit WrittenValues(const Value* values) : values_(values) {}

  class Opened {
   public:
    __device__ explicit Opened(const Value* from) : from_(from) {}

    __device__ __forceinline__ void advance() { from_ += kPairTile; }
    __device__ __forceinline__ void load(int count, Value (&values)[kPairItems]) const {
#pragma unroll
      for (int item = 0; item < kPairItems; ++item) {
        const int place = place_of_item(item);
        values[item] = place < count ? __ldg(from_ + place) : static_cast<Value>(-1);
      }
    }
    __device__ __forceinline__ Value row_of(Value row) const { return row; }

   private:
    const Value* from_;
  };
  __device__ Opened opened(int64_t begin) const { return Opened(values_ + begin); }

 private:
  const Value* values_;
};

using WrittenDocs = WrittenValues<uint32_t>;

// --- The rows of a tile --------------------------------------------------------------

// What is loaded of a pair goes through shared memory, and then tells its row.

using WrittenRows = WrittenValues<int32_t>;

// Those of new pairs, which follow from where a pair is: in a table of lines of K by
// the line, in the draws, lines of B, by the place.
class NewRows {
 public:
  explicit NewRows(const LossParams& params)
      : are_lines_(params.negative_indices != nullptr),
        lines_(are_lines_ ? params.num_negatives : params.batch_size) {}

  class Opened {
   public:
    __device__ Opened(bool are_lines, const Lines& lines, int64_t begin)
        : are_lines_(are_lines), cursor_(lines, begin) {}

    __device__ __forceinline__ void advance() { cursor_.advance(); }
    __device__ __forceinline__ void load(int, int32_t (&places)[kPairItems]) const {
#pragma unroll
      for (int item = 0; item < kPairItems; ++item) places[item] = place_of_item(item);
    }
    __device__ __forceinline__ int32_t row_of(int32_t place) const {
      const Lines::Position found = cursor_.behind(place);
      return static_cast<int32_t>(are_lines_ ? found.line : found.place);
    }

   private:
    bool are_lines_;
    LineCursor cursor_;
  };
  __device__ Opened opened(int64_t begin) const {
    return Opened(are_lines_, lines_, begin);
  }

 private:
  bool are_lines_;
  Lines lines_;
};

}  // namespace cuda
}  // namespace negative_cosine
