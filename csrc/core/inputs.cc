#include "core/inputs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

namespace negative_cosine {
namespace {

// Of rows, columns and candidates: all that indexes them has 32 bits somewhere.
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();

Status invalid(const std::string& argument, const std::string& required,
               const std::string& given) {
  return Status::InvalidArgument(argument + " must " + required + ", got " + given);
}

Status check_matrix(const std::string& name, const Shape& shape) {
  if (shape.size() == 2) return Status::Ok();
  return invalid(name, "have two dimensions [rows, embedding]",
                 "shape " + to_string(shape));
}

Status check_shape(const std::string& name, const std::optional<Input>& input,
                   const Shape& required, const std::string& meaning) {
  if (!input || input->shape == required) return Status::Ok();
  return invalid(name, "have shape " + to_string(required) + ", " + meaning,
                 "shape " + to_string(input->shape));
}

Status check_embeddings(const Shape& query, const Shape& doc) {
  if (Status status = check_matrix("query", query); !status.ok()) return status;
  if (Status status = check_matrix("doc", doc); !status.ok()) return status;
  if (query[1] != doc[1]) {
    return invalid("doc", "have query's embedding size " + std::to_string(query[1]),
                   "shape " + to_string(doc));
  }
  if (query[1] < 1 || query[1] > kMost) {
    return invalid("query", "have from 1 to 2**31 - 1 columns",
                   "shape " + to_string(query));
  }
  if (doc[0] < query[0]) {
    return invalid(
        "doc",
        "have at least as many rows as query, since row i of doc is query i's "
        "positive: at least " +
            std::to_string(query[0]),
        std::to_string(doc[0]) + " rows");
  }
  if (doc[0] > kMost) {
    return invalid("doc", "have at most 2**31 - 1 rows",
                   std::to_string(doc[0]) + " rows");
  }
  return Status::Ok();
}

// Documents besides the row's own; in an empty batch there may be none at all.
int64_t count_others(const LossInputs& inputs) {
  return inputs.doc.shape[0] > 0 ? inputs.doc.shape[0] - 1 : 0;
}

// K = C - 1, whether it is given or not.
Status check_all(const LossInputs& inputs) {
  const int64_t others = count_others(inputs);
  if (inputs.query.shape[0] == 0 || inputs.num_negatives.value_or(others) == others) {
    return Status::Ok();
  }
  return invalid(
      "num_negatives",
      "be C - 1 for sampler='all', where C = " + std::to_string(inputs.doc.shape[0]) +
          " is doc's number of rows",
      std::to_string(*inputs.num_negatives) +
          "; omit num_negatives or pass None, which means C - 1 in every batch");
}

Status check_table(const Shape& table, int64_t rows) {
  if (table.size() == 2 && table[0] == rows && table[1] >= 1 && table[1] <= kMost) {
    return Status::Ok();
  }
  return invalid("negative_indices",
                 "have shape [B, K], where B = " + std::to_string(rows) +
                     " is query's number of rows and K is from 1 to 2**31 - 1",
                 "shape " + to_string(table));
}

Status check_seed(const Shape& seed) {
  if (seed == Shape{2}) return Status::Ok();
  return invalid("seed", "be two integers, int32 or int64 of shape [2]",
                 "shape " + to_string(seed));
}

Status check_candidates(const LossInputs& inputs, Sampler sampler) {
  const int64_t rows = inputs.query.shape[0];
  const bool explicit_table = inputs.negative_indices.has_value();
  if (!explicit_table && sampler == Sampler::kAll) return check_all(inputs);
  if (explicit_table == inputs.num_negatives.has_value()) {
    return Status::InvalidArgument(
        "give either num_negatives or negative_indices, got " +
        std::string(explicit_table ? "both" : "neither"));
  }
  if (explicit_table) return check_table(inputs.negative_indices->shape, rows);
  if (*inputs.num_negatives < 1 || *inputs.num_negatives > kMost) {
    return invalid("num_negatives", "be an integer from 1 to 2**31 - 1",
                   std::to_string(*inputs.num_negatives));
  }
  // In an empty batch no row meets another.
  if (sampler == Sampler::kRing && rows > 0 &&
      *inputs.num_negatives > count_others(inputs)) {
    return invalid(
        "num_negatives",
        "be at most C - 1 for sampler='ring', where C = " +
            std::to_string(inputs.doc.shape[0]) + " is doc's number of rows",
        std::to_string(*inputs.num_negatives) +
            "; use a smaller num_negatives or sampler='shuffle', or drop a dataset's "
            "short last batch with batch(..., drop_remainder=True)");
  }
  if (!inputs.seed) return invalid("seed", "be given with num_negatives", "none");
  return check_seed(inputs.seed->shape);
}

Status check_options(const LossInputs& inputs) {
  const Shape batch = {inputs.query.shape[0]};
  const Shape candidates = {inputs.doc.shape[0]};
  for (Status status : {
           check_shape("doc_ids", inputs.doc_ids, candidates,
                       "one element for each row of doc"),
           check_shape("query_ids", inputs.query_ids, batch,
                       "one element for each row of query"),
           check_shape("doc_log_q", inputs.doc_log_q, candidates,
                       "one element for each row of doc"),
           check_shape("sample_weight", inputs.sample_weight, batch,
                       "one element for each row of query"),
       }) {
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

constexpr double kAuto = 0;  // of negative_weight

Status check_negative_weight(const LossInputs& inputs) {
  const double weight = inputs.negative_weight;
  if (!(weight >= 0) || std::isinf(weight)) {
    std::ostringstream given;
    given << weight;
    return invalid("negative_weight", "be a finite number above 0, or 0 for 'auto'",
                   given.str());
  }
  if (weight == kAuto && inputs.negative_indices) {
    return invalid("negative_weight", "be a number where negative_indices are given",
                   "'auto', which is known of the samplers' draws alone; pass the "
                   "number of documents that could have been drawn over K");
  }
  return Status::Ok();
}

// log w. "auto" is the number of documents that could have been drawn over K: by
// `shuffle` all of them, by `ring` and `all` those besides the row's own.
double log_negative_weight(const LossInputs& inputs, const LossParams& params) {
  if (inputs.negative_weight != kAuto) return std::log(inputs.negative_weight);
  if (params.batch_size == 0 || params.num_negatives == 0) return 0;
  const int64_t own = params.sampler == Sampler::kShuffle ? 0 : 1;
  return std::log(static_cast<double>(params.num_candidates - own) /
                  static_cast<double>(params.num_negatives));
}

void set_sizes(const LossInputs& inputs, LossParams* params) {
  params->batch_size = inputs.query.shape[0];
  params->num_candidates = inputs.doc.shape[0];
  params->dim = inputs.query.shape[1];
  params->num_negatives = inputs.negative_indices ? inputs.negative_indices->shape[1]
                          : params->sampler == Sampler::kAll ? count_others(inputs)
                                                             : *inputs.num_negatives;
  // In an empty batch no row meets another: no memory, however many were asked for.
  if (params->batch_size == 0) {
    params->num_negatives = std::min<int64_t>(params->num_negatives, 1);
  }
}

// Null means absent, and an empty array may have no memory of its own to point at.
const void* data_of(const std::optional<Input>& input) {
  static const int64_t kNothing = 0;
  if (!input) return nullptr;
  return input->data == nullptr ? &kNothing : input->data;
}

IndexType index_type_of(const std::optional<Input>& input) {
  return input ? input->index_type : IndexType::kInt32;
}

void set_pointers(const LossInputs& inputs, LossParams* params) {
  params->query = inputs.query.data;
  params->doc = inputs.doc.data;
  params->seed = data_of(inputs.seed);
  params->seed_type = index_type_of(inputs.seed);
  params->negative_indices = data_of(inputs.negative_indices);
  params->negative_indices_type = index_type_of(inputs.negative_indices);
  params->doc_ids = data_of(inputs.doc_ids);
  params->doc_ids_type = index_type_of(inputs.doc_ids);
  params->query_ids = data_of(inputs.query_ids);
  params->query_ids_type = index_type_of(inputs.query_ids);
  params->doc_log_q = data_of(inputs.doc_log_q);
  params->sample_weight = data_of(inputs.sample_weight);
}

int64_t count_elements(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

// Writes the value that has the name, or names them all.
template <typename Option>
Status set_named(const std::string& argument, const std::string& name,
                 const std::vector<std::pair<std::string, Option>>& values,
                 Option* option) {
  std::string names;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].first == name) {
      *option = values[i].second;
      return Status::Ok();
    }
    names += (i == 0 ? "'" : ", '") + values[i].first + "'";
  }
  return invalid(argument, "be one of " + names, "'" + name + "'");
}

}  // namespace

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    text += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  }
  return text + "]";
}

