// The choice of kernels: what the processor runs, capped by an environment variable.
#include <cstdlib>
#include <string>

#include "cpu/kernel_table.h"

namespace negative_cosine {
namespace {

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

const CpuKernels& cpu_kernels() {
  static const CpuKernels& chosen = []() -> const CpuKernels& {
    const char* cap = std::getenv("NEGATIVE_COSINE_MAX_ISA");
    return choose(cap == nullptr ? "" : cap);
  }();
  return chosen;
}

}  // namespace negative_cosine
