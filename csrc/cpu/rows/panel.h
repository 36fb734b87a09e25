// One thread's work memory, and the arrays of one panel of candidates.
#pragma once

#include <cstdint>

#include "core/rules.h"
#include "cpu/candidates/candidates.h"
#include "cpu/rows/rows.h"
#include "cpu/rows/scratch_size.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

template <typename Real>
struct Workspace {
  Workspace(ThreadScratch scratch, const RowShape<Real>& shape, int64_t num_negatives)
      : unit(static_cast<Real*>(scratch)),
        sums(unit + shape.padded()),
        zeros(sums + shape.padded()),
        lists{reinterpret_cast<int32_t*>(zeros + shape.padded()),
              lists[0] + round_up(num_negatives, 16)} {
    __builtin_memset(zeros, 0, sizeof(Real) * static_cast<size_t>(shape.padded()));
  }

  Real* const unit;   // the row of this iteration, normalised
  Real* const sums;   // the weighted sum of the rows it meets
  Real* const zeros;  // a row of zeros, of whatever type
  // Which rows those are, for this iteration and the next: the next one's are known
  // early enough to be fetched into the cache meanwhile.
  int32_t* const lists[2];
};

// Calls work(row, list, next_list) for each row, with list = make_list(row, buffer).
template <typename Real, typename MakeList, typename Work>
NEGATIVE_COSINE_INLINE void for_each_row_with_lists(const Workspace<Real>& workspace,
                                                    int64_t begin, int64_t end,
                                                    const MakeList& make_list,
                                                    const Work& work) {
  if (begin == end) return;
  IndexList list = make_list(begin, workspace.lists[0]);
  for (int64_t row = begin; row < end; ++row) {
    int32_t* next_buffer = workspace.lists[(row + 1 - begin) % 2];
    const IndexList next =
        row + 1 < end ? make_list(row + 1, next_buffer) : IndexList{nullptr, 0};
    work(row, list, next);
    list = next;
  }
}

template <typename Real>
NEGATIVE_COSINE_INLINE void clear_sums(const RowShape<Real>& shape,
                                       const Workspace<Real>& workspace) {
  __builtin_memset(workspace.sums, 0,
                   sizeof(Real) * static_cast<size_t>(shape.padded()));
}

// Some of the rows that a row meets, and what is computed of them.
template <typename Storage>
struct Panel {
  using Real = ComputeType<Storage>;

  int count;               // of the arrays' elements that are in use
  const int32_t* indices;  // rows of the matrix
  const Storage* rows[kPanelRows];
  Real inverse_norms[kPanelRows];
  Real cosines[kPanelRows];
  Real logits[kPanelRows];   // relative to the positive's; -infinity where not in use
  Real weights[kPanelRows];  // 0 where not in use
};

// gathered[c] = values[indices[c]] for the elements in use, 0 for the others of their
// last vector. By whole vectors, see kRowsAtATime.
template <typename Storage, typename Real>
NEGATIVE_COSINE_INLINE void gather(const Real* values, const Panel<Storage>& panel,
                                   Real* gathered) {
  int c = 0;
  for (; c + kLanes<Real> <= panel.count; c += kLanes<Real>) {
    Vector<Real> lanes;
    for (int lane = 0; lane < kLanes<Real>; ++lane) {
      lanes[lane] = values[panel.indices[c + lane]];
    }
    store(gathered + c, lanes);
  }
  if (c == panel.count) return;
  Vector<Real> lanes = {};
  for (int lane = 0; c + lane < panel.count; ++lane) {
    lanes[lane] = values[panel.indices[c + lane]];
  }
  store(gathered + c, lanes);
}

// A matrix up to this size is found in the caches or near them without help.
constexpr int64_t kBytesInReach = int64_t{1} << 21;

// Whether the rows that are met need not be asked for ahead.
template <typename Storage>
NEGATIVE_COSINE_INLINE bool is_in_reach(const LossParams& params, int64_t rows) {
  return rows * params.dim * static_cast<int64_t>(sizeof(Storage)) <= kBytesInReach;
}

// The part of `list` that panel number start / kPanelRows reads, or of `next` behind
// it.
NEGATIVE_COSINE_INLINE IndexList panel_of(const IndexList& list, const IndexList& next,
                                          int64_t start) {
  const IndexList& from = start < list.count ? list : next;
  const int64_t offset = start < list.count ? start : 0;
  const int64_t rest = from.count - offset;
  return IndexList{from.indices + offset, rest < kPanelRows ? rest : kPanelRows};
}

