// Work memory of the core, aligned for the widest vectors and not cleared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace negative_cosine::cpu {

constexpr int64_t kScratchAlignment = 64;

class AlignedScratch {
 public:
  explicit AlignedScratch(int64_t bytes)
      : memory_(::operator new(static_cast<size_t>(bytes),
                               std::align_val_t{kScratchAlignment})) {}
  ~AlignedScratch() { ::operator delete(memory_, std::align_val_t{kScratchAlignment}); }
  AlignedScratch(const AlignedScratch&) = delete;
  AlignedScratch& operator=(const AlignedScratch&) = delete;

  void* get() const { return memory_; }

 private:
  void* memory_;
};

}  // namespace negative_cosine::cpu
