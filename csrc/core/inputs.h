// A call's arguments as a binding holds them, checked and made LossParams.
//
// The TensorFlow op, the XLA kernel and the Python module describe their arrays here,
// so that each rule and its message exists once in C++. A binding that knows shapes
// alone, as XLA does while it compiles, leaves the data out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/export.h"
#include "core/params.h"
#include "core/status.h"

namespace negative_cosine {

using Shape = std::vector<int64_t>;

NEGATIVE_COSINE_API std::string to_string(const Shape& shape);

struct Input {
  Shape shape;
  const void* data = nullptr;
  IndexType index_type = IndexType::kInt32;  // of integers
};

struct LossInputs {
  Input query;
  Input doc;
  double negative_weight = 1;  // 0: "auto", what the sizes say
  std::optional<int64_t> num_negatives;
  std::optional<Input> seed;
  std::optional<Input> negative_indices;
  std::optional<Input> doc_ids;
  std::optional<Input> query_ids;
  std::optional<Input> doc_log_q;
  std::optional<Input> sample_weight;
};

// What the forward pass left for the gradient, and the loss's own gradient.
struct SavedInputs {
  Input loss_gradient;
  Input row_loss;
  Input saved_rows;
  Input doc_inverse_norm;
  Input row_scale_gradient;
  Input query_direction;  // may be left out: empty
};

// The inputs by name, for the bindings that read them one by one: in the op's order,
// which is that of an XLA call's operands too.
template <typename Inputs, typename Member>
struct NamedInput {
  const char* name;
  Member Inputs::* member;
};

constexpr NamedInput<LossInputs, std::optional<Input>> kOptionalInputs[] = {
    {"seed", &LossInputs::seed},
    {"negative_indices", &LossInputs::negative_indices},
    {"doc_ids", &LossInputs::doc_ids},
    {"query_ids", &LossInputs::query_ids},
    {"doc_log_q", &LossInputs::doc_log_q},
    {"sample_weight", &LossInputs::sample_weight}};

constexpr NamedInput<SavedInputs, Input> kSavedInputs[] = {
    {"loss_gradient", &SavedInputs::loss_gradient},
    {"row_loss", &SavedInputs::row_loss},
    {"saved_rows", &SavedInputs::saved_rows},
    {"doc_inverse_norm", &SavedInputs::doc_inverse_norm},
    {"row_scale_gradient", &SavedInputs::row_scale_gradient},
    {"query_direction", &SavedInputs::query_direction}};

// Writes the options that have names, or says which names there are.
NEGATIVE_COSINE_API Status set_options(const std::string& sampler,
                                       const std::string& normalize_over,
                                       const std::string& reduction,
                                       LossParams* params);

// Checks the inputs' shapes for `params`' sampler, and writes sizes and pointers, and
// the logarithm of the negatives' weight, which may follow from the sizes.
NEGATIVE_COSINE_API Status set_inputs(const LossInputs& inputs, LossParams* params);

// The same for the gradient; a query_direction that was left out is null.
NEGATIVE_COSINE_API Status set_saved_inputs(const SavedInputs& inputs,
                                            const LossParams& params,
                                            GradientArguments* arguments);

}  // namespace negative_cosine
