// A counting sort of pairs of a row and a document, by document: count, prefix sums,
// place.
//
// The pairs come in items: rows of the caller's table, or permutations. The items are
// divided into parts, each with a cursor for every document. A part's pairs of a
// document come after those of the parts before it. So the order is the items', and no
// thread waits for another.
#include "cpu/candidates/inverted_table.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/rules.h"

namespace negative_cosine::cpu {
namespace {

constexpr int64_t kMostParts = 16;
constexpr int64_t kPairsOfACursor = 8;  // at least, for each document and part
constexpr int64_t kCyclesOfAPair = 10;
constexpr int64_t kPairsAhead = 16;
// Of `shuffle`'s draws that are sorted at a time: 64 MiB.
constexpr int64_t kMostDraws = int64_t{1} << 24;

int64_t num_pairs(const LossParams& params) {
  return params.batch_size * params.num_negatives;
}

int64_t num_parts(const LossParams& params) {
  const int64_t docs = std::max<int64_t>(params.num_candidates, 1);
  return std::clamp<int64_t>(num_pairs(params) / (kPairsOfACursor * docs), 1,
                             kMostParts);
}

// Cursors of four bytes stay in the cache where those of eight do not; they are
// wide enough for nearly every table.
bool needs_wide_cursors(const LossParams& params) {
  return num_pairs(params) > int64_t{std::numeric_limits<uint32_t>::max()};
}

// The caller's table: an item is a row.
template <typename Index>
class TablePairs {
 public:
  explicit TablePairs(const LossParams& params)
      : indices_(static_cast<const Index*>(params.negative_indices)),
        rows_(params.batch_size),
        width_(params.num_negatives) {}

  int64_t num_items() const { return rows_; }

  // Calls visit(row, document, document some pairs ahead) for the items begin..end-1.
  template <typename Visit>
  void for_each(int64_t begin, int64_t end, const Visit& visit) const {
    const int64_t last = rows_ * width_ - 1;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t at = row * width_; at < (row + 1) * width_; ++at) {
        const int64_t ahead = std::min(at + kPairsAhead, last);
        visit(row, int64_t{indices_[at]}, int64_t{indices_[ahead]});
      }
    }
  }

 private:
  const Index* const indices_;
  const int64_t rows_;
  const int64_t width_;
};

// The draws of `shuffle`: an item is a permutation. They are drawn anew each time, some
// rows after the other: to hash is cheaper than to keep.
class DrawnPairs {
 public:
  DrawnPairs(const LossParams& params, const Draws& draws)
      : shape_(feistel_shape(params.num_candidates)),
        draws_(draws),
        rows_(params.batch_size),
        count_(params.num_negatives) {}

  int64_t num_items() const { return count_; }

  template <typename Visit>
  void for_each(int64_t begin, int64_t end, const Visit& visit) const {
    constexpr int64_t kRows = 512;
    int32_t docs[kRows];
    for (int64_t k = begin; k < end; ++k) {
      const PermutationKeys keys(draws_.seed, static_cast<uint32_t>(k + 1));
      for (int64_t first = 0; first < rows_; first += kRows) {
        const int64_t count = std::min(kRows, rows_ - first);
        draws_.permute_range(shape_, keys, first, count, docs);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t ahead = std::min(i + kPairsAhead, count - 1);
          visit(first + i, int64_t{docs[i]}, int64_t{docs[ahead]});
        }
      }
    }
  }

 private:
  const FeistelShape shape_;
  const Draws draws_;
  const int64_t rows_;
  const int64_t count_;
};

// Sorts pairs with cursors of one type.
template <typename Pairs, typename Cursor>
class Inversion {
 public:
  Inversion(const LossParams& params, const Pairs& pairs, const InvertedTable& table)
      : params_(params),
        pairs_(pairs),
        table_(table),
        parts_(num_parts(params)),
        items_of_a_part_((pairs.num_items() + parts_ - 1) / parts_) {}

  void start(const ParallelFor& parallel_for) const {
    for_each_part(parallel_for, [this](int64_t part) { count(part); });
    start_documents(parallel_for);
    start_cursors(parallel_for);
  }

  // The end of the longest range of documents from `first` on whose pairs have room.
  int64_t range_end(int64_t first) const {
    const int64_t* starts = table_.starts;
    const int64_t most = starts[first] + inverted_table_rows(params_);
    const int64_t* end = starts + params_.num_candidates + 1;
    return std::upper_bound(starts + first, end, most) - starts - 1;
  }

  // Puts the pairs of the documents first..last-1 in order.
  void place_range(int64_t first, int64_t last, const ParallelFor& parallel_for) const {
    for_each_part(parallel_for,
                  [=](int64_t part) { place(part, first, last - first); });
  }

 private:
  Cursor* cursors_of(int64_t part) const {
    return static_cast<Cursor*>(table_.cursors) + part * params_.num_candidates;
  }

