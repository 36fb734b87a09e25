// Where the gradient pass finds the rows that drew a document.
#pragma once

#include <cstdint>

#include "cpu/candidates/key_table.h"

namespace negative_cosine::cpu {

// By inverting the permutations, or in an inverted table (candidates/inverted_table.h)
// of a range of documents.
struct RowsOfDocs {
  KeyTable keys;

  const int64_t* table_starts = nullptr;  // [C + 1]
  const int32_t* table_rows = nullptr;
  int64_t table_offset = 0;  // the start of the range's first document
};

}  // namespace negative_cosine::cpu
