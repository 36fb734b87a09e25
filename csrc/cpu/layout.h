// Where a pass keeps its work in params.scratch.
//
// A Layout holds offsets, computed from the parameters alone; a Scratch holds the
// pointers that they give.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/candidates/inverted_table.h"
#include "cpu/rows/rows_of_query.h"

namespace negative_cosine::cpu {

struct ForwardScratch {
  uint32_t* keys;             // key_table_bytes()
  int32_t* ring;              // ring_bytes()
  void* query_inverse_norms;  // Real [B]
};

struct ForwardLayout {
  explicit ForwardLayout(const LossParams& params);
  ForwardScratch at(void* memory) const;

  int64_t keys;
  int64_t ring;
  int64_t query_inverse_norms;
  int64_t total;
};

struct GradientScratch {
  AnyRowsOfQuery rows_of_query;  // [B]
  uint32_t* keys;                // key_table_bytes()
  int32_t* ring;                 // ring_bytes()
  InvertedTable table;           // where needs_inverted_table()
};

struct GradientLayout {
  explicit GradientLayout(const LossParams& params);
  GradientScratch at(void* memory) const;

  int64_t saved_rows;
  int64_t row_coefficients;
  int64_t keys;
  int64_t ring;
  int64_t table_starts;
  int64_t table_rows;
  int64_t table_cursors;
  int64_t total;
};

}  // namespace negative_cosine::cpu
