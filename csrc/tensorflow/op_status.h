// The core's status as TensorFlow's.
#pragma once

#include "absl/status/status.h"
#include "core/status.h"

namespace negative_cosine {
namespace op_kernels {

inline absl::Status to_tensorflow(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return absl::OkStatus();
    case StatusCode::kInvalidArgument:
      return absl::InvalidArgumentError(status.message());
    case StatusCode::kFailedPrecondition:
      return absl::FailedPreconditionError(status.message());
    case StatusCode::kInternal:
      return absl::InternalError(status.message());
    case StatusCode::kResourceExhausted:
      return absl::ResourceExhaustedError(status.message());
  }
  return absl::UnknownError(status.message());
}

}  // namespace op_kernels
}  // namespace negative_cosine
