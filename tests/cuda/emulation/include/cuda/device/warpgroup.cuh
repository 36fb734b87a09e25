// The instructions of csrc/cuda/device/warpgroup.cuh as the emulator's functions, which
// check what each of them asks for.
#pragma once

#include "core/data_type.h"
#include "cuda/device/instructions.cuh"
#include "cuda/device/shared_arrays.cuh"
#include "emulation/warpgroups.h"

namespace negative_cosine {
namespace cuda {

using emulator::ArrivalBarrier;
using emulator::arrive;
using emulator::begin_products;
using emulator::commit_products;
using emulator::give_registers_back;
using emulator::set_up;
using emulator::shared_address_of;
using emulator::show_writes_to_products;
using emulator::synchronise;
using emulator::take_registers;
using emulator::wait_for_phase;

template <int kPending>
void wait_for_products() {
  static_assert(kPending >= 0);
  emulator::wait_for_products(kPending);
}

template <int kColumns>
using WarpgroupSums = float[kColumns / 8][4];

// Nothing moves what ordinary code writes here.
template <int kFragmentsOfSums>
void finish_writes(float (&)[kFragmentsOfSums][4]) {}

template <int kColumns, bool kAdds, typename Element>
void multiply_shared(uint64_t left, uint64_t right, Element,
                     WarpgroupSums<kColumns>& sums) {
  emulator::multiply_shared<kColumns>(left, right, kAdds, factor_of(Element{}), sums);
}

template <int kColumns, typename Element>
void multiply_registers(const uint32_t (&left)[4], uint64_t right, Element,
                        WarpgroupSums<kColumns>& sums) {
  emulator::multiply_registers<kColumns>(left, right, factor_of(Element{}), sums);
}

}  // namespace cuda
}  // namespace negative_cosine
