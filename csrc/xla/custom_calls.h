// The names that XLA's compiler and run time share: custom call targets, their operands
// and attributes.
#pragma once

namespace negative_cosine {
namespace xla_calls {

constexpr char kForward[] = "negative_cosine_forward";
constexpr char kGradient[] = "negative_cosine_gradient";

// Operands: query, doc, logit_scale, those of kOptionalInputs (core/inputs.h) that are
// there, and for the gradient kSavedInputs. Results: the op's outputs, and the pass's
// work memory. The margin and the negatives' weight, which have to be known on the
// host, and the op's options are attributes.
constexpr int kMarginInput = 3;  // of the op's inputs
constexpr int kNegativeWeightInput = 4;

}  // namespace xla_calls
}  // namespace negative_cosine
