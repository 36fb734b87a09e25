// An array on the heap that is exactly as long as what it holds, so that
// AddressSanitizer reports whatever reads or writes behind it.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace negative_cosine {

class HeapArray {
 public:
  static constexpr size_t kAlignment = 64;

  // `offset` bytes before the array make it less aligned; `fill` is in every byte.
  HeapArray(int64_t bytes, int64_t offset, unsigned char fill)
      : bytes_(bytes),
        memory_(static_cast<char*>(::operator new(static_cast<size_t>(offset + bytes),
                                                  std::align_val_t{kAlignment}))),
        data_(memory_.get() + offset) {
    std::memset(data_, fill, static_cast<size_t>(bytes));
  }

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  struct Delete {
    void operator()(char* memory) const {
      ::operator delete(memory, std::align_val_t{kAlignment});
    }
  };

  int64_t bytes_;
  std::unique_ptr<char, Delete> memory_;
  char* data_;
};

}  // namespace negative_cosine
