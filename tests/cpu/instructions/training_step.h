// One training step of the CPU core, on one thread, with embeddings of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/params.h"

namespace negative_cosine {

struct StepCase {
  std::string name;
  DataType data_type;
  Sampler sampler;
  bool own_indices;  // in place of the sampler
  int64_t batch_size;
  int64_t num_candidates;
  int64_t num_negatives;
  int64_t dim;
};

class TrainingStep {
 public:
  explicit TrainingStep(const StepCase& step);
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

  // The loss with the query's direction, and all gradients; throws what goes wrong.
  void run();

  float loss() const { return loss_; }

 private:
  using Bytes = std::vector<uint64_t>;

  void* new_bytes(int64_t bytes);
  void* new_floats(int64_t count) { return new_bytes(count * int64_t{sizeof(float)}); }
  void* random_embeddings(int64_t rows);
  void* random_indices();
  void allocate_outputs();
  void allocate_gradients();
  int64_t next_random();

  LossParams params_;
  ForwardOutputs outputs_;
  GradientArguments gradient_;
  const int64_t seed_[2] = {1, 2};
  const float logit_scale_ = 20;
  const float upstream_ = 1;
  float loss_ = 0;
  uint64_t random_ = 1;
  std::vector<Bytes> memory_;
};

}  // namespace negative_cosine
