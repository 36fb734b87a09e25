// The core on NumPy arrays, with no TensorFlow: for tests, and for a look inside.
#include <algorithm>

#include "cpu/device/aligned_scratch.h"
#include "cpu/device/cpu_features.h"
#include "cpu/kernel_table.h"
#include "cpu/passes.h"
#include "numpy/fresh_threads.h"
#include "numpy/loss_arguments.h"

namespace negative_cosine {
namespace {

void run(LossParams params, const LossResults& results, int num_threads) {
  check_num_threads(num_threads);
  const cpu::AlignedScratch scratch(std::max(cpu::forward_scratch_bytes(params),
                                             cpu::gradient_scratch_bytes(params)));
  params.scratch = scratch.get();
  FreshThreads threads;
  const ParallelFor parallel_for = threads.parallel_for(num_threads);
  raise_unless_ok(cpu::forward(params, results.outputs, parallel_for));
  if (!results.with_gradient()) return;
  raise_unless_ok(cpu::gradient(params, results.gradient, parallel_for));
}

py::array_t<int32_t> sample_negatives(int64_t batch_size, int64_t num_candidates,
                                      int64_t num_negatives, int64_t seed_0,
                                      int64_t seed_1, const std::string& sampler) {
  require(batch_size >= 0, "batch_size must be at least 0");
  const int64_t seed[2] = {seed_0, seed_1};
  LossParams params;
  raise_unless_ok(set_options(sampler, "candidates", "mean", &params));
  LossInputs inputs;
  inputs.query.shape = {batch_size, 1};
  inputs.doc.shape = {num_candidates, 1};
  inputs.num_negatives = num_negatives;
  inputs.seed = Input{{2}, seed, IndexType::kInt64};
  raise_unless_ok(set_inputs(inputs, &params));
  const cpu::AlignedScratch scratch(cpu::forward_scratch_bytes(params));
  params.scratch = scratch.get();
  py::array_t<int32_t> table({batch_size, num_negatives});
  cpu::sample_negatives(params, table.mutable_data(), FreshThreads().parallel_for(1));
  return table;
}

}  // namespace
}  // namespace negative_cosine

PYBIND11_MODULE(_core, module) {
  using namespace pybind11::literals;
  module.doc() = "The negative_cosine core on NumPy arrays.";
  negative_cosine::raise_unless_ok(negative_cosine::cpu::instruction_set_status());
  negative_cosine::define_negative_cosine_loss<int>(module, negative_cosine::run,
                                                    "num_threads"_a = 1);
  module.def("sample_negatives", &negative_cosine::sample_negatives, "batch_size"_a,
             "num_candidates"_a, "num_negatives"_a, "seed_0"_a, "seed_1"_a,
             "sampler"_a = "shuffle",
             "The [batch_size, num_negatives] table that the sampler draws.");
  module.def(
      "instruction_set", [] { return negative_cosine::cpu::kernels().name; },
      "The instruction set whose kernels run here: portable, avx2 or avx512.");
}
