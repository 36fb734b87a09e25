#include "training_step.h"

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "cpu/passes.h"

namespace negative_cosine {
namespace {

void require(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

void on_this_thread(int64_t count, int64_t,
                    const std::function<void(int64_t begin, int64_t end)>& work) {
  if (count > 0) work(0, count);
}

}  // namespace

TrainingStep::TrainingStep(const StepCase& step) {
  params_.batch_size = step.batch_size;
  params_.num_candidates = step.num_candidates;
  params_.dim = step.dim;
  params_.num_negatives = step.num_negatives;
  params_.data_type = step.data_type;
  params_.sampler = step.sampler;
  params_.logit_scale = &logit_scale_;
  params_.query = random_embeddings(params_.batch_size);
  params_.doc = random_embeddings(params_.num_candidates);
  params_.seed = seed_;
  params_.seed_type = IndexType::kInt64;
  if (step.own_indices) params_.negative_indices = random_indices();
  params_.scratch = new_bytes(std::max(cpu::forward_scratch_bytes(params_),
                                       cpu::gradient_scratch_bytes(params_)));
  allocate_outputs();
  allocate_gradients();
}

void TrainingStep::run() {
  require(cpu::forward(params_, outputs_, on_this_thread));
  require(cpu::gradient(params_, gradient_, on_this_thread));
}

void* TrainingStep::new_bytes(int64_t bytes) {
  memory_.emplace_back(static_cast<size_t>(bytes) / 8 + 9);
  const auto address = reinterpret_cast<uintptr_t>(memory_.back().data());
  return reinterpret_cast<void*>((address + 63) / 64 * 64);
}

// Bits from -1 to 1 in any type: the high half of a float is a bfloat16.
void* TrainingStep::random_embeddings(int64_t rows) {
  const int64_t count = rows * params_.dim;
  void* embeddings = new_floats(count);
  for (int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(next_random() % 2001 - 1000) / 1000;
    if (params_.data_type == DataType::kBFloat16) {
      round_to(value, static_cast<BFloat16*>(embeddings) + i);
    } else {
      static_cast<float*>(embeddings)[i] = value;
    }
  }
  return embeddings;
}

void* TrainingStep::random_indices() {
  const int64_t count = params_.batch_size * params_.num_negatives;
  auto* indices = static_cast<int32_t*>(new_bytes(count * int64_t{sizeof(int32_t)}));
  for (int64_t i = 0; i < count; ++i) {
    indices[i] = static_cast<int32_t>(next_random() % params_.num_candidates);
  }
  return indices;
}

void TrainingStep::allocate_outputs() {
  const int64_t rows = params_.batch_size;
  outputs_.loss = &loss_;
  outputs_.row_loss = new_floats(rows);
  outputs_.positive_cosine = new_floats(rows);
  outputs_.saved_rows = new_floats(4 * rows);
  outputs_.doc_inverse_norm = new_floats(params_.num_candidates);
  outputs_.row_scale_gradient = new_floats(rows);
  outputs_.query_direction = new_floats(rows * params_.dim);
}

void TrainingStep::allocate_gradients() {
  gradient_.loss_gradient = &upstream_;
  gradient_.row_loss = outputs_.row_loss;
  gradient_.saved_rows = outputs_.saved_rows;
  gradient_.doc_inverse_norm = outputs_.doc_inverse_norm;
  gradient_.row_scale_gradient = outputs_.row_scale_gradient;
  gradient_.query_direction = outputs_.query_direction;
  gradient_.query_gradient = new_floats(params_.batch_size * params_.dim);
  gradient_.doc_gradient = new_floats(params_.num_candidates * params_.dim);
  gradient_.logit_scale_gradient = new_floats(1);
}

// Knuth's linear congruential generator, its better half.
int64_t TrainingStep::next_random() {
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  return static_cast<int64_t>(random_ >> 33);
}

}  // namespace negative_cosine
