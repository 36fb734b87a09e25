// Makes handlers known to TensorFlow's own copy of XLA, while the library is opened.
#pragma once

#include "xla/ffi/api/c_api.h"

namespace negative_cosine {
namespace xla_calls {

// What XLA refuses is kept for negative_cosine_xla_problem(): an exception here would
// end the process that opens the library.
bool register_call(const char* target, const char* platform, XLA_FFI_Handler* handler,
                   XLA_FFI_Handler_Traits traits = 0);

}  // namespace xla_calls
}  // namespace negative_cosine
