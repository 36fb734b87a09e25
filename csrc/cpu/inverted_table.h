// The caller's candidate table turned around: for each document, the rows that drew it.
#pragma once

#include <cstdint>

#include "core/params.h"

namespace negative_cosine {

// starts[j] .. starts[j + 1] - 1 are the positions in `rows` of document j's rows, in
// the order of the table; dropped pairs are left out. `starts` has C + 1 elements,
// `rows` B*K.
void invert_table(const LossParams& params, int64_t* starts, int32_t* rows);

}  // namespace negative_cosine
