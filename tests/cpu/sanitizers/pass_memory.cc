#include "pass_memory.h"

#include <algorithm>
#include <limits>

#include "cpu/passes.h"

namespace negative_cosine {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void set_index(IndexType type, int64_t value, int64_t position, void* values) {
  if (type == IndexType::kInt64) {
    static_cast<int64_t*>(values)[position] = value;
  } else {
    static_cast<int32_t*>(values)[position] = static_cast<int32_t>(value);
  }
}

int64_t size_of(IndexType type) { return type == IndexType::kInt64 ? 8 : 4; }

bool has_ids(Options options) {
  return options == Options::kIds || options == Options::kEverything;
}

bool has_weights(Options options) {
  return options == Options::kEverything || options == Options::kBatch;
}

Sampler sampler_of(Source source) {
  return source == Source::kRing  ? Sampler::kRing
         : source == Source::kAll ? Sampler::kAll
                                  : Sampler::kShuffle;
}

}  // namespace

const HeapArray& Arrays::add(const std::string& name, int64_t count,
                             int64_t element_size) {
  const bool is_short = name == layout_.short_array && count > 0;
  has_short_array_ = has_short_array_ || is_short;
  arrays_.emplace_back((count - is_short) * element_size,
                       layout_.aligned ? 0 : element_size, layout_.fill);
  return arrays_.back();
}

std::vector<char> Arrays::contents() const {
  std::vector<char> bytes;
  for (const HeapArray& array : arrays_) {
    bytes.insert(bytes.end(), array.data(), array.data() + array.bytes());
  }
  return bytes;
}

PassInputs::PassInputs(const PassCase& pass_case, const Layout& layout)
    : case_(pass_case), arrays_(layout) {
  params_.batch_size = case_.batch_size;
  params_.num_candidates = case_.num_candidates;
  params_.dim = case_.dim;
  params_.num_negatives = case_.num_negatives;
  params_.data_type = case_.data_type;
  params_.query = add_embeddings("query", case_.batch_size);
  params_.doc = add_embeddings("doc", case_.num_candidates);
  params_.logit_scale = add_reals("logit_scale", 1, 5, 20);
  add_candidates();
  if (has_ids(case_.options)) add_ids();
  if (has_weights(case_.options)) add_weights();
  const bool is_reduced = params_.reduction != Reduction::kNone;
  loss_gradient_ =
      add_reals("loss_gradient", is_reduced ? 1 : case_.batch_size, 0.5, 2);
}

void PassInputs::add_candidates() {
  params_.sampler = sampler_of(case_.source);
  if (uses_table(case_.source)) {
    params_.negative_indices_type =
        case_.source == Source::kIndices64 ? IndexType::kInt64 : IndexType::kInt32;
    params_.negative_indices =
        add_indices("negative_indices", case_.batch_size * case_.num_negatives,
                    params_.negative_indices_type, case_.num_candidates);
  } else if (case_.source != Source::kAll) {
    params_.seed_type =
        case_.options == Options::kIds ? IndexType::kInt32 : IndexType::kInt64;
    params_.seed =
        add_indices("seed", 2, params_.seed_type, std::numeric_limits<int32_t>::max());
  }
}

void PassInputs::add_ids() {
  const bool wide = case_.options == Options::kEverything;
  params_.mask_self = wide;
  params_.doc_ids_type = wide ? IndexType::kInt64 : IndexType::kInt32;
  params_.query_ids_type = wide ? IndexType::kInt32 : IndexType::kInt64;
  params_.doc_ids = add_indices("doc_ids", case_.num_candidates, params_.doc_ids_type,
                                case_.num_candidates / 2 + 1);
  params_.query_ids = add_indices("query_ids", case_.batch_size, params_.query_ids_type,
                                  case_.batch_size / 2 + 1);
}

void PassInputs::add_weights() {
  const bool over_batch = case_.options == Options::kBatch;
  params_.margin = 0.15;
  params_.log_negative_weight = 1.5;
  params_.normalize_over =
      over_batch ? NormalizeOver::kBatch : NormalizeOver::kCandidates;
  params_.reduction = over_batch ? Reduction::kSum : Reduction::kNone;
  params_.doc_log_q = add_reals("doc_log_q", case_.num_candidates, -5, 0);
  params_.sample_weight = add_reals("sample_weight", case_.batch_size, 0, 2);
}

void* PassInputs::add_embeddings(const char* name, int64_t rows) {
  const int64_t size = storage_size_of(case_.data_type);
  const HeapArray& array = arrays_.add(name, rows * case_.dim, size);
  with_storage_type(case_.data_type, [&](auto element) {
    using Storage = decltype(element);
    auto* values = reinterpret_cast<Storage*>(array.data());
    for (int64_t i = 0; i < array.bytes() / size; ++i) {
      const double value = case_.options == Options::kStrangeValues
                               ? strange_value(i / case_.dim)
                               : next_between(-1, 1);
      round_to(static_cast<ComputeType<Storage>>(value), values + i);
    }
  });
  return array.data();
}