// Makes `panel` the rows of `matrix` in `list`; their inverse norms are the caller's to
// fill in.
template <typename Storage>
NEGATIVE_COSINE_INLINE void start_panel(const RowShape<ComputeType<Storage>>& shape,
                                        const Storage* matrix, const IndexList& list,
                                        Panel<Storage>* panel) {
  panel->count = static_cast<int>(list.count);
  panel->indices = list.indices;
  for (int c = 0; c < panel->count; ++c) {
    panel->rows[c] = matrix + int64_t{list.indices[c]} * shape.dim;
  }
  // Rows are multiplied by half of kRowsAtATime: behind the last one it is the last
  // one.
  constexpr int kHalf = kRowsAtATime<ComputeType<Storage>> / 2;
  for (int c = panel->count; c % kHalf != 0; ++c) panel->rows[c] = panel->rows[c - 1];
  for (int c = 0; c < kPanelRows; ++c) panel->inverse_norms[c] = panel->cosines[c] = 0;
}

// The rows of the next panel are asked for beside the work on this one, a few at each
// of `steps` steps: the memory is then never idle, nor asked for more than it has in
// flight.
template <typename Storage>
class RowsAhead {
 public:
  NEGATIVE_COSINE_INLINE_MEMBER RowsAhead(const Storage* matrix, const IndexList& rows,
                                          int steps)
      : matrix_(matrix), rows_(rows), rows_a_step_((rows.count + steps - 1) / steps) {}

  NEGATIVE_COSINE_INLINE_MEMBER void step(const RowShape<ComputeType<Storage>>& shape) {
    const int64_t end = next_ + rows_a_step_;
    for (; next_ < end && next_ < rows_.count; ++next_) {
      prefetch_row(shape, matrix_ + int64_t{rows_.indices[next_]} * shape.dim);
    }
  }

  // Whether any are left.
  NEGATIVE_COSINE_INLINE_MEMBER bool has_more() const { return next_ < rows_.count; }

 private:
  const Storage* matrix_;
  IndexList rows_;
  int64_t rows_a_step_;
  int64_t next_ = 0;
};

// The steps of a panel of `count` rows: its cosines, and its weighted sum where it
// `accumulates`.
template <typename Real>
NEGATIVE_COSINE_INLINE int steps_of_panel(int count, bool accumulates) {
  return (accumulates ? 2 : 1) *
         ((count + kRowsAtATime<Real> - 1) / kRowsAtATime<Real>);
}

// The panel's cosines with `unit`, some at a time.
template <typename Storage>
NEGATIVE_COSINE_INLINE void compute_cosines(const RowShape<ComputeType<Storage>>& shape,
                                            const ComputeType<Storage>* unit,
                                            RowsAhead<Storage>* ahead,
                                            Panel<Storage>* panel) {
  constexpr int kStep = kRowsAtATime<ComputeType<Storage>>;
  for (int c = 0; c < panel->count; c += kStep) {
    ahead->step(shape);
    const bool half = panel->count - c <= kStep / 2;
    dot_products(shape, unit, panel->rows + c, half, panel->cosines + c);
  }
  for (int c = 0; c < kPanelRows; ++c) {
    panel->cosines[c] = cosine_of(panel->cosines[c], panel->inverse_norms[c]);
  }
}

// Adds the panel's rows, weighted, to `sums`: some at a time where rows are asked for.
template <typename Storage>
NEGATIVE_COSINE_INLINE void add_panel(const RowShape<ComputeType<Storage>>& shape,
                                      const Panel<Storage>& panel,
                                      RowsAhead<Storage>* ahead,
                                      ComputeType<Storage>* sums) {
  constexpr int kStep = kRowsAtATime<ComputeType<Storage>>;
  int c = 0;
  for (; ahead->has_more() && c + kStep <= panel.count; c += kStep) {
    ahead->step(shape);
    add_weighted_rows(shape, panel.rows + c, panel.weights + c, kStep, sums);
  }
  ahead->step(shape);
  add_weighted_rows(shape, panel.rows + c, panel.weights + c, panel.count - c, sums);
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
