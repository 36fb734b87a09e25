// CUDA's streams, events and graphs as objects that clean up after themselves.
#pragma once

#include <cuda_runtime.h>

#include "numpy/device_memory.h"

namespace negative_cosine {

// A stream that waits for no other.
class Stream {
 public:
  Stream() {
    raise_unless_successful(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                            "creating a stream");
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A moment on a stream.
class Event {
 public:
  Event() { raise_unless_successful(cudaEventCreate(&event_), "creating an event"); }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }

  void record(cudaStream_t stream) {
    raise_unless_successful(cudaEventRecord(event_, stream), "recording an event");
  }

  // Both have to have happened.
  double milliseconds_since(const Event& earlier) const {
    float elapsed = 0;
    raise_unless_successful(cudaEventElapsedTime(&elapsed, earlier.event_, event_),
                            "reading the events");
    return elapsed;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// Work that was recorded once, to be put on a stream again and again by one call.
class Graph {
 public:
  template <typename Work>
  Graph(cudaStream_t stream, const Work& work) {
    cudaGraph_t graph = nullptr;
    raise_unless_successful(
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
        "recording a graph");
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    raise_unless_successful(cudaStreamEndCapture(stream, &graph), "recording a graph");
    const cudaError_t error = cudaGraphInstantiateWithFlags(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    raise_unless_successful(error, "making a graph ready");
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { cudaGraphExecDestroy(graph_); }

  void launch(cudaStream_t stream) const {
    raise_unless_successful(cudaGraphLaunch(graph_, stream), "replaying a graph");
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace negative_cosine
