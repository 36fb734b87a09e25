// The format is that of the PTX ISA, "Matrix descriptor" of wgmma.
#include "matrix_descriptors.h"

#include <string>

#include "fault.h"

namespace emulator {
namespace {

constexpr unsigned kRowBytes = 128;
constexpr unsigned kPatternBytes = 8 * kRowBytes;
constexpr unsigned kElementBytes = 2;
constexpr unsigned kElementsOfRow = kRowBytes / kElementBytes;
constexpr unsigned kDepthBytes = 16 * kElementBytes;  // of one product
constexpr uint64_t kSwizzle128Bytes = 1;
// Two bits behind each of three addresses, and those around the base offset.
constexpr uint64_t kUnusedBits = 0x3ff1c000c000c000u;

unsigned swizzled(unsigned place) { return place ^ (place / kRowBytes % 8 * 16); }

unsigned bytes_at(uint64_t descriptor, int bit) {
  return static_cast<unsigned>(descriptor >> bit & 0x3fff) * 16;
}

[[noreturn]] void raise(const char* product, uint64_t descriptor,
                        const std::string& what) {
  raise_fault(cudaErrorLaunchFailure, std::string(product) + " with the descriptor " +
                                          hexadecimal(descriptor) + ": " + what);
}

void check_fields(const char* product, uint64_t descriptor) {
  if (descriptor >> 62 != kSwizzle128Bytes) {
    raise(product, descriptor, "only the swizzle of 128 bytes is emulated");
  }
  if ((descriptor >> 49 & 7) != 0) {
    raise(product, descriptor, "only the base offset 0 is emulated");
  }
  if ((descriptor & kUnusedBits) != 0) {
    raise(product, descriptor, "bits are set that belong to no field");
  }
}

void check_places(const char* product, uint64_t descriptor,
                  const SharedMatrix& matrix) {
  const unsigned in_row = matrix.start % kRowBytes;
  if (matrix.start % kPatternBytes != in_row || matrix.stride % kPatternBytes != 0 ||
      matrix.leading % kPatternBytes != 0) {
    raise(product, descriptor,
          "with the base offset 0, eights of rows start at multiples of 1024 bytes; "
          "this one starts at byte " +
              std::to_string(matrix.start) + ", the next " +
              std::to_string(matrix.stride) + " bytes behind it");
  }
  const unsigned step = matrix.major == Major::kDepth ? kDepthBytes : kRowBytes;
  if (in_row % step != 0) {
    raise(product, descriptor,
          "misaligned start at byte " + std::to_string(matrix.start));
  }
}

}  // namespace

unsigned SharedMatrix::place_of(unsigned line, unsigned k) const {
  if (major == Major::kDepth) {
    return swizzled(start + line / 8 * stride + line % 8 * kRowBytes +
                    k * kElementBytes);
  }
  return swizzled(start + line / kElementsOfRow * leading + k / 8 * stride +
                  k % 8 * kRowBytes + line % kElementsOfRow * kElementBytes);
}

SharedMatrix matrix_of(const char* product, uint64_t descriptor, Major major) {
  check_fields(product, descriptor);
  // Along the depth nothing leads: the swizzle says where the next piece is.
  const unsigned leading = major == Major::kDepth ? 0 : bytes_at(descriptor, 16);
  const SharedMatrix matrix = {bytes_at(descriptor, 0), leading,
                               bytes_at(descriptor, 32), major};
  check_places(product, descriptor, matrix);
  return matrix;
}

}  // namespace emulator
