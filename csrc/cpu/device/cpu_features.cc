// The choice of kernels: what the processor runs, capped by an environment variable.
#include <cstdlib>
#include <string>

#include "cpu/kernel_table.h"

namespace negative_cosine {
namespace {

std::string cap_of_environment() {
  const char* cap = std::getenv("NEGATIVE_COSINE_MAX_ISA");
  return cap == nullptr ? "" : cap;
}

Status check_cap(const std::string& cap) {
  for (const char* level : {"", "portable", "avx2", "avx512"}) {
    if (cap == level) return Status::Ok();
  }
  return Status::FailedPrecondition(
      "the environment variable NEGATIVE_COSINE_MAX_ISA must be 'portable', 'avx2', "
      "'avx512' or unset, got '" +
      cap + "': set it before the process starts");
}

const CpuKernels& choose(const std::string& cap) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") &&
                        __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl");
  if (has_avx512 && cap != "avx2" && cap != "portable") return avx512::kernels();
  if (has_avx2 && cap != "portable") return avx2::kernels();
#endif
  return portable::kernels();
}

}  // namespace

const Status& cpu_kernels_status() {
  static const Status status = check_cap(cap_of_environment());
  return status;
}

const CpuKernels& cpu_kernels() {
  static const CpuKernels& chosen = choose(cap_of_environment());
  return chosen;
}

}  // namespace negative_cosine