Status set_options(const std::string& sampler, const std::string& normalize_over,
                   const std::string& reduction, LossParams* params) {
  for (Status status : {
           set_named<Sampler>("sampler", sampler,
                              {{"shuffle", Sampler::kShuffle},
                               {"ring", Sampler::kRing},
                               {"all", Sampler::kAll}},
                              &params->sampler),
           set_named<NormalizeOver>("normalize_over", normalize_over,
                                    {{"candidates", NormalizeOver::kCandidates},
                                     {"batch", NormalizeOver::kBatch}},
                                    &params->normalize_over),
           set_named<Reduction>("reduction", reduction,
                                {{"mean", Reduction::kMean},
                                 {"sum", Reduction::kSum},
                                 {"none", Reduction::kNone}},
                                &params->reduction),
       }) {
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

Status set_inputs(const LossInputs& inputs, LossParams* params) {
  const Shape& query = inputs.query.shape;
  const Shape& doc = inputs.doc.shape;
  if (Status status = check_embeddings(query, doc); !status.ok()) return status;
  if (Status status = check_candidates(inputs, params->sampler); !status.ok()) {
    return status;
  }
  if (Status status = check_options(inputs); !status.ok()) return status;
  if (Status status = check_negative_weight(inputs); !status.ok()) return status;
  set_sizes(inputs, params);
  params->log_negative_weight = log_negative_weight(inputs, *params);
  set_pointers(inputs, params);
  return Status::Ok();
}

Status set_saved_inputs(const SavedInputs& inputs, const LossParams& params,
                        GradientArguments* arguments) {
  const int64_t rows = params.batch_size;
  const bool is_reduced = params.reduction != Reduction::kNone;
  const struct {
    const char* name;
    const Input& input;
    int64_t size;
    const void** data;
    bool may_be_left_out;
  } saved[] = {
      {"loss_gradient", inputs.loss_gradient, is_reduced ? 1 : rows,
       &arguments->loss_gradient, false},
      {"row_loss", inputs.row_loss, rows, &arguments->row_loss, false},
      {"saved_rows", inputs.saved_rows, 4 * rows, &arguments->saved_rows, false},
      {"doc_inverse_norm", inputs.doc_inverse_norm, params.num_candidates,
       &arguments->doc_inverse_norm, false},
      {"row_scale_gradient", inputs.row_scale_gradient, rows,
       &arguments->row_scale_gradient, false},
      {"query_direction", inputs.query_direction, rows * params.dim,
       &arguments->query_direction, true},
  };
  for (const auto& part : saved) {
    const int64_t size = count_elements(part.input.shape);
    if (part.may_be_left_out && size == 0) continue;
    if (size != part.size) {
      return invalid(part.name, "have " + std::to_string(part.size) + " elements",
                     "shape " + to_string(part.input.shape));
    }
    *part.data = part.input.data;
  }
  return Status::Ok();
}

}  // namespace negative_cosine
