// A step whose arrays stay on the device, to be run again and again, and timed.
#pragma once

#include <memory>
#include <vector>

#include "numpy/device_run.h"
#include "numpy/sample_times.h"

namespace negative_cosine {

// How steps are put on the device: launch by launch, or as a recorded graph.
enum class StepLaunch { kPlain, kGraph };

class PreparedStep {
 public:
  PreparedStep(const LossArguments& arguments, bool training, bool statistics,
               bool allow_tf32)
      : results_(arguments, training ? one(arguments) : std::nullopt) {
    if (!statistics) results_.leave_out_statistics();
    if (!training) results_.leave_out_direction();
    LossParams params = arguments.params;
    params.allow_tf32 = allow_tf32;
    run_ = std::make_unique<DeviceRun>(params, results_, 0, stream_.get());
    run_->launch();  // loads the kernels, which no recording may do
    run_->spoil_results();
  }

  // Puts some steps on the device, and waits for none.
  void launch(int count, const std::string& how) {
    const StepLaunch launch = launch_named(how);
    for (int i = 0; i < count; ++i) launch_once(launch);
  }

  void wait() const { run_->wait(); }

  // What the last step computed, by name: arrays of their own.
  py::dict results() const {
    run_->copy_back();
    py::dict copies;
    for (const auto& [name, array] : results_.arrays)
      copies[name] = array.attr("copy")();
    return copies;
  }

  // Results are from now on what the launches to come have written.
  void spoil_results() const { run_->spoil_results(); }

  // Milliseconds a step of each sample, by the device's clock. Before each sample
  // `flush_bytes` other bytes are written, to drive the inputs out of the caches.
  std::vector<double> milliseconds(int samples, int steps, const std::string& how,
                                   int64_t flush_bytes) {
    require(flush_bytes >= 0,
            "flush_bytes must be at least 0, got " + std::to_string(flush_bytes));
    const StepLaunch launch = launch_named(how);
    const DeviceBuffer other(flush_bytes);
    return sample_milliseconds(
        stream_.get(), samples, steps,
        [&](int sample) { flush(other, flush_bytes, sample); },
        [&] { launch_once(launch); });
  }

  int64_t bytes_beside_inputs() const { return run_->bytes_beside_inputs(); }

 private:
  static OptionalArray one(const LossArguments& arguments) {
    const bool reduced = arguments.params.reduction != Reduction::kNone;
    const int64_t count = reduced ? 1 : arguments.params.batch_size;
    return py::module_::import("numpy").attr("ones")(count, arguments.real_dtype());
  }

  static StepLaunch launch_named(const std::string& how) {
    require(how == "plain" || how == "graph",
            "how must be 'plain' or 'graph', got '" + how + "'");
    return how == "graph" ? StepLaunch::kGraph : StepLaunch::kPlain;
  }

  void launch_once(StepLaunch launch) {
    if (launch == StepLaunch::kPlain) return run_->launch();
    if (graph_ == nullptr) {
      graph_ = std::make_unique<Graph>(stream_.get(), [this] { run_->launch(); });
    }
    graph_->launch(stream_.get());
  }

  void flush(const DeviceBuffer& other, int64_t bytes, int byte) const {
    if (bytes == 0) return;
    raise_unless_successful(cudaMemsetAsync(other.get(), byte % 256,
                                            static_cast<size_t>(bytes), stream_.get()),
                            "writing to device memory");
  }

  Stream stream_;
  LossResults results_;
  std::unique_ptr<DeviceRun> run_;
  std::unique_ptr<Graph> graph_;
};

}  // namespace negative_cosine
