// What the processor runs, capped by an environment variable.
#pragma once

#include "core/export.h"
#include "core/status.h"

namespace negative_cosine::cpu {

enum class InstructionSet { kPortable, kAvx2, kAvx512 };

// The widest that this processor runs, at most the level that the environment variable
// NEGATIVE_COSINE_MAX_ISA names (portable, avx2 or avx512).
InstructionSet widest_instruction_set();

// What is wrong with that variable; the passes refuse to run where anything is.
NEGATIVE_COSINE_API const Status& instruction_set_status();

}  // namespace negative_cosine::cpu
