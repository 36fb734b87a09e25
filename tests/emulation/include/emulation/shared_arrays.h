// The shared memory that a launch asks for, as arrays that every thread of a block
// takes in the same order.
#pragma once

#include <cstddef>
#include <typeindex>
#include <typeinfo>

#include "emulation/qualifiers.h"
#include "emulation/shared_element.h"

// How csrc/cuda/device/shared_memory.cuh names it.
#define NEGATIVE_COSINE_SHARED_ARRAYS emulator::SharedArrays

namespace emulator {

struct KindOfArray {
  std::type_index type;
  int element_bytes;  // on a device
  size_t stride;      // here
  int count;
};

struct TakenArray {
  void* memory;  // zeros where it is new
  bool is_new;
};

// So many elements on each side of an array may not be touched.
constexpr int kGuards = 256;

// The array that the running thread takes after `earlier` others.
TakenArray take_array(const KindOfArray& kind, size_t earlier);

// Raises a fault, "read of" or "write of" so many bytes, where a device could not do it
// with one instruction: for code that takes neighbouring elements of an array together.
void check_shared_access(const char* access, const void* first_element, int bytes);

class SharedArrays {
 public:
  template <typename Element>
  SharedElement<Element>* take(int count) {
    using Shared = SharedElement<Element>;
    const TakenArray taken = take_array(
        {typeid(Element), static_cast<int>(sizeof(Element)), sizeof(Shared), count},
        taken_++);
    Shared* guards = static_cast<Shared*>(taken.memory);
    Shared* first = guards + kGuards;
    if (taken.is_new) {
      for (int guard = 0; guard < kGuards; ++guard) {
        guards[guard].mark_out_of_bounds();
        first[count + guard].mark_out_of_bounds();
      }
    }
    return first;
  }

 private:
  size_t taken_ = 0;
};

}  // namespace emulator
