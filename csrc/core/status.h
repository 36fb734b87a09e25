// The result of every core call: success, or a message that a user can act on.
#pragma once

#include <string>
#include <utility>

namespace negative_cosine {

class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(); }
  static Status InvalidArgument(std::string message) {
    return Status(std::move(message));
  }

  bool ok() const { return message_.empty(); }
  const std::string& message() const { return message_; }

 private:
  Status() = default;
  explicit Status(std::string message) : message_(std::move(message)) {}

  std::string message_;
};

}  // namespace negative_cosine
