// The result of every core call: success, or a message that a user can act on.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

namespace negative_cosine {

enum class StatusCode {
  kOk,
  kInvalidArgument,     // the caller's arguments are wrong
  kFailedPrecondition,  // this build or machine cannot do it
  kInternal,            // the device failed
  kResourceExhausted,   // there is no memory for it
};

class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(StatusCode::kOk, ""); }
  static Status InvalidArgument(std::string message) {
    return Status(StatusCode::kInvalidArgument, std::move(message));
  }
  static Status FailedPrecondition(std::string message) {
    return Status(StatusCode::kFailedPrecondition, std::move(message));
  }
  static Status Internal(std::string message) {
    return Status(StatusCode::kInternal, std::move(message));
  }
  static Status ResourceExhausted(std::string message) {
    return Status(StatusCode::kResourceExhausted, std::move(message));
  }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Status(StatusCode code, std::string message)
      : code_(code), message_(std::move(message)) {}

  StatusCode code_;
  std::string message_;
};

// What `work` returns, or what it throws: no exception may cross TensorFlow's frames or
// XLA's C interface.
template <typename Work>
Status without_exceptions(const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Status::ResourceExhausted(
        "negative_cosine could not allocate the work memory of a thread");
  } catch (const std::exception& error) {
    return Status::Internal(error.what());
  }
}

}  // namespace negative_cosine
