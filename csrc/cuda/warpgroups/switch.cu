#include <atomic>
#include <cstdlib>
#include <string>

#include "cuda/warpgroups/switch.h"

namespace negative_cosine {
namespace cuda {
namespace {

enum class Switch { kUnread, kOff, kOn, kWrong };
std::atomic<Switch> switch_of_process{Switch::kUnread};

std::string value_of_environment() {
  const char* value = std::getenv("NEGATIVE_COSINE_WARPGROUPS");
  return value == nullptr ? "" : value;
}

Switch read_switch() {
  const std::string value = value_of_environment();
  if (value == "1") return Switch::kOn;
  return value.empty() || value == "0" ? Switch::kOff : Switch::kWrong;
}

}  // namespace

Status find_warpgroups_switch(bool* on) {
  Switch found = switch_of_process.load();
  if (found == Switch::kUnread) switch_of_process = found = read_switch();
  *on = found == Switch::kOn;
  if (found != Switch::kWrong) return Status::Ok();
  return Status::FailedPrecondition(
      "the environment variable NEGATIVE_COSINE_WARPGROUPS must be '0', '1' or unset, "
      "got '" +
      value_of_environment() + "': set it before the process starts");
}

void forget_warpgroups_switch() { switch_of_process = Switch::kUnread; }

}  // namespace cuda
}  // namespace negative_cosine
