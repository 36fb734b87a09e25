// Device memory for host arrays: each gets a copy on the device, and results come back.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace negative_cosine {

inline void raise_unless_successful(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  const std::string message =
      what + " failed: " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error);
  cudaGetLastError();  // so that the next call does not report it again
  throw std::runtime_error(message);
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t bytes) {
    raise_unless_successful(
        cudaMalloc(&address_, static_cast<size_t>(bytes > 0 ? bytes : 1)),
        "allocating " + std::to_string(bytes) + " bytes of device memory");
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)) {}
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { cudaFree(address_); }

  char* get() const { return static_cast<char*>(address_); }

 private:
  void* address_ = nullptr;
};

// Null stays null: an absent option.
class DeviceCopies {
 public:
  // A copy of `bytes` bytes, `offset` bytes off the start of its memory.
  template <typename Pointer>
  void copy_in(Pointer* pointer, int64_t bytes, int64_t offset = 0) {
    if (*pointer == nullptr) return;
    const void* host = *pointer;
    char* device = allocate(bytes, offset);
    raise_unless_successful(
        cudaMemcpy(device, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice),
        "copying to the device");
    *pointer = reinterpret_cast<Pointer>(device);
  }

  // Memory for a result that copy_back brings to where the pointer points now.
  template <typename Pointer>
  void make_result(Pointer* pointer, int64_t bytes, int64_t offset = 0) {
    if (*pointer == nullptr) return;
    char* device = allocate(bytes, offset);
    results_.push_back({*pointer, device, bytes});
    *pointer = reinterpret_cast<Pointer>(device);
  }

  void copy_back() const {
    for (const Result& result : results_) {
      raise_unless_successful(
          cudaMemcpy(result.host, result.device, static_cast<size_t>(result.bytes),
                     cudaMemcpyDeviceToHost),
          "copying from the device");
    }
  }

  char* allocate(int64_t bytes, int64_t offset = 0) {
    buffers_.emplace_back(bytes + offset);
    allocated_bytes_ += bytes + offset;
    return buffers_.back().get() + offset;
  }

  int64_t allocated_bytes() const { return allocated_bytes_; }

  // Bytes of ones where results go: NaN, or numbers that no result has.
  void spoil_results() const {
    for (const Result& result : results_) {
      raise_unless_successful(
          cudaMemset(result.device, 0xff, static_cast<size_t>(result.bytes)),
          "writing to device memory");
    }
  }

 private:
  struct Result {
    void* host;
    char* device;
    int64_t bytes;
  };
  std::vector<DeviceBuffer> buffers_;
  std::vector<Result> results_;
  int64_t allocated_bytes_ = 0;
};

}  // namespace negative_cosine
