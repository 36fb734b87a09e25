// The arrays of a forward and a gradient pass, each by itself on the heap.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "core/parallel_for.h"
#include "core/params.h"
#include "core/status.h"
#include "heap_array.h"
#include "pass_case.h"

namespace negative_cosine {

// How arrays lie in memory; the results must not depend on it.
struct Layout {
  bool aligned = true;      // to 64 bytes, or to their elements alone
  unsigned char fill = 0;   // what is in every byte before the passes
  std::string short_array;  // the name of one that lacks its last element
};

// Named arrays. An input's or output's name is that of its member in core/params.h.
class Arrays {
 public:
  explicit Arrays(const Layout& layout) : layout_(layout) {}

  const HeapArray& add(const std::string& name, int64_t count, int64_t element_size);

  bool has_short_array() const { return has_short_array_; }

  // The bytes of every array, in the order in which they were added.
  std::vector<char> contents() const;

 private:
  Layout layout_;
  bool has_short_array_ = false;
  std::deque<HeapArray> arrays_;
};

// What both passes read: the same bits for the same case. Passes on several threads may
// share it.
class PassInputs {
 public:
  explicit PassInputs(const PassCase& pass_case, const Layout& layout = {});

  const PassCase& pass_case() const { return case_; }
  const LossParams& params() const { return params_; }
  const void* loss_gradient() const { return loss_gradient_; }
  bool has_short_array() const { return arrays_.has_short_array(); }

 private:
  void* add_embeddings(const char* name, int64_t rows);
  void* add_reals(const char* name, int64_t count, double low, double high);
  // Numbers from 0 to limit - 1.
  void* add_indices(const char* name, int64_t count, IndexType type, int64_t limit);
  void add_candidates();
  void add_ids();
  void add_weights();
  int64_t next_random();
  double next_between(double low, double high);
  double strange_value(int64_t row);

  const PassCase case_;
  Arrays arrays_;
  LossParams params_;
  const void* loss_gradient_ = nullptr;
  uint64_t random_ = 1;
};

// What the passes write.
class PassOutputs {
 public:
  explicit PassOutputs(const PassInputs& inputs, const Layout& layout = {});

  Status forward(const ParallelFor& parallel_for) const;
  Status gradient(const ParallelFor& parallel_for) const;

  std::vector<char> contents() const { return results_.contents(); }
  bool has_short_array() const {
    return results_.has_short_array() || scratch_.has_short_array();
  }

 private:
  void* add_result(const char* name, int64_t count, int64_t element_size);
  void add_outputs(bool every_one);
  void add_gradients(bool every_one);

  LossParams params_;
  Arrays results_;
  Arrays scratch_;
  void* forward_scratch_;
  void* gradient_scratch_;
  ForwardOutputs outputs_;
  GradientArguments gradient_;
};

}  // namespace negative_cosine
