// What the runtime knows of a kernel on the current device, asked for once: a call of
// the runtime takes as long as a small kernel. Any thread may call these. An error is
// not kept: the next call asks again.
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <optional>
#include <utility>

namespace negative_cosine {
namespace cuda {

class KernelFacts {
 public:
  cudaError_t find_attributes(const void* kernel, cudaFuncAttributes* attributes) {
    return with_facts(kernel, [&](Facts* facts) {
      if (!facts->attributes.has_value()) {
        const cudaError_t error = cudaFuncGetAttributes(attributes, kernel);
        if (error != cudaSuccess) return error;
        facts->attributes = *attributes;
      }
      *attributes = *facts->attributes;
      return cudaSuccess;
    });
  }

  // Under the lock, or a thread that asks for less could come last.
  cudaError_t allow_shared_memory(const void* kernel, int bytes) {
    return with_facts(kernel, [&](Facts* facts) {
      if (bytes <= facts->shared_bytes) return cudaSuccess;
      const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
      if (error == cudaSuccess) facts->shared_bytes = bytes;
      return error;
    });
  }

  void forget() {
    const std::lock_guard<std::mutex> lock(mutex_);
    facts_.clear();
  }

 private:
  struct Facts {
    std::optional<cudaFuncAttributes> attributes;
    int shared_bytes = 0;  // that launches may have, as far as this has asked for it
  };

  template <typename Work>
  cudaError_t with_facts(const void* kernel, const Work& work) {
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) {
      return error;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    return work(&facts_[{kernel, device}]);
  }

  std::mutex mutex_;
  std::map<std::pair<const void*, int>, Facts> facts_;
};

// Never destroyed: other threads may be launching when the process ends.
inline KernelFacts& kernel_facts() {
  static auto* facts = new KernelFacts;
  return *facts;
}

template <typename... Parameters>
cudaError_t find_attributes(void (*kernel)(Parameters...),
                            cudaFuncAttributes* attributes) {
  return kernel_facts().find_attributes(reinterpret_cast<const void*>(kernel),
                                        attributes);
}

// Lets launches of the kernel have so much shared memory.
template <typename... Parameters>
cudaError_t allow_shared_memory(void (*kernel)(Parameters...), int bytes) {
  return kernel_facts().allow_shared_memory(reinterpret_cast<const void*>(kernel),
                                            bytes);
}

// After this everything is asked again.
inline void forget_kernels() { kernel_facts().forget(); }

}  // namespace cuda
}  // namespace negative_cosine
