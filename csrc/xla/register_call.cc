#include "xla/register_call.h"

#include <string>

#include "xla/ffi/api/ffi.h"

namespace xla {
namespace ffi {
const XLA_FFI_Api* GetXlaFfiApi();  // of libtensorflow_cc; its header is XLA's own
}  // namespace ffi
}  // namespace xla

namespace negative_cosine {
namespace xla_calls {
namespace {

std::string& problem() {
  static std::string text;
  return text;
}

}  // namespace

bool register_call(const char* target, const char* platform, XLA_FFI_Handler* handler,
                   XLA_FFI_Handler_Traits traits) {
  const XLA_FFI_Api* api = ::xla::ffi::GetXlaFfiApi();
  XLA_FFI_Error* error =
      ::xla::ffi::Ffi::RegisterStaticHandler(api, target, platform, handler, traits);
  if (error == nullptr) return true;
  problem() = std::string("XLA refuses ") + target + " for " + platform + ": " +
              ::xla::ffi::internal::GetErrorMessage(api, error);
  ::xla::ffi::internal::DestroyError(api, error);
  return false;
}

}  // namespace xla_calls
}  // namespace negative_cosine

// Why compiled functions cannot call the core, empty if they can.
extern "C" __attribute__((visibility("default"))) const char*
negative_cosine_xla_problem() {
  return negative_cosine::xla_calls::problem().c_str();
}
