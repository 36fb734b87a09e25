// How quickly the device copies its own memory: what benchmarks compare a step with.
#pragma once

#include <cuda_runtime.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "numpy/cuda_handles.h"
#include "numpy/device_memory.h"
#include "numpy/sample_times.h"

namespace negative_cosine {

// NumPy's random bytes, repeated to fill the buffer: hardware may copy zeros faster.
inline void fill_with_random_bytes(const DeviceBuffer& buffer, int64_t num_bytes) {
  constexpr int64_t kDrawn = int64_t{1} << 24;
  const pybind11::object random =
      pybind11::module_::import("numpy").attr("random").attr("default_rng")(0);
  const std::string bytes =
      pybind11::cast<std::string>(random.attr("bytes")(std::min(num_bytes, kDrawn)));
  const auto drawn = static_cast<int64_t>(bytes.size());
  for (int64_t start = 0; start < num_bytes; start += drawn) {
    const auto size = static_cast<size_t>(std::min(drawn, num_bytes - start));
    raise_unless_successful(
        cudaMemcpy(buffer.get() + start, bytes.data(), size, cudaMemcpyHostToDevice),
        "filling device memory");
  }
}

// Bytes read and written a second by copies within the device; the best round.
inline double copy_bandwidth(int64_t num_bytes, int rounds) {
  const DeviceBuffer from(num_bytes), to(num_bytes);
  fill_with_random_bytes(from, num_bytes);
  raise_unless_successful(cudaDeviceSynchronize(), "filling device memory");
  constexpr int kCopies = 20;
  const Stream stream;
  const Graph copies(stream.get(), [&] {
    for (int copy = 0; copy < kCopies; ++copy) {
      raise_unless_successful(
          cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(num_bytes),
                          cudaMemcpyDeviceToDevice, stream.get()),
          "copying on the device");
    }
  });
  const int warm_up = 1;
  const std::vector<double> times = sample_milliseconds(
      stream.get(), warm_up + rounds, 1, [](int) {},
      [&] { copies.launch(stream.get()); });
  const double best = *std::min_element(times.begin() + warm_up, times.end());
  return 2.0 * kCopies * static_cast<double>(num_bytes) / (1e-3 * best);
}

}  // namespace negative_cosine
