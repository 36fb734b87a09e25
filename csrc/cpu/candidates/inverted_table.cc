// A counting sort of the table's pairs by document: count, prefix sums, place.
//
// The table's rows are divided into parts, each with a cursor for every document. A
// part's pairs of a document come after those of the parts before it. So the order is
// the table's, and no thread waits for another.
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

// Inverts a table of one index type, with cursors of one type.
template <typename Index, typename Cursor>
class Inversion {
 public:
  Inversion(const LossParams& params, const InvertedTable& table)
      : params_(params),
        indices_(static_cast<const Index*>(params.negative_indices)),
        table_(table),
        parts_(num_parts(params)),
        rows_of_a_part_((params.batch_size + parts_ - 1) / parts_) {}

  void run(const ParallelFor& parallel_for) const {
    for_each_part(parallel_for, [this](int64_t part) { count(part); });
    start_documents(parallel_for);
    start_cursors(parallel_for);
    for_each_part(parallel_for, [this](int64_t part) { place(part); });
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

  // Calls visit(row, document, position in the table) in the order of the table.
  template <typename Visit>
  void for_each_kept_pair(int64_t part, const Visit& visit) const {
    const int64_t end = std::min((part + 1) * rows_of_a_part_, params_.batch_size);
    for (int64_t row = part * rows_of_a_part_; row < end; ++row) {
      const int64_t start = row * params_.num_negatives;
      for (int64_t k = 0; k < params_.num_negatives; ++k) {
        const auto doc = static_cast<int64_t>(indices_[start + k]);
        if (!is_dropped(params_, row, doc)) visit(row, doc, start + k);
      }
    }
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
  void place(int64_t part) const {
    Cursor* cursors = cursors_of(part);
    const int64_t last = num_pairs(params_) - 1;
    for_each_kept_pair(part, [=](int64_t row, int64_t doc, int64_t position) {
      const Index ahead = indices_[std::min(position + kPairsAhead, last)];
      __builtin_prefetch(table_.rows + cursors[ahead], 1);
      table_.rows[cursors[doc]++] = static_cast<int32_t>(row);
    });
  }

  const LossParams& params_;
  const Index* const indices_;
  const InvertedTable table_;
  const int64_t parts_;
  const int64_t rows_of_a_part_;
};

template <typename Index>
void invert(const LossParams& params, const InvertedTable& table,
            const ParallelFor& parallel_for) {
  if (needs_wide_cursors(params)) {
    Inversion<Index, uint64_t>(params, table).run(parallel_for);
  } else {
    Inversion<Index, uint32_t>(params, table).run(parallel_for);
  }
}

}  // namespace

int64_t inverted_table_cursor_bytes(const LossParams& params) {
  const int64_t size = needs_wide_cursors(params) ? sizeof(uint64_t) : sizeof(uint32_t);
  return num_parts(params) * params.num_candidates * size;
}

void invert_table(const LossParams& params, const InvertedTable& table,
                  const ParallelFor& parallel_for) {
  if (params.negative_indices_type == IndexType::kInt64) {
    invert<int64_t>(params, table, parallel_for);
  } else {
    invert<int32_t>(params, table, parallel_for);
  }
}

}  // namespace negative_cosine::cpu
