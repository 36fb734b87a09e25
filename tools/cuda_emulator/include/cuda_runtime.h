// CUDA for the host: g++ compiles the kernels' own sources against this folder.
//
// They then run on one processor, thread by thread, and each memory access, exchange
// between lanes and barrier is checked: what a GPU leaves undefined is a fault here. It
// tells what kernels compute and whether they are allowed to; it knows nothing of their
// speed, nor of the order in which a GPU's threads see each other's global memory.
#pragma once

#include "emulation/collectives.h"
#include "emulation/device_math.h"
#include "emulation/device_memory.h"
#include "emulation/qualifiers.h"
#include "emulation/runtime_api.h"
#include "emulation/shared_arrays.h"
#include "emulation/shared_element.h"
#include "emulation/vector_types.h"
