// Checks of the arguments' shapes, and of the options that depend on them.
//
// The TensorFlow op and the Python module describe their arrays here before they make
// LossParams of them, so that each rule and its message exists once in C++.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/params.h"
#include "core/status.h"

namespace negative_cosine {

using Shape = std::vector<int64_t>;

struct InputShapes {
  Shape query;
  Shape doc;
  Sampler sampler = Sampler::kShuffle;
  std::optional<int64_t> num_negatives;
  std::optional<Shape> seed;
  std::optional<Shape> negative_indices;
  std::optional<Shape> doc_ids;
  std::optional<Shape> query_ids;
  std::optional<Shape> doc_log_q;
  std::optional<Shape> sample_weight;
};

// Checks `shapes` and writes the four sizes and the sampler into `params`.
Status check_shapes(const InputShapes& shapes, LossParams* params);

std::string to_string(const Shape& shape);

}  // namespace negative_cosine
