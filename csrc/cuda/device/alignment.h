// Whether a row's elements can be moved by packets: a fixed number of bytes at an
// address that is a multiple of it.
#pragma once

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

}  // namespace cuda
}  // namespace negative_cosine
