// One thread's work memory, and the arrays of one block of candidates.
#pragma once

#include <cstdint>

#include "core/rules.h"
#include "cpu/candidates/candidates.h"
#include "cpu/kernel_table.h"
#include "cpu/rows/rows.h"

namespace negative_cosine {
namespace NEGATIVE_COSINE_ISA {

template <typename Real>
struct Workspace {
  Workspace(RowScratch scratch, const RowShape<Real>& shape, int64_t num_negatives)
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

template <typename Storage>
struct Block {
  using Real = ComputeType<Storage>;

  int count;               // of the arrays' elements that are in use
  const int32_t* indices;  // rows of the matrix
  const Storage* rows[kBlock];
  Real inverse_norms[kBlock];
  Real cosines[kBlock];
  Real logits[kBlock];   // relative to the positive's; -infinity where not in use
  Real weights[kBlock];  // 0 where not in use
};

// gathered[c] = values[indices[c]] for the elements in use.
template <typename Storage, typename Real>
NEGATIVE_COSINE_INLINE void gather(const Real* values, const Block<Storage>& block,
                                   Real* gathered) {
  for (int c = 0; c < block.count; ++c) gathered[c] = values[block.indices[c]];
}

// A matrix up to this size is found in the caches or near them without help.
constexpr int64_t kBytesInReach = int64_t{1} << 21;

// Whether the rows that are met need not be asked for ahead.
template <typename Storage>
NEGATIVE_COSINE_INLINE bool is_in_reach(const LossParams& params, int64_t rows) {
  return rows * params.dim * static_cast<int64_t>(sizeof(Storage)) <= kBytesInReach;
}

// The part of `list` that block number start / kBlock reads, or of `next` behind it.
NEGATIVE_COSINE_INLINE IndexList block_of(const IndexList& list, const IndexList& next,
                                          int64_t start) {
  const IndexList& from = start < list.count ? list : next;
  const int64_t offset = start < list.count ? start : 0;
  const int64_t rest = from.count - offset;
  return IndexList{from.indices + offset, rest < kBlock ? rest : kBlock};
}

// Makes `block` the rows of `matrix` in `list`; their inverse norms are the caller's to
// fill in.
template <typename Storage>
NEGATIVE_COSINE_INLINE void start_block(const RowShape<ComputeType<Storage>>& shape,
                                        const Storage* matrix, const IndexList& list,
                                        Block<Storage>* block) {
  block->count = static_cast<int>(list.count);
  block->indices = list.indices;
  for (int c = 0; c < block->count; ++c) {
    block->rows[c] = matrix + int64_t{list.indices[c]} * shape.dim;
  }
  for (int c = 0; c < kBlock; ++c) block->inverse_norms[c] = block->cosines[c] = 0;
}

// The block's cosines with `unit`, some at a time; beside them as many rows of the
// `upcoming` block are fetched.
template <typename Storage>
NEGATIVE_COSINE_INLINE void compute_cosines(const RowShape<ComputeType<Storage>>& shape,
                                            const ComputeType<Storage>* unit,
                                            const Storage* matrix,
                                            const IndexList& upcoming,
                                            Block<Storage>* block) {
  for (int c = 0; c < block->count; c += kRowsAtATime) {
    for (int ahead = c; ahead < c + kRowsAtATime && ahead < upcoming.count; ++ahead) {
      prefetch_row(shape, matrix + int64_t{upcoming.indices[ahead]} * shape.dim);
    }
    dot_products(shape, unit, block->rows + c, block->count - c, block->cosines + c);
  }
  for (int c = 0; c < kBlock; ++c) {
    block->cosines[c] = cosine_of(block->cosines[c], block->inverse_norms[c]);
  }
}

}  // namespace NEGATIVE_COSINE_ISA
}  // namespace negative_cosine
