// Where the gradient pass finds the rows that drew a document.
#pragma once

#include <cstdint>

#include "cpu/candidates/key_table.h"

namespace negative_cosine::cpu {

// By inverting the permutations, or in the inverted table of the caller's candidates
// (candidates/inverted_table.h).
struct RowsOfDocs {
  KeyTable keys;

  const int64_t* table_starts = nullptr;  // [C + 1]
  const int32_t* table_rows = nullptr;
};

}  // namespace negative_cosine::cpu
