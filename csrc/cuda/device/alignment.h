// Whether a row's elements can be moved by packets: a fixed number of bytes at an
// address that is a multiple of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "core/params.h"

namespace negative_cosine {
namespace cuda {

// Whether rows are whole packets, in every one of the arrays.
inline bool has_whole_packets(const LossParams& params,
                              std::initializer_list<const void*> arrays,
                              int packet_bytes = 16) {
  const auto size = static_cast<uintptr_t>(packet_bytes);
  bool whole = params.dim * storage_size_of(params.data_type) % packet_bytes == 0;
  for (const void* array : arrays) {
    whole = whole && reinterpret_cast<uintptr_t>(array) % size == 0;
  }
  return whole;
}

// The widest pieces, of 16 bytes or less, by which rows can be moved in every one of
// the arrays, and as many elements of one more array, which is of the compute type.
inline int widest_piece(const LossParams& params,
                        std::initializer_list<const void*> arrays,
                        const void* computed) {
  const int64_t element = storage_size_of(params.data_type);
  int64_t bytes = 16;
  for (; bytes > element; bytes /= 2) {
    const int64_t piece = bytes / element * compute_size_of(params.data_type);
    const auto access = static_cast<uintptr_t>(std::min<int64_t>(piece, 16));
    if (has_whole_packets(params, arrays, static_cast<int>(bytes)) &&
        reinterpret_cast<uintptr_t>(computed) % access == 0) {
      break;
    }
  }
  return static_cast<int>(bytes);
}

// What the addresses and sizes of the rows of tiles have in common.
struct RowAlignment {
  int copied_bytes;    // 16, 8, 4 or less: of the two inputs
  bool whole_packets;  // of 16 bytes, in the outputs as well
};

// `others` are the outputs.
inline RowAlignment row_alignment(const LossParams& params,
                                  std::initializer_list<const void*> others) {
  int copied_bytes = 16;
  while (copied_bytes > storage_size_of(params.data_type) &&
         !has_whole_packets(params, {params.query, params.doc}, copied_bytes)) {
    copied_bytes /= 2;
  }
  return {copied_bytes, copied_bytes == 16 && has_whole_packets(params, others)};
}

}  // namespace cuda
}  // namespace negative_cosine
