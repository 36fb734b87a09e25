// Instructions of Hopper (compiled for sm_90a) that CUDA C++ has no word for, as
// functions that check what each of them asks for: barriers that count arrivals, and
// products of matrices by the four warps of a warpgroup.
//
// All of it has to be in shared memory of SharedArrays, see tiles.h.
#pragma once

#include <cstdint>

#include "emulation/shared_element.h"
#include "emulation/tiles.h"

namespace emulator {

// --- Barriers that count arrivals, see source/arrival_barriers.cc ------------------

using ArrivalBarrier = SharedElement<uint64_t>;

void set_up(ArrivalBarrier* barrier, int arrivals);             // mbarrier.init
void arrive(ArrivalBarrier* barrier);                           // mbarrier.arrive
void wait_for_phase(ArrivalBarrier* barrier, uint32_t parity);  // mbarrier.try_wait

// bar.sync, see source/named_barriers.cc.
void synchronise(int barrier, int threads);

// --- Registers, setmaxnreg, see source/registers.cc --------------------------------

void ask_for_registers(int count, bool more);

template <int kCount>
void give_registers_back() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
  ask_for_registers(kCount, false);
}
template <int kCount>
void take_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256);
  ask_for_registers(kCount, true);
}

// --- Products, see source/warpgroups.cc --------------------------------------------

uint32_t place_in_shared_memory(const void* element, int bytes);

template <typename Element>
uint32_t shared_address_of(const SharedElement<Element>* element) {
  return place_in_shared_memory(element, static_cast<int>(sizeof(Element)));
}

void show_writes_to_products();  // fence.proxy.async
void begin_products();           // wgmma.fence
void commit_products();          // wgmma.commit_group

// wgmma.wait_group.
void wait_for_products(int pending);

struct ProductOfWarpgroup {
  uint64_t left_matrix;  // a descriptor, where the left factor is in shared memory
  uint64_t right_matrix;
  uint32_t left[4];
  float* sums;  // columns / 2
  int columns;
  bool adds;
  Factor type;
};

void multiply_shared(ProductOfWarpgroup* product);
void multiply_registers(ProductOfWarpgroup* product);

// wgmma.mma_async of m64nNk16 with float32 sums: both factors in shared memory, or the
// left one in registers.
template <int kColumns>
void multiply_shared(uint64_t left, uint64_t right, bool adds, Factor type,
                     float (&sums)[kColumns / 8][4]) {
  static_assert(kColumns == 64 || kColumns == 128);
  ProductOfWarpgroup product = {left, right, {}, sums[0], kColumns, adds, type};
  multiply_shared(&product);
}

template <int kColumns>
void multiply_registers(const uint32_t (&left)[4], uint64_t right, Factor type,
                        float (&sums)[kColumns / 8][4]) {
  static_assert(kColumns == 64 || kColumns == 128);
  ProductOfWarpgroup product = {
      0, right, {left[0], left[1], left[2], left[3]}, sums[0], kColumns, true, type};
  multiply_registers(&product);
}

}  // namespace emulator
