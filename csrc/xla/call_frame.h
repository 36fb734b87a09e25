// What an XLA program hands to a custom call, as the core's plain structs. For any
// platform: buffers are the device's memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/inputs.h"
#include "core/params.h"
#include "core/status.h"
#include "xla/custom_calls.h"
#include "xla/ffi/api/ffi.h"

namespace negative_cosine {
namespace xla_calls {

namespace ffi = ::xla::ffi;

// The program was compiled by another version of this library, or by none.
inline Status malformed(const std::string& what) {
  return Status::Internal("a custom call of negative_cosine is malformed: " + what);
}

inline Shape shape_of(const ffi::AnyBuffer& buffer) {
  const auto sizes = buffer.dimensions();
  return Shape(sizes.begin(), sizes.end());
}

inline Input input_of(const ffi::AnyBuffer& buffer) {
  return Input{
      shape_of(buffer), buffer.untyped_data(),
      buffer.element_type() == ffi::S64 ? IndexType::kInt64 : IndexType::kInt32};
}

inline Status set_data_type(ffi::DataType type, LossParams* params) {
  switch (type) {
    case ffi::F16:
      params->data_type = DataType::kFloat16;
      return Status::Ok();
    case ffi::BF16:
      params->data_type = DataType::kBFloat16;
      return Status::Ok();
    case ffi::F32:
      params->data_type = DataType::kFloat32;
      return Status::Ok();
    case ffi::F64:
      params->data_type = DataType::kFloat64;
      return Status::Ok();
    default:
      return malformed("embeddings of another type");
  }
}

// The operands, one after the other.
class Operands {
 public:
  explicit Operands(ffi::RemainingArgs arguments) : arguments_(arguments) {}

  Status next(std::optional<ffi::AnyBuffer>* buffer) {
    const auto operand = arguments_.get<ffi::AnyBuffer>(position_++);
    if (!operand.has_value()) return malformed("too few operands");
    *buffer = operand.value();
    return Status::Ok();
  }

 private:
  ffi::RemainingArgs arguments_;
  size_t position_ = 0;
};

inline Status read_options(const ffi::Dictionary& attributes, LossParams* params) {
  const auto mask_self = attributes.get<bool>("mask_self");
  const auto margin = attributes.get<double>("margin");
  const auto sampler = attributes.get<std::string_view>("sampler");
  const auto normalize_over = attributes.get<std::string_view>("normalize_over");
  const auto reduction = attributes.get<std::string_view>("reduction");
  if (!mask_self.has_value() || !margin.has_value() || !sampler.has_value() ||
      !normalize_over.has_value() || !reduction.has_value()) {
    return malformed("an attribute is missing");
  }
  params->mask_self = mask_self.value();
  params->margin = margin.value();
  return set_options(std::string(sampler.value()), std::string(normalize_over.value()),
                     std::string(reduction.value()), params);
}

// The operands that both calls begin with, checked, as LossParams.
inline Status read_params(const ffi::Dictionary& attributes, Operands* operands,
                          LossParams* params) {
  if (Status status = read_options(attributes, params); !status.ok()) return status;
  const auto num_negatives = attributes.get<int64_t>("num_negatives");
  const auto negative_weight = attributes.get<double>("negative_weight");
  const auto given = attributes.get<ffi::Span<const int64_t>>("given");
  if (!num_negatives.has_value() || !negative_weight.has_value() ||
      !given.has_value() || given.value().size() != std::size(kOptionalInputs)) {
    return malformed("an attribute is missing");
  }
  LossInputs inputs;
  if (num_negatives.value() != 0) inputs.num_negatives = num_negatives.value();
  inputs.negative_weight = negative_weight.value();

  std::optional<ffi::AnyBuffer> buffer;
  if (Status status = operands->next(&buffer); !status.ok()) return status;
  inputs.query = input_of(*buffer);
  if (Status status = set_data_type(buffer->element_type(), params); !status.ok()) {
    return status;
  }
  if (Status status = operands->next(&buffer); !status.ok()) return status;
  inputs.doc = input_of(*buffer);
  if (Status status = operands->next(&buffer); !status.ok()) return status;
  params->logit_scale = buffer->untyped_data();
  for (size_t i = 0; i < std::size(kOptionalInputs); ++i) {
    if (given.value()[i] == 0) continue;
    if (Status status = operands->next(&buffer); !status.ok()) return status;
    inputs.*kOptionalInputs[i].member = input_of(*buffer);
  }
  return set_inputs(inputs, params);
}

// The results' memory, one after the other; null for an empty one.
class Results {
 public:
  explicit Results(ffi::RemainingRets results) : results_(results) {}

