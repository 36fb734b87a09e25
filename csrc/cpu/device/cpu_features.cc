#include "cpu/device/cpu_features.h"

#include <cstdlib>
#include <string>

namespace negative_cosine::cpu {
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

}  // namespace

InstructionSet widest_instruction_set() {
#if defined(__x86_64__)
  const std::string cap = cap_of_environment();
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") &&
                        __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl");
  if (has_avx512 && cap != "avx2" && cap != "portable") return InstructionSet::kAvx512;
  if (has_avx2 && cap != "portable") return InstructionSet::kAvx2;
#endif
  return InstructionSet::kPortable;
}

const Status& instruction_set_status() {
  static const Status status = check_cap(cap_of_environment());
  return status;
}

}  // namespace negative_cosine::cpu
