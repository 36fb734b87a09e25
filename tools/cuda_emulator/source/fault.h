// What ends a launch: a kernel did what a GPU does not define.
#pragma once

#include <string>

#include "cuda_runtime.h"

namespace emulator {

struct Fault {
  cudaError_t error;
  std::string message;
};

// What is seen of a thread after it has done it.
struct FaultOfThread {
  unsigned thread;  // its number in the block
  std::string message;
};

// Of the thread that runs; the message gains its block and index.
[[noreturn]] void raise_fault(cudaError_t error, const std::string& message);

std::string hexadecimal(unsigned long long value);

}  // namespace emulator
