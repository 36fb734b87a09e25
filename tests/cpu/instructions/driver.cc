// Prints the instructions of one training step of each case named, or of all: a line
// "name count". `--about` prints the compiler and the instruction set instead,
// `--cases` the names.
#include <cmath>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "counter.h"
#include "cpu/kernel_table.h"
#include "training_step.h"

namespace negative_cosine {
namespace {

constexpr auto kFloat32 = DataType::kFloat32;

const StepCase kCases[] = {
    {"shuffle_float32", kFloat32, Sampler::kShuffle, false, 64, 64, 20, 128},
    {"shuffle_bfloat16", DataType::kBFloat16, Sampler::kShuffle, false, 64, 64, 20,
     128},
    {"shuffle_68_rows", kFloat32, Sampler::kShuffle, false, 68, 68, 20, 128},
    {"shuffle_512_docs", kFloat32, Sampler::kShuffle, false, 16, 512, 20, 64},
    {"indices_float32", kFloat32, Sampler::kShuffle, true, 64, 64, 20, 128},
    {"indices_512_docs", kFloat32, Sampler::kShuffle, true, 16, 512, 20, 64},
    {"ring_float32", kFloat32, Sampler::kRing, false, 64, 64, 50, 128},
    {"ring_512_docs", kFloat32, Sampler::kRing, false, 16, 512, 20, 64},
    {"all_float32", kFloat32, Sampler::kAll, false, 64, 64, 63, 128},
    {"all_512_docs", kFloat32, Sampler::kAll, false, 16, 512, 511, 64},
};

void print_about() {
#if defined(__clang__)
  std::printf("Clang %d", __clang_major__);
#else
  std::printf("GCC %d", __GNUC__);
#endif
  std::printf(" for %s\n", cpu::kernels().name);
}

void print_cases() {
  for (const StepCase& step_case : kCases) std::printf("%s\n", step_case.name.c_str());
}

void print_count(const StepCase& step_case) {
  TrainingStep step(step_case);
  step.run();  // the first call chooses the kernels and resolves symbols
  if (!std::isfinite(step.loss())) throw std::runtime_error("the loss is not finite");
  const int64_t count = count_instructions([&step] { step.run(); });
  std::printf("%s %lld\n", step_case.name.c_str(), static_cast<long long>(count));
}

bool is_named(const StepCase& step_case, int count, char** names) {
  for (int i = 0; i < count; ++i) {
    if (step_case.name == names[i]) return true;
  }
  return count == 0;
}

void print_counts(int count, char** names) {
  for (const StepCase& step_case : kCases) {
    if (is_named(step_case, count, names)) print_count(step_case);
  }
}

}  // namespace
}  // namespace negative_cosine

int main(int count, char** arguments) {
  using namespace negative_cosine;
  try {
    const std::string request = count == 2 ? arguments[1] : "";
    if (request == "--about") {
      print_about();
    } else if (request == "--cases") {
      print_cases();
    } else {
      print_counts(count - 1, arguments + 1);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
