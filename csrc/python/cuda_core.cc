#include "python/cuda_core.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <functional>

#include "python/device_memory.h"
#include "python/loss_arguments.h"

namespace negative_cosine {
namespace {

int64_t index_size(IndexType type) { return type == IndexType::kInt64 ? 8 : 4; }

// Every array of a run on the device, with the structs that point there.
class DeviceRun {
 public:
  // `embedding_offset` elements off an aligned address: rows that no packet fits.
  DeviceRun(const LossParams& host_params, const LossResults& results,
            int embedding_offset)
      : params(host_params), outputs(results.outputs), gradient(results.gradient) {
    require(embedding_offset >= 0, "embedding_offset must be at least 0, got " +
                                       std::to_string(embedding_offset));
    copy_params(embedding_offset);
    make_outputs();
    if (results.with_gradient()) make_gradients(embedding_offset);
    // One each, so that no pass reads what the other has left.
    forward_scratch_ = copies_.allocate(cuda::forward_scratch_bytes(params));
    if (results.with_gradient()) {
      gradient_scratch_ = copies_.allocate(cuda::gradient_scratch_bytes(params));
    }
  }

  void forward() {
    params.scratch = forward_scratch_;
    raise_unless_ok(cuda::forward(params, outputs, nullptr));
  }
  void run_gradient() {
    params.scratch = gradient_scratch_;
    raise_unless_ok(cuda::gradient(params, gradient, nullptr));
  }
  void copy_back() const { copies_.copy_back(); }

  LossParams params;
  ForwardOutputs outputs;
  GradientArguments gradient;

 private:
  void copy_params(int64_t embedding_offset) {
    const int64_t element = storage_size_of(params.data_type);
    const int64_t rows = params.batch_size, docs = params.num_candidates;
    const int64_t offset = embedding_offset * element;
    copies_.copy_in(&params.query, rows * params.dim * element, offset);
    copies_.copy_in(&params.doc, docs * params.dim * element, offset);
    copies_.copy_in(&params.logit_scale, real());
    copies_.copy_in(&params.seed, 2 * index_size(params.seed_type));
    copies_.copy_in(
        &params.negative_indices,
        rows * params.num_negatives * index_size(params.negative_indices_type));
    copies_.copy_in(&params.doc_ids, docs * index_size(params.doc_ids_type));
    copies_.copy_in(&params.query_ids, rows * index_size(params.query_ids_type));
    copies_.copy_in(&params.doc_log_q, docs * real());
    copies_.copy_in(&params.sample_weight, rows * real());
  }

  void make_outputs() {
    const int64_t rows = params.batch_size * real();
    copies_.make_result(&outputs.loss, loss_bytes());
    copies_.make_result(&outputs.row_loss, rows);
    copies_.make_result(&outputs.positive_cosine, rows);
    copies_.make_result(&outputs.row_facts, 4 * rows);
    copies_.make_result(&outputs.doc_inverse_norm, params.num_candidates * real());
    copies_.make_result(&outputs.row_scale_gradient, rows);
    copies_.make_result(&outputs.query_direction, rows * params.dim);
    copies_.make_result(&outputs.num_kept, params.batch_size * 4);
    copies_.make_result(&outputs.positive_rank, params.batch_size * 4);
  }

  void make_gradients(int64_t embedding_offset) {
    const int64_t row = params.dim * storage_size_of(params.data_type);
    const int64_t offset = embedding_offset * storage_size_of(params.data_type);
    gradient.row_facts = outputs.row_facts;
    gradient.doc_inverse_norm = outputs.doc_inverse_norm;
    gradient.row_scale_gradient = outputs.row_scale_gradient;
    gradient.query_direction = outputs.query_direction;
    copies_.copy_in(&gradient.loss_gradient, loss_bytes());
    copies_.make_result(&gradient.query_gradient, params.batch_size * row, offset);
    copies_.make_result(&gradient.doc_gradient, params.num_candidates * row, offset);
    copies_.make_result(&gradient.logit_scale_gradient, real());
    copies_.make_result(&gradient.sample_weight_gradient, params.batch_size * real());
  }

  int64_t real() const { return compute_size_of(params.data_type); }
  int64_t loss_bytes() const {
    return params.reduction == Reduction::kNone ? params.batch_size * real() : real();
  }

  DeviceCopies copies_;
  void* forward_scratch_ = nullptr;
  void* gradient_scratch_ = nullptr;
};

void run(LossParams params, const LossResults& results, int embedding_offset,
         bool allow_tf32, bool statistics) {
  params.allow_tf32 = allow_tf32;
  LossResults wanted = results;
  if (!statistics) wanted.leave_out_statistics();
  if (!wanted.with_gradient()) wanted.leave_out_direction();
  DeviceRun device(params, wanted, embedding_offset);
  device.forward();
  if (results.with_gradient()) device.run_gradient();
  raise_unless_successful(cudaStreamSynchronize(nullptr), "running the kernels");
  device.copy_back();
}

// Milliseconds of `work`, by the device's clock.
class Stopwatch {
 public:
  Stopwatch() {
    for (cudaEvent_t& event : events_) {
      raise_unless_successful(cudaEventCreate(&event), "creating an event");
    }
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }

