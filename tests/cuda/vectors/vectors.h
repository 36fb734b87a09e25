// What a device does by instructions of its own, each by name: host side.
//
// Every thread of a launch has operands and a result of fixed sizes. Whole warps run,
// so that instructions of a warp are called like all others.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

namespace vectors {

constexpr int kThreadsOfWarp = 32;
constexpr int kMostOperands = 3;

// Device addresses: thread t finds its own behind those of the t threads before.
struct Addresses {
  const void* operands[kMostOperands];
  void* result;
};

struct Instruction {
  const char* name;
  std::vector<int64_t> operand_bytes;  // of a thread, each
  int64_t result_bytes;                // of a thread
  cudaError_t (*launch)(const Addresses& addresses, int64_t warps);
};

const std::vector<Instruction>& instructions();

// A kernel that does nothing: what a launch by itself takes.
cudaError_t launch_nothing(cudaStream_t stream);

}  // namespace vectors
