// What only tests and benchmarks call: single points of the sampler's permutations, the
// rows that drew each document, and the time that reading rows alone takes. No wheel
// has it.
#include <atomic>
#include <limits>
#include <vector>

#include "core/sampler.h"
#include "cpu/candidates/inverted_table.h"
#include "cpu/kernel_table.h"
#include "numpy/fresh_threads.h"
#include "numpy/loss_arguments.h"
#include "numpy/read_rows.h"

namespace negative_cosine {
namespace {

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

// Through the sort that the gradient pass takes where C is much larger than B.
py::tuple rows_that_drew(int64_t batch_size, int64_t num_candidates,
                         int64_t num_negatives, const Int64Array& seed,
                         int num_threads) {
  check_num_threads(num_threads);
  require(seed.size() == 2, "seed must have two numbers");
  LossParams params;
  params.batch_size = batch_size;
  params.num_candidates = num_candidates;
  params.num_negatives = num_negatives;
  params.mask_self = false;
  std::vector<int64_t> cursors(
      static_cast<size_t>(cpu::inverted_table_cursor_bytes(params)) / 8 + 1);
  std::vector<int32_t> range(static_cast<size_t>(cpu::inverted_table_rows(params)));
  py::array_t<int64_t> starts(num_candidates + 1);
  py::list ranges;
  FreshThreads threads;
  cpu::for_each_inverted_range(
      params,
      {seed_state(seed.data()[0], seed.data()[1]), cpu::kernels().permute_range},
      {starts.mutable_data(), range.data(), cursors.data()},
      threads.parallel_for(num_threads),
      [&](const cpu::RowsOfDocs& found, int64_t first, int64_t last) {
        ranges.append(py::array_t<int32_t>(
            found.table_starts[last] - found.table_starts[first], found.table_rows));
      });
  return py::make_tuple(starts, ranges);
}

cpu::SumOfRows& sum_of_rows() {
#if defined(__x86_64__)
  const std::string name = cpu::kernels().name;
  if (name == "avx512") return cpu::avx512::sum_of_rows;
  if (name == "avx2") return cpu::avx2::sum_of_rows;
#endif
  return cpu::portable::sum_of_rows;
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
  cpu::SumOfRows& sum = sum_of_rows();
  std::atomic<double> total{0};
  const auto read = [&](int64_t begin, int64_t end) {
    const double part = sum(matrix, dim, rows, begin, end);
    double before = total.load();
    while (!total.compare_exchange_weak(before, before + part)) {
    }
  };
  FreshThreads().parallel_for(num_threads)(count, dim, read);
  return total;
}

}  // namespace
}  // namespace negative_cosine

PYBIND11_MODULE(_probes, module) {
  using namespace pybind11::literals;
  module.doc() = "What only tests and benchmarks call of the negative_cosine core.";
  module.def(
      "permute", &negative_cosine::permute_each, "values"_a, "num_candidates"_a,
      "seeds"_a, "numbers"_a, "inverse"_a = false,
      "[S, P, n]: permutation numbers[p] of seeds[s], or its inverse, at each of "
      "the n values. Number k is `shuffle`'s k-th draw, 0 the ring's order.");
  module.def("rows_that_drew", &negative_cosine::rows_that_drew, "batch_size"_a,
             "num_candidates"_a, "num_negatives"_a, "seed"_a, "num_threads"_a = 1,
             "Where each document's rows start, [C + 1], and the rows of all documents "
             "by ranges: the draws of `shuffle`, sorted by document.");
  module.def("read_rows", &negative_cosine::read_rows, "matrix"_a, "indices"_a,
             "num_threads"_a = 1,
             "The sum of all elements of matrix[indices]: what reading them takes.");
}