  double milliseconds(const std::function<void()>& work) {
    float elapsed = 0;
    raise_unless_successful(cudaEventRecord(events_[0], nullptr), "recording an event");
    work();
    raise_unless_successful(cudaEventRecord(events_[1], nullptr), "recording an event");
    raise_unless_successful(cudaEventSynchronize(events_[1]), "running the kernels");
    raise_unless_successful(cudaEventElapsedTime(&elapsed, events_[0], events_[1]),
                            "reading the events");
    return elapsed;
  }

 private:
  cudaEvent_t events_[2];
};

// Milliseconds a step in each round, on inputs that stay on the device.
std::vector<double> time_passes(const py::array& query, const py::array& doc,
                                int64_t num_negatives, const py::array& seed,
                                bool training, int rounds, int steps) {
  require(rounds >= 1 && steps >= 1, "rounds and steps must be at least 1, got " +
                                         std::to_string(rounds) + " and " +
                                         std::to_string(steps));
  const LossArguments arguments(query, doc, 20.0, num_negatives, "shuffle", seed,
                                std::nullopt, true, std::nullopt, std::nullopt, 0.0,
                                std::nullopt, std::nullopt, "candidates", "mean");
  OptionalArray one;
  if (training)
    one = py::module_::import("numpy").attr("ones")(1, arguments.real_dtype());
  LossResults results(arguments, one);
  results.leave_out_statistics();
  if (!training) results.leave_out_direction();
  DeviceRun device(arguments.params, results, 0);
  const auto step = [&] {
    device.forward();
    if (training) device.run_gradient();
  };
  const auto round = [&] {
    for (int i = 0; i < steps; ++i) step();
  };
  Stopwatch stopwatch;
  stopwatch.milliseconds(round);  // warm-up
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i)
    times.push_back(stopwatch.milliseconds(round) / steps);
  return times;
}

// Bytes read and written a second by copies within the device; the best round.
double copy_bandwidth(int64_t num_bytes, int rounds) {
  require(num_bytes >= 1 && rounds >= 1, "num_bytes and rounds must be at least 1");
  const DeviceBuffer from(num_bytes), to(num_bytes);
  const auto size = static_cast<size_t>(num_bytes);
  raise_unless_successful(cudaMemset(from.get(), 0, size), "filling device memory");
  constexpr int kCopies = 20;
  const auto copy = [&] {
    for (int i = 0; i < kCopies; ++i) {
      raise_unless_successful(cudaMemcpyAsync(to.get(), from.get(), size,
                                              cudaMemcpyDeviceToDevice, nullptr),
                              "copying on the device");
    }
  };
  Stopwatch stopwatch;
  double best = stopwatch.milliseconds(copy);
  for (int i = 0; i < rounds; ++i) best = std::min(best, stopwatch.milliseconds(copy));
  return 2.0 * kCopies * static_cast<double>(num_bytes) / (1e-3 * best);
}

std::string cuda_version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

py::dict device_info() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    const cudaError_t error = cudaGetLastError();
    throw std::runtime_error(
        std::string("no CUDA device was found") +
        (error == cudaSuccess ? "" : std::string(": ") + cudaGetErrorString(error)));
  }
  int number = 0, driver = 0, runtime = 0;
  cudaDeviceProp properties;
  raise_unless_successful(cudaGetDevice(&number), "finding the device");
  raise_unless_successful(cudaGetDeviceProperties(&properties, number),
                          "reading the device's properties");
  raise_unless_successful(cudaDriverGetVersion(&driver),
                          "reading the driver's version");
  raise_unless_successful(cudaRuntimeGetVersion(&runtime),
                          "reading the runtime's version");
  py::dict info;
  info["name"] = properties.name;
  info["compute_capability"] =
      std::to_string(properties.major) + "." + std::to_string(properties.minor);
  info["multiprocessors"] = properties.multiProcessorCount;
  info["memory_bytes"] = properties.totalGlobalMem;
  info["l2_bytes"] = properties.l2CacheSize;
  info["driver_version"] = cuda_version(driver);
  info["runtime_version"] = cuda_version(runtime);
  return info;
}

}  // namespace

void define_cuda_core(py::module_& module) {
  using namespace pybind11::literals;
  define_negative_cosine_loss<int, bool, bool>(module, run, "embedding_offset"_a = 0,
                                               "allow_tf32"_a = false,
                                               "statistics"_a = true);
  module.def("device_info", device_info, "The device's name, size and versions.");
  module.def("copy_bandwidth", copy_bandwidth, "num_bytes"_a, "rounds"_a = 10,
             "Bytes a second, read plus written, of copies within the device.");
  module.def("time_passes", time_passes, "query"_a, "doc"_a, py::kw_only(),
             "num_negatives"_a, "seed"_a, "training"_a = true, "rounds"_a = 10,
             "steps"_a = 10, "Milliseconds a step in each round, by CUDA events.");
}

}  // namespace negative_cosine
