// The core's passes on NumPy arrays: what the Python modules of the CPU core and the
// CUDA core share. Arrays become the core's plain structs, checked.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/inputs.h"
#include "core/params.h"
#include "core/status.h"

namespace negative_cosine {

namespace py = pybind11;

using OptionalArray = std::optional<py::array>;

inline void raise_unless_ok(const Status& status) {
  if (status.ok()) return;
  if (status.code() == StatusCode::kInvalidArgument) {
    throw std::invalid_argument(status.message());
  }
  throw std::runtime_error(status.message());
}

inline Shape shape_of(const py::array& array) {
  return Shape(array.shape(), array.shape() + array.ndim());
}

inline std::string dtype_name(const py::array& array) {
  return py::str(array.dtype().attr("name"));
}

inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

inline const void* contiguous_data(const std::string& name, const py::array& array) {
  require(
      (array.flags() & py::array::c_style) != 0,
      name + " must be a C-contiguous array, got strides; use np.ascontiguousarray");
  require((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0,
          name + " must be aligned to its elements; use np.require");
  require(py::cast<bool>(array.dtype().attr("isnative")),
          name + " must have the processor's byte order; use np.astype");
  return array.data();
}

inline DataType data_type_of(const std::string& argument, const py::array& array) {
  const std::string name = dtype_name(array);
  if (name == "float16") return DataType::kFloat16;
  if (name == "bfloat16") return DataType::kBFloat16;
  if (name == "float32") return DataType::kFloat32;
  require(
      name == "float64",
      argument + " must be one of float16, bfloat16, float32, float64, got " + name);
  return DataType::kFloat64;
}

inline std::optional<Input> index_input(const std::string& name,
                                        const OptionalArray& array) {
  if (!array) return std::nullopt;
  const std::string dtype = dtype_name(*array);
  require(dtype == "int32" || dtype == "int64",
          name + " must be int32 or int64, got " + dtype);
  return Input{shape_of(*array), contiguous_data(name, *array),
               dtype == "int64" ? IndexType::kInt64 : IndexType::kInt32};
}

// NumPy arrays as LossParams, checked, and the memory that they point to.
class LossArguments {
 public:
  LossArguments(const py::array& query, const py::array& doc, double logit_scale,
                std::optional<int64_t> num_negatives, const std::string& sampler,
                const OptionalArray& seed, const OptionalArray& negative_indices,
                bool mask_self, const OptionalArray& doc_ids,
                const OptionalArray& query_ids, double margin, double negative_weight,
                const OptionalArray& doc_log_q, const OptionalArray& sample_weight,
                const std::string& normalize_over, const std::string& reduction)
      : embedding_dtype(query.dtype()) {
    params.data_type = data_type_of("query", query);
    require(data_type_of("doc", doc) == params.data_type,
            "doc must have query's dtype " + dtype_name(query) + ", got " +
                dtype_name(doc));
    params.mask_self = mask_self;
    params.margin = margin;
    raise_unless_ok(set_options(sampler, normalize_over, reduction, &params));

    LossInputs inputs;
    inputs.query = Input{shape_of(query), contiguous_data("query", query)};
    inputs.doc = Input{shape_of(doc), contiguous_data("doc", doc)};
    inputs.negative_weight = negative_weight;
    inputs.num_negatives = num_negatives;
    inputs.seed = index_input("seed", seed);
    inputs.negative_indices = index_input("negative_indices", negative_indices);
    inputs.doc_ids = index_input("doc_ids", doc_ids);
    inputs.query_ids = index_input("query_ids", query_ids);
    inputs.doc_log_q = real_input("doc_log_q", doc_log_q);
    inputs.sample_weight = real_input("sample_weight", sample_weight);
    raise_unless_ok(set_inputs(inputs, &params));

    logit_scale_64 = logit_scale;
    logit_scale_32 = static_cast<float>(logit_scale);
    params.logit_scale = is_double() ? static_cast<const void*>(&logit_scale_64)
                                     : static_cast<const void*>(&logit_scale_32);
  }

  LossArguments(const LossArguments&) = delete;
  LossArguments& operator=(const LossArguments&) = delete;

  bool is_double() const { return params.data_type == DataType::kFloat64; }

  py::dtype real_dtype() const {
    return py::dtype(is_double() ? "float64" : "float32");
  }

  py::array new_reals(std::vector<py::ssize_t> shape) const {
    return py::array(real_dtype(), std::move(shape));
  }

  LossParams params;
  py::dtype embedding_dtype;

 private:
  std::optional<Input> real_input(const std::string& name,
                                  const OptionalArray& array) const {
    if (!array) return std::nullopt;
    const std::string required = is_double() ? "float64" : "float32";
    require(dtype_name(*array) == required,
            name + " must be " + required + ", got " + dtype_name(*array));
    return Input{shape_of(*array), contiguous_data(name, *array)};
  }

  double logit_scale_64 = 0;
  float logit_scale_32 = 0;
};

// The arrays that a run fills, and the structs that point to them.
struct LossResults {
  LossResults(const LossArguments& arguments,
              const OptionalArray& loss_gradient_array) {
    const LossParams& params = arguments.params;
    const std::vector<py::ssize_t> rows = {params.batch_size};
    const bool reduced = params.reduction != Reduction::kNone;
    outputs.loss =
        add("loss", arguments.new_reals(reduced ? std::vector<py::ssize_t>{} : rows));
    outputs.row_loss = add("row_loss", arguments.new_reals(rows));
    outputs.positive_cosine = add("positive_cosine", arguments.new_reals(rows));
    outputs.saved_rows = add("saved_rows", arguments.new_reals({params.batch_size, 4}));
    outputs.doc_inverse_norm =
        add("doc_inverse_norm", arguments.new_reals({params.num_candidates}));
    outputs.row_scale_gradient = add("row_scale_gradient", arguments.new_reals(rows));
    outputs.query_direction =
        add("query_direction", arguments.new_reals({params.batch_size, params.dim}));
    outputs.num_kept =
        static_cast<int32_t*>(add("num_kept", py::array_t<int32_t>(rows)));
    outputs.positive_rank =
        static_cast<int32_t*>(add("positive_rank", py::array_t<int32_t>(rows)));
    if (loss_gradient_array) add_gradients(arguments, *loss_gradient_array);
  }

  bool with_gradient() const { return gradient.loss_gradient != nullptr; }

  // What a caller may not ask for.
  void leave_out_statistics() {
    outputs.num_kept = outputs.positive_rank = nullptr;
    arrays.attr("pop")("num_kept");
    arrays.attr("pop")("positive_rank");
  }
  void leave_out_direction() {
    outputs.query_direction = nullptr;
    arrays.attr("pop")("query_direction");
  }

  py::dict arrays;
  ForwardOutputs outputs;
  GradientArguments gradient;

 private:
  void* add(const char* name, py::array array) {
    arrays[name] = array;
    return array.mutable_data();
  }

  void add_gradients(const LossArguments& arguments, const py::array& loss_gradient) {
    const LossParams& params = arguments.params;
    const bool reduced = params.reduction != Reduction::kNone;
    require(loss_gradient.size() == (reduced ? 1 : params.batch_size),
            "loss_gradient must have the loss's shape");
    require(
        dtype_name(loss_gradient) == (arguments.is_double() ? "float64" : "float32"),
        "loss_gradient must have the loss's dtype, got " + dtype_name(loss_gradient));
    gradient.loss_gradient = contiguous_data("loss_gradient", loss_gradient);
    gradient.row_loss = outputs.row_loss;
    gradient.saved_rows = outputs.saved_rows;
    gradient.doc_inverse_norm = outputs.doc_inverse_norm;
    gradient.row_scale_gradient = outputs.row_scale_gradient;
    gradient.query_direction = outputs.query_direction;
    gradient.query_gradient =
        add("query_gradient",
            py::array(arguments.embedding_dtype, {params.batch_size, params.dim}));
    gradient.doc_gradient =
        add("doc_gradient",
            py::array(arguments.embedding_dtype, {params.num_candidates, params.dim}));
    gradient.logit_scale_gradient =
        add("logit_scale_gradient", arguments.new_reals({}));
    if (params.sample_weight != nullptr) {
      gradient.sample_weight_gradient =
          add("sample_weight_gradient", arguments.new_reals({params.batch_size}));
    }
  }
};

// Defines module.name(query, doc, **options): what body(arguments, values...) returns.
// `settings` are the function's own options, with values of the types `Values`. `Scope`
// is a module, or a class, of which this then defines the constructor.
template <typename... Values, typename Scope, typename Body, typename... Settings>
void define_with_loss_arguments(Scope& scope, const char* name, const char* description,
                                const Body& body, const Settings&... settings) {
  using namespace pybind11::literals;
  const auto call =
      [body](const py::array& query, const py::array& doc, double logit_scale,
             std::optional<int64_t> num_negatives, const std::string& sampler,
             const OptionalArray& seed, const OptionalArray& negative_indices,
             bool mask_self, const OptionalArray& doc_ids,
             const OptionalArray& query_ids, double margin, double negative_weight,
             const OptionalArray& doc_log_q, const OptionalArray& sample_weight,
             const std::string& normalize_over, const std::string& reduction,
             Values... values) {
        const LossArguments arguments(query, doc, logit_scale, num_negatives, sampler,
                                      seed, negative_indices, mask_self, doc_ids,
                                      query_ids, margin, negative_weight, doc_log_q,
                                      sample_weight, normalize_over, reduction);
        return body(arguments, values...);
      };
  scope.def(name, call, "query"_a, "doc"_a, py::kw_only(), "logit_scale"_a = 20.0,
            "num_negatives"_a = py::none(), "sampler"_a = "shuffle",
            "seed"_a = py::none(), "negative_indices"_a = py::none(),
            "mask_self"_a = true, "doc_ids"_a = py::none(), "query_ids"_a = py::none(),
            "margin"_a = 0.0, "negative_weight"_a = 1.0, "doc_log_q"_a = py::none(),
            "sample_weight"_a = py::none(), "normalize_over"_a = "candidates",
            "reduction"_a = "mean", settings..., description);
}

// Defines negative_cosine_loss(query, doc, **options): every output of the forward pass
// by its name in ForwardOutputs and, given loss_gradient, those of the gradient pass.
// `run(params, results, settings...)` runs the passes.
template <typename... Values, typename Run, typename... Settings>
void define_negative_cosine_loss(py::module_& module, const Run& run,
                                 const Settings&... settings) {
  using namespace pybind11::literals;
  const auto body = [run](const LossArguments& arguments,
                          const OptionalArray& loss_gradient, Values... values) {
    const LossResults results(arguments, loss_gradient);
    run(arguments.params, results, values...);
    return results.arrays;
  };
  define_with_loss_arguments<OptionalArray, Values...>(
      module, "negative_cosine_loss",
      "Forward outputs by name and, given loss_gradient, the gradients.", body,
      "loss_gradient"_a = py::none(), settings...);
}

}  // namespace negative_cosine
