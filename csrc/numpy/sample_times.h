// How long work on a stream takes, by the device's own clock.
#pragma once

#include <string>
#include <vector>

#include "numpy/cuda_handles.h"

namespace negative_cosine {

// Milliseconds a step of each sample: `work` puts a step on the stream, `steps` times,
// after `before(sample)`, whose time does not count.
template <typename Before, typename Work>
std::vector<double> sample_milliseconds(cudaStream_t stream, int samples, int steps,
                                        const Before& before, const Work& work) {
  if (samples < 1 || steps < 1) {
    throw std::invalid_argument("samples and steps must be at least 1, got " +
                                std::to_string(samples) + " and " +
                                std::to_string(steps));
  }
  std::vector<Event> starts(static_cast<size_t>(samples)), ends(starts.size());
  for (size_t sample = 0; sample < starts.size(); ++sample) {
    before(static_cast<int>(sample));
    starts[sample].record(stream);
    for (int step = 0; step < steps; ++step) work();
    ends[sample].record(stream);
  }
  raise_unless_successful(cudaStreamSynchronize(stream), "running the steps");
  std::vector<double> times;
  for (size_t sample = 0; sample < starts.size(); ++sample) {
    times.push_back(ends[sample].milliseconds_since(starts[sample]) / steps);
  }
  return times;
}

}  // namespace negative_cosine
