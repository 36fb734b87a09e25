// CUDA's keywords, as the C++ that stands for them on the host.
#pragma once

// libstdc++ spells an attribute `__noinline__` in this header, so it has to be read
// before the word becomes CUDA's macro. Kernels that include it later find it done.
#include <memory>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

// Blocks run one after another, so one copy of a block's shared memory is enough.
#define __shared__ static
