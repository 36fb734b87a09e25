// The shared memory that a launch asks for, as arrays that every thread of a block
// takes in the same order.
#pragma once

#include <cstddef>
#include <cstring>
#include <typeindex>
#include <typeinfo>

#include "emulation/qualifiers.h"
#include "emulation/shared_element.h"

namespace emulator {

struct KindOfArray {
  std::type_index type;
  int element_bytes;      // on a device
  size_t stride;          // here
  size_t history_offset;  // of an element, here
  int count;
  bool is_swizzled;  // see SwizzledSharedArrays
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
  SharedArrays() = default;

  template <typename Element>
  SharedElement<Element>* take(int count) {
    using Shared = SharedElement<Element>;
    const TakenArray taken =
        take_array({typeid(Element), static_cast<int>(sizeof(Element)), sizeof(Shared),
                    Shared::history_offset(), count, is_swizzled_},
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

 protected:
  explicit SharedArrays(bool is_swizzled) : is_swizzled_(is_swizzled) {}

 private:
  bool is_swizzled_ = false;
  size_t taken_ = 0;
};

// Those whose memory starts at a multiple of 1024 bytes: the products of a warpgroup
// tell by an address where in a matrix it is.
class SwizzledSharedArrays : public SharedArrays {
 public:
  SwizzledSharedArrays() : SharedArrays(true) {}
};

// Neighbouring elements that a device reads by one instruction. Inlined, as is what
// writes them, so that each access in a kernel has a return address of its own.
template <typename Bits, typename Element>
__forceinline__ Bits read_together(const SharedElement<Element>* from) {
  check_shared_access("read of", from, sizeof(Bits));
  constexpr int kCount = sizeof(Bits) / sizeof(Element);
  Element elements[kCount];
  for (int e = 0; e < kCount; ++e) elements[e] = from[e];
  Bits bits;
  std::memcpy(&bits, elements, sizeof bits);
  return bits;
}

template <typename Element, int kCount>
__forceinline__ void write_together(const Element (&values)[kCount],
                                    SharedElement<Element>* to) {
  check_shared_access("write of", to, sizeof values);
  for (int e = 0; e < kCount; ++e) to[e] = values[e];
}

}  // namespace emulator
