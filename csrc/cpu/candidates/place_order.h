// The documents on a ring, where a row's candidates lie side by side.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "core/portability.h"

namespace negative_cosine::cpu {

// The candidates of the row at place x are at the K places behind it, and the rows that
// drew the document there at the K places before it. The place behind the last one is
// the first again.
struct PlaceOrder {
  int64_t num_candidates;
  const int32_t* ring;  // [C], or null: the documents in their own order

  NEGATIVE_COSINE_INLINE_MEMBER int64_t index_at(int64_t place) const {
    while (place >= num_candidates) place -= num_candidates;
    return ring != nullptr ? ring[place] : place;
  }
};

// The number of places, from the first on, that hold all query rows.
NEGATIVE_COSINE_INLINE int64_t num_query_places(const LossParams& params,
                                                const PlaceOrder& order) {
  return order.ring != nullptr ? params.num_candidates : params.batch_size;
}

}  // namespace negative_cosine::cpu
