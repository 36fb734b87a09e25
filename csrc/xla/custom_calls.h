// The names that XLA's compiler and run time share: custom call targets and their
// attributes.
#pragma once

namespace negative_cosine {
namespace xla_calls {

constexpr char kForward[] = "negative_cosine_forward";
constexpr char kGradient[] = "negative_cosine_gradient";

// Operands: query, doc, logit_scale, those of `kOptionalInputs` that are there, and for
// the gradient kSavedInputs. Results: the op's outputs, and
// the pass's work memory. The margin, which has to be
// known on the host, and the op's options are attributes.
constexpr const char* kOptionalInputs[] = {
    "seed", "negative_indices", "doc_ids", "query_ids", "doc_log_q", "sample_weight"};
constexpr const char* kSavedInputs[] = {"loss_gradient", "row_facts",
                                        "doc_inverse_norm", "row_scale_gradient",
                                        "query_direction"};

constexpr int kMarginInput = 3;  // of the op's inputs

}  // namespace xla_calls
}  // namespace negative_cosine
