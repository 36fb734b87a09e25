#include "cpu/kernel_table.h"

#include "cpu/device/cpu_features.h"

namespace negative_cosine::cpu {
namespace {

const Kernels& kernels_for(InstructionSet instruction_set) {
#if defined(__x86_64__)
  if (instruction_set == InstructionSet::kAvx512) return avx512::kernels();
  if (instruction_set == InstructionSet::kAvx2) return avx2::kernels();
#else
  static_cast<void>(instruction_set);
#endif
  return portable::kernels();
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = kernels_for(widest_instruction_set());
  return chosen;
}

}  // namespace negative_cosine::cpu