  template <typename Work>
  void for_each_part(const ParallelFor& parallel_for, const Work& work) const {
    const int64_t cost =
        params_.num_candidates + num_pairs(params_) / parts_ * kCyclesOfAPair;
    parallel_for(parts_, cost, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) work(part);
    });
  }

  // Calls visit(row, document, document ahead) in the order of the items.
  template <typename Visit>
  void for_each_kept_pair(int64_t part, const Visit& visit) const {
    const int64_t begin = std::min(part * items_of_a_part_, pairs_.num_items());
    const int64_t end = std::min(begin + items_of_a_part_, pairs_.num_items());
    pairs_.for_each(begin, end, [&](int64_t row, int64_t doc, int64_t ahead) {
      if (!is_dropped(params_, row, doc)) visit(row, doc, ahead);
    });
  }

  void count(int64_t part) const {
    Cursor* counts = cursors_of(part);
    std::fill_n(counts, params_.num_candidates, Cursor{0});
    for_each_kept_pair(part, [=](int64_t, int64_t doc, int64_t) { ++counts[doc]; });
  }

  void start_documents(const ParallelFor& parallel_for) const {
    int64_t* starts = table_.starts;
    parallel_for(params_.num_candidates, parts_, [=](int64_t begin, int64_t end) {
      std::fill(starts + begin + 1, starts + end + 1, 0);
      for (int64_t part = 0; part < parts_; ++part) {
        const Cursor* counts = cursors_of(part);
        for (int64_t doc = begin; doc < end; ++doc) starts[doc + 1] += counts[doc];
      }
    });
    starts[0] = 0;
    for (int64_t doc = 0; doc < params_.num_candidates; ++doc) {
      starts[doc + 1] += starts[doc];
    }
  }

  // Each part's count of a document becomes the place of the first pair that it
  // counted.
  void start_cursors(const ParallelFor& parallel_for) const {
    parallel_for(params_.num_candidates, 2 * parts_, [=](int64_t begin, int64_t end) {
      for (int64_t doc = begin; doc < end; ++doc) {
        auto next = static_cast<Cursor>(table_.starts[doc]);
        for (int64_t part = 0; part < parts_; ++part) {
          next += std::exchange(cursors_of(part)[doc], next);
        }
      }
    });
  }

  // The places are scattered over more memory than the cache holds, so each is asked
  // for some pairs ahead: near it, if one of the pairs between has its document.
  void place(int64_t part, int64_t first, int64_t count) const {
    Cursor* cursors = cursors_of(part) + first;
    int32_t* rows = table_.rows;
    const int64_t start = table_.starts[first];
    const auto is_inside = [=](int64_t number) {
      return static_cast<uint64_t>(number) < static_cast<uint64_t>(count);
    };
    for_each_kept_pair(part, [=](int64_t row, int64_t doc, int64_t ahead) {
      if (is_inside(ahead - first)) {
        __builtin_prefetch(rows + (cursors[ahead - first] - start), 1);
      }
      if (!is_inside(doc - first)) return;
      rows[cursors[doc - first]++ - start] = static_cast<int32_t>(row);
    });
  }

  const LossParams& params_;
  const Pairs& pairs_;
  const InvertedTable table_;
  const int64_t parts_;
  const int64_t items_of_a_part_;
};

using Work = std::function<void(const RowsOfDocs&, int64_t first, int64_t last)>;

template <typename Pairs, typename Cursor>
void invert_with(const LossParams& params, const Pairs& pairs,
                 const InvertedTable& table, const ParallelFor& parallel_for,
                 const Work& work) {
  const Inversion<Pairs, Cursor> inversion(params, pairs, table);
  inversion.start(parallel_for);
  for (int64_t first = 0, last = 0; first < params.num_candidates; first = last) {
    last = inversion.range_end(first);
    inversion.place_range(first, last, parallel_for);
    RowsOfDocs found;
    found.table_starts = table.starts;
    found.table_rows = table.rows;
    found.table_offset = table.starts[first];
    work(found, first, last);
  }
}

template <typename Pairs>
void invert(const LossParams& params, const Pairs& pairs, const InvertedTable& table,
            const ParallelFor& parallel_for, const Work& work) {
  if (needs_wide_cursors(params)) {
    invert_with<Pairs, uint64_t>(params, pairs, table, parallel_for, work);
  } else {
    invert_with<Pairs, uint32_t>(params, pairs, table, parallel_for, work);
  }
}

}  // namespace

int64_t inverted_table_cursor_bytes(const LossParams& params) {
  const int64_t size = needs_wide_cursors(params) ? sizeof(uint64_t) : sizeof(uint32_t);
  return num_parts(params) * params.num_candidates * size;
}

int64_t inverted_table_rows(const LossParams& params) {
  if (params.negative_indices != nullptr) return num_pairs(params);
  // No less than a document's rows: each permutation draws it once at most.
  return std::min(num_pairs(params), std::max(kMostDraws, params.num_negatives));
}

void for_each_inverted_range(const LossParams& params, const Draws& draws,
                             const InvertedTable& table,
                             const ParallelFor& parallel_for, const Work& work) {
  if (params.negative_indices == nullptr) {
    invert(params, DrawnPairs(params, draws), table, parallel_for, work);
  } else if (params.negative_indices_type == IndexType::kInt64) {
    invert(params, TablePairs<int64_t>(params), table, parallel_for, work);
  } else {
    invert(params, TablePairs<int32_t>(params), table, parallel_for, work);
  }
}

}  // namespace negative_cosine::cpu