  Status next(void** data) {
    auto result = results_.get<ffi::AnyBuffer>(position_++);
    if (!result.has_value()) return malformed("too few results");
    const ffi::AnyBuffer& buffer = *result.value();
    *data = buffer.element_count() == 0 ? nullptr : buffer.untyped_data();
    return Status::Ok();
  }

 private:
  ffi::RemainingRets results_;
  size_t position_ = 0;
};

// What the passes work on besides the parameters, in the order of the ops' definitions;
// scratch is the last result.
inline Status read_arguments(Operands*, Results results, LossParams* params,
                             ForwardOutputs* outputs) {
  void* num_kept = nullptr;
  void* positive_rank = nullptr;
  for (void** data :
       {&outputs->loss, &outputs->row_loss, &outputs->positive_cosine,
        &outputs->saved_rows, &outputs->doc_inverse_norm, &outputs->row_scale_gradient,
        &outputs->query_direction, &num_kept, &positive_rank, &params->scratch}) {
    if (Status status = results.next(data); !status.ok()) return status;
  }
  outputs->num_kept = static_cast<int32_t*>(num_kept);
  outputs->positive_rank = static_cast<int32_t*>(positive_rank);
  return Status::Ok();
}

inline Status read_arguments(Operands* operands, Results results, LossParams* params,
                             GradientArguments* arguments) {
  SavedInputs inputs;
  for (const auto& saved : kSavedInputs) {
    std::optional<ffi::AnyBuffer> buffer;
    if (Status status = operands->next(&buffer); !status.ok()) return status;
    inputs.*saved.member = input_of(*buffer);
  }
  for (void** data : {&arguments->query_gradient, &arguments->doc_gradient,
                      &arguments->logit_scale_gradient,
                      &arguments->sample_weight_gradient, &params->scratch}) {
    if (Status status = results.next(data); !status.ok()) return status;
  }
  return set_saved_inputs(inputs, *params, arguments);
}

inline ffi::Error to_ffi(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return ffi::Error::Success();
    case StatusCode::kInvalidArgument:
      return ffi::Error::InvalidArgument(status.message());
    case StatusCode::kFailedPrecondition:
      return ffi::Error(ffi::ErrorCode::kFailedPrecondition, status.message());
    case StatusCode::kInternal:
      return ffi::Error::Internal(status.message());
    case StatusCode::kResourceExhausted:
      return ffi::Error(ffi::ErrorCode::kResourceExhausted, status.message());
  }
  return ffi::Error(ffi::ErrorCode::kUnknown, status.message());
}

// A call: reads its Arguments (ForwardOutputs or GradientArguments) and runs the
// device's pass(params, arguments), see host_calls.cc and cuda_calls.cc.
template <typename Arguments, typename Pass>
Status run_unguarded(ffi::RemainingArgs operands_given, ffi::RemainingRets results,
                     const ffi::Dictionary& attributes, const Pass& pass) {
  Operands operands(operands_given);
  LossParams params;
  if (Status status = read_params(attributes, &operands, &params); !status.ok()) {
    return status;
  }
  Arguments arguments;
  if (Status status = read_arguments(&operands, Results(results), &params, &arguments);
      !status.ok()) {
    return status;
  }
  return pass(params, arguments);
}

template <typename Arguments, typename Pass>
ffi::Error run(ffi::RemainingArgs operands, ffi::RemainingRets results,
               const ffi::Dictionary& attributes, const Pass& pass) {
  return to_ffi(without_exceptions(
      [&] { return run_unguarded<Arguments>(operands, results, attributes, pass); }));
}

}  // namespace xla_calls
}  // namespace negative_cosine