double PassInputs::strange_value(int64_t row) {
  const double value = next_between(-1, 1);
  // Of rows with 1e37 the gradients are subnormal numbers.
  const double factors[] = {1, 0, 1e-30, 6e4, 1e30, 1e37};
  const auto kind = static_cast<size_t>(row) % (std::size(factors) + 2);
  if (kind < std::size(factors)) return value * factors[kind];
  if (value < 0.5) return value;
  return kind % 2 == 0 ? kInfinity : std::numeric_limits<double>::quiet_NaN();
}

void* PassInputs::add_reals(const char* name, int64_t count, double low, double high) {
  const int64_t size = compute_size_of(case_.data_type);
  const HeapArray& array = arrays_.add(name, count, size);
  for (int64_t i = 0; i < array.bytes() / size; ++i) {
    const double value = next_between(low, high);
    if (case_.data_type == DataType::kFloat64) {
      reinterpret_cast<double*>(array.data())[i] = value;
    } else {
      reinterpret_cast<float*>(array.data())[i] = static_cast<float>(value);
    }
  }
  return array.data();
}

void* PassInputs::add_indices(const char* name, int64_t count, IndexType type,
                              int64_t limit) {
  const HeapArray& array = arrays_.add(name, count, size_of(type));
  for (int64_t i = 0; i < array.bytes() / size_of(type); ++i) {
    set_index(type, next_random() % limit, i, array.data());
  }
  return array.data();
}

// 31 bits: Knuth's linear congruential generator, its better half.
int64_t PassInputs::next_random() {
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  return static_cast<int64_t>(random_ >> 33);
}

double PassInputs::next_between(double low, double high) {
  return low + (high - low) * static_cast<double>(next_random()) * 0x1p-31;
}

PassOutputs::PassOutputs(const PassInputs& inputs, const Layout& layout)
    : params_(inputs.params()),
      results_(layout),
      scratch_({true, layout.fill, layout.short_array}),
      forward_scratch_(
          scratch_.add("forward_scratch", cpu::forward_scratch_bytes(params_), 1)
              .data()),
      gradient_scratch_(
          scratch_.add("gradient_scratch", cpu::gradient_scratch_bytes(params_), 1)
              .data()) {
  const bool every_one = inputs.pass_case().options != Options::kFewOutputs;
  gradient_.loss_gradient = inputs.loss_gradient();
  add_outputs(every_one);
  add_gradients(every_one);
}

void* PassOutputs::add_result(const char* name, int64_t count, int64_t element_size) {
  return results_.add(name, count, element_size).data();
}

void PassOutputs::add_outputs(bool every_one) {
  const int64_t rows = params_.batch_size;
  const int64_t real = compute_size_of(params_.data_type);
  const bool is_reduced = params_.reduction != Reduction::kNone;
  outputs_.loss = add_result("loss", is_reduced ? 1 : rows, real);
  outputs_.row_loss = add_result("row_loss", rows, real);
  outputs_.positive_cosine = add_result("positive_cosine", rows, real);
  outputs_.saved_rows = add_result("saved_rows", 4 * rows, real);
  outputs_.doc_inverse_norm =
      add_result("doc_inverse_norm", params_.num_candidates, real);
  outputs_.row_scale_gradient = add_result("row_scale_gradient", rows, real);
  outputs_.query_direction = add_result("query_direction", rows * params_.dim, real);
  if (!every_one) return;
  outputs_.num_kept = static_cast<int32_t*>(add_result("num_kept", rows, 4));
  outputs_.positive_rank = static_cast<int32_t*>(add_result("positive_rank", rows, 4));
}

void PassOutputs::add_gradients(bool every_one) {
  const int64_t element = storage_size_of(params_.data_type);
  const int64_t real = compute_size_of(params_.data_type);
  gradient_.row_loss = outputs_.row_loss;
  gradient_.saved_rows = outputs_.saved_rows;
  gradient_.doc_inverse_norm = outputs_.doc_inverse_norm;
  gradient_.row_scale_gradient = outputs_.row_scale_gradient;
  gradient_.query_direction = outputs_.query_direction;
  const bool in_place = !every_one && element == real;
  gradient_.query_gradient =
      in_place
          ? outputs_.query_direction
          : add_result("query_gradient", params_.batch_size * params_.dim, element);
  if (!every_one) return;
  gradient_.doc_gradient =
      add_result("doc_gradient", params_.num_candidates * params_.dim, element);
  gradient_.logit_scale_gradient = add_result("logit_scale_gradient", 1, real);
  if (params_.sample_weight == nullptr) return;
  gradient_.sample_weight_gradient =
      add_result("sample_weight_gradient", params_.batch_size, real);
}

Status PassOutputs::forward(const ParallelFor& parallel_for) const {
  LossParams params = params_;
  params.scratch = forward_scratch_;
  return cpu::forward(params, outputs_, parallel_for);
}

Status PassOutputs::gradient(const ParallelFor& parallel_for) const {
  LossParams params = params_;
  params.scratch = gradient_scratch_;
  return cpu::gradient(params, gradient_, parallel_for);
}

}  // namespace negative_cosine
