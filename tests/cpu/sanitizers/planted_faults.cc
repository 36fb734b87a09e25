#include "planted_faults.h"

#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "pass_memory.h"
#include "ways_to_run.h"

namespace negative_cosine {
namespace {

// Volatile, these and others: an optimised program would not commit the faults.
volatile int zero = 0;
volatile int sink = 0;

void read_behind() {
  const std::vector<int> values(4);
  sink = values.data()[4 + zero];
}

void use_after_free() {
  const int* volatile freed = nullptr;  // volatile: the compiler would see the fault
  {
    const std::vector<int> values(4);
    freed = values.data();
  }
  sink = *freed;
}

void overflow() { sink = std::numeric_limits<int>::max() + (zero + 1); }

void misaligned() {
  alignas(8) char bytes[16] = {};
  sink = *reinterpret_cast<const int*>(bytes + 1 + zero);
}

void lose_memory() {
  auto* lost = new std::vector<int>(100);
  sink = static_cast<int>(lost->size());
}

// What the printed number depends on is the allocator's, so two of its fill bytes show
// it.
void uninitialised() {
  const std::unique_ptr<unsigned char> value(new unsigned char);
  std::printf("%d\n", *value);
}

void race() {
  int count = 0;
  std::thread other([&count] { ++count; });
  ++count;
  other.join();
  sink = count;
}

// Two calls with the same outputs: the race is in the core.
void shared_outputs() {
  const PassInputs inputs(large_case(Source::kShuffle));
  PassOutputs outputs(inputs);
  const auto run = [&outputs] {
    if (!outputs.forward(at_once()).ok()) throw std::runtime_error("forward failed");
  };
  std::thread other(run);
  run();
  other.join();
}

const std::map<std::string, std::function<void()>> kFaults = {
    {"read-behind", read_behind},
    {"use-after-free", use_after_free},
    {"overflow", overflow},
    {"misaligned", misaligned},
    {"lose-memory", lose_memory},
    {"uninitialised", uninitialised},
    {"race", race},
    {"shared-outputs", shared_outputs},
};

template <typename Value>
const Value& find(const std::map<std::string, Value>& values, const std::string& name) {
  const auto found = values.find(name);
  if (found != values.end()) return found->second;
  std::string names;
  for (const auto& value : values) names += " " + value.first;
  throw std::invalid_argument("'" + name + "' is none of" + names);
}

}  // namespace

void commit(const std::string& fault) { find(kFaults, fault)(); }

void run_with_short_array(const std::string& array, const std::string& source) {
  const std::map<std::string, Source> sources = {{"shuffle", Source::kShuffle},
                                                 {"ring", Source::kRing},
                                                 {"all", Source::kAll},
                                                 {"indices", Source::kIndices64}};
  PassCase pass_case = large_case(find(sources, source));
  pass_case.batch_size = 48;  // every part of scratch is full to its last byte
  pass_case.num_candidates = 64;
  pass_case.num_negatives = pass_case.source == Source::kAll ? 63 : 48;
  Layout layout;
  layout.short_array = array;
  const PassInputs inputs(pass_case, layout);
  PassOutputs outputs(inputs, layout);
  if (!inputs.has_short_array() && !outputs.has_short_array()) {
    throw std::invalid_argument("no array has the name '" + array + "'");
  }
  if (!outputs.forward(at_once()).ok() || !outputs.gradient(at_once()).ok()) {
    throw std::runtime_error("the core refused the case");
  }
}

}  // namespace negative_cosine
