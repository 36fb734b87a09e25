// The core on NumPy arrays, with no TensorFlow: for tests, and for a look inside.
#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>

#include "core/sampler.h"
#include "cpu/device/aligned_scratch.h"
#include "cpu/device/cpu_features.h"
#include "cpu/device/parallel_for.h"
#include "cpu/kernel_table.h"
#include "cpu/passes.h"
#include "numpy/loss_arguments.h"

namespace negative_cosine {
namespace {

// Fresh threads in place of a pool: enough for tests.
class FreshThreads {
 public:
  ~FreshThreads() {
    for (std::thread& thread : threads_) thread.join();
  }

  ParallelFor parallel_for(int num_threads) {
    return cpu::make_parallel_for(num_threads, [this](std::function<void()> closure) {
      threads_.emplace_back(std::move(closure));
    });
  }

 private:
  std::vector<std::thread> threads_;
};

void check_num_threads(int num_threads) {
  require(num_threads >= 1,
          "num_threads must be at least 1, got " + std::to_string(num_threads));
}

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

// Single points of the sampler's permutations, for tests of the bijection itself.
using Int32Array = py::array_t<int32_t, py::array::c_style>;
using Int64Array = py::array_t<int64_t, py::array::c_style>;

// One permutation of `shape`, or its inverse, on `count` values.
void permute_values(const FeistelShape& shape, const PermutationKeys& permutation,
                    bool inverse, const int32_t* values, int64_t count,
                    int32_t* permuted) {
  uint32_t round_keys[kMaxFeistelRounds];
  for (int round = 0; round < shape.rounds; ++round) {
    round_keys[round] = permutation(round);
  }
  const auto keys = [&](int round) { return round_keys[round]; };
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<uint32_t>(values[i]);
    permuted[i] = static_cast<int32_t>(inverse ? permute_back(shape, keys, value)
                                               : permute(shape, keys, value));
  }
}

py::array_t<int32_t> permute_each(const Int32Array& values, int64_t num_candidates,
                                  const Int64Array& seeds, const Int64Array& numbers,
                                  bool inverse) {
  require(num_candidates >= 1 && num_candidates <= std::numeric_limits<int32_t>::max(),
          "num_candidates must be at least 1 and at most 2147483647, got " +
              std::to_string(num_candidates));
  require(values.ndim() == 1, "values must have one dimension");
  require(seeds.ndim() == 2 && seeds.shape(1) == 2, "seeds must have the shape [S, 2]");
  require(numbers.ndim() == 1, "numbers must have one dimension");
  const int64_t count = values.size();
  for (int64_t i = 0; i < count; ++i) {
    const int32_t value = values.data()[i];
    require(value >= 0 && value < num_candidates,
            "values must be in [0, num_candidates), got " + std::to_string(value));
  }
  py::array_t<int32_t> table({seeds.shape(0), numbers.shape(0), values.shape(0)});
  int32_t* permuted = table.mutable_data();
  const FeistelShape shape = feistel_shape(num_candidates);
  for (int64_t s = 0; s < seeds.shape(0); ++s) {
    const SeedState state = seed_state(seeds.data()[2 * s], seeds.data()[2 * s + 1]);
    for (int64_t p = 0; p < numbers.shape(0); ++p, permuted += count) {
      const PermutationKeys keys(state, static_cast<uint32_t>(numbers.data()[p]));
      permute_values(shape, keys, inverse, values.data(), count, permuted);
    }
  }
  return table;
}

double read_rows(const py::array& matrix_array, const py::array& indices,
                 int num_threads) {
  check_num_threads(num_threads);
  require(matrix_array.ndim() == 2 && indices.ndim() == 1,
          "matrix must have two dimensions and indices one");
  require(dtype_name(matrix_array) == "float32" && dtype_name(indices) == "int32",
          "matrix must be float32 and indices int32");
  const auto* matrix =
      static_cast<const float*>(contiguous_data("matrix", matrix_array));
  const auto* rows = static_cast<const int32_t*>(contiguous_data("indices", indices));
  const int64_t dim = matrix_array.shape(1), count = indices.size();
  for (int64_t i = 0; i < count; ++i) {
    if (rows[i] >= 0 && rows[i] < matrix_array.shape(0)) continue;
    require(false, "indices must be rows of matrix, got " + std::to_string(rows[i]));
  }
  const py::gil_scoped_release without_gil;
  std::atomic<double> sum{0};
  const auto read = [&](int64_t begin, int64_t end) {
    const double part = cpu::kernels().sum_of_rows(matrix, dim, rows, begin, end);
    double before = sum.load();
    while (!sum.compare_exchange_weak(before, before + part)) {
    }
  };
  FreshThreads().parallel_for(num_threads)(count, dim, read);
  return sum;
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
      "permute", &negative_cosine::permute_each, "values"_a, "num_candidates"_a,
      "seeds"_a, "numbers"_a, "inverse"_a = false,
      "[S, P, n]: permutation numbers[p] of seeds[s], or its inverse, at each of "
      "the n values. Number k is `shuffle`'s k-th draw, 0 the ring's order.");
  module.def("read_rows", &negative_cosine::read_rows, "matrix"_a, "indices"_a,
             "num_threads"_a = 1,
             "The sum of all elements of matrix[indices]: what reading them takes.");
  module.def(
      "instruction_set", [] { return negative_cosine::cpu::kernels().name; },
      "The instruction set whose kernels run here: portable, avx2 or avx512.");
}
