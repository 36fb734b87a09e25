// What rows are multiplied as: their element type, or Tf32.
#pragma once

namespace negative_cosine {
namespace cuda {

// As what the tensor cores multiply float32 elements: float32 with ten bits behind the
// point.
struct Tf32 {};

// The element type of rows that are multiplied as a type.
template <typename Factor>
struct StorageOfFactor {
  using type = Factor;
};
template <>
struct StorageOfFactor<Tf32> {
  using type = float;
};
template <typename Factor>
using StorageOf = typename StorageOfFactor<Factor>::type;

}  // namespace cuda
}  // namespace negative_cosine
