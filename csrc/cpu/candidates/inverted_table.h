// The caller's candidate table, inverted: for each document, the rows that drew it.
#pragma once

#include <cstdint>

#include "core/parallel_for.h"
#include "core/params.h"

namespace negative_cosine::cpu {

struct InvertedTable {
  int64_t* starts;  // [C + 1]
  int32_t* rows;    // [B, K]
  void* cursors;    // inverted_table_cursor_bytes(params): work memory, aligned to 8
};

// An eighth of the table's own memory at most, or four bytes a document.
int64_t inverted_table_cursor_bytes(const LossParams& params);

// starts[j] .. starts[j + 1] - 1 become the positions in `rows` of document j's rows,
// in the order of the caller's table; dropped pairs are left out.
void invert_table(const LossParams& params, const InvertedTable& table,
                  const ParallelFor& parallel_for);

}  // namespace negative_cosine::cpu
