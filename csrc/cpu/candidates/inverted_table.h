// For each document the rows that drew it, sorted from the caller's table or from
// `shuffle`'s draws.
#pragma once

#include <cstdint>
#include <functional>

#include "core/parallel_for.h"
#include "core/params.h"
#include "core/sampler.h"
#include "cpu/candidates/key_table.h"
#include "cpu/candidates/rows_of_docs.h"

namespace negative_cosine::cpu {

struct InvertedTable {
  int64_t* starts;  // [C + 1]
  int32_t* rows;    // inverted_table_rows(params)
  void* cursors;    // inverted_table_cursor_bytes(params): work memory, aligned to 8
};

// How `shuffle` draws; not used for the caller's table.
struct Draws {
  SeedState seed;
  PermuteRange* permute_range;
};

// The pairs of the caller's table, or of `shuffle`'s draws up to a limit: where there
// are more, the documents are taken in several ranges.
int64_t inverted_table_rows(const LossParams& params);

// An eighth of the pairs' own memory at most, or four bytes a document.
int64_t inverted_table_cursor_bytes(const LossParams& params);

// Calls work(rows of the documents, first, last) for ranges of documents that make up
// all C. A document's rows come in the order of the caller's table, or of the draws'
// numbers k, as inverted permutations give them; dropped pairs are left out.
void for_each_inverted_range(
    const LossParams& params, const Draws& draws, const InvertedTable& table,
    const ParallelFor& parallel_for,
    const std::function<void(const RowsOfDocs&, int64_t first, int64_t last)>& work);

}  // namespace negative_cosine::cpu
