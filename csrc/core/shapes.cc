#include "core/shapes.h"

#include <limits>

namespace negative_cosine {
namespace {

constexpr int64_t kMostNegatives = std::numeric_limits<int32_t>::max();

Status invalid(const std::string& argument, const std::string& required,
               const std::string& given) {
  return Status::InvalidArgument(argument + " must " + required + ", got " + given);
}

Status check_matrix(const std::string& name, const Shape& shape) {
  if (shape.size() == 2) return Status::Ok();
  return invalid(name, "have two dimensions [rows, embedding]",
                 "shape " + to_string(shape));
}

Status check_shape(const std::string& name, const std::optional<Shape>& shape,
                   const Shape& required, const std::string& meaning) {
  if (!shape || *shape == required) return Status::Ok();
  return invalid(name, "have shape " + to_string(required) + ", " + meaning,
                 "shape " + to_string(*shape));
}

Status check_embeddings(const Shape& query, const Shape& doc) {
  if (Status status = check_matrix("query", query); !status.ok()) return status;
  if (Status status = check_matrix("doc", doc); !status.ok()) return status;
  if (query[1] != doc[1]) {
    return invalid("doc", "have query's embedding size " + std::to_string(query[1]),
                   "shape " + to_string(doc));
  }
  if (query[1] < 1) {
    return invalid("query", "have at least one column", "shape " + to_string(query));
  }
  if (doc[0] < query[0]) {
    return invalid(
        "doc",
        "have at least as many rows as query (row i is query i's positive): " +
            std::to_string(query[0]),
        std::to_string(doc[0]) + " rows");
  }
  if (doc[0] > std::numeric_limits<int32_t>::max()) {
    return invalid("doc", "have at most 2147483647 rows",
                   std::to_string(doc[0]) + " rows");
  }
  return Status::Ok();
}

// Documents besides the row's own; in an empty batch there may be none at all.
int64_t count_others(const InputShapes& shapes) {
  return shapes.doc[0] > 0 ? shapes.doc[0] - 1 : 0;
}

// K = C - 1, whether it is given or not.
Status check_all(const InputShapes& shapes) {
  const int64_t others = count_others(shapes);
  if (shapes.query[0] == 0 || shapes.num_negatives.value_or(others) == others) {
    return Status::Ok();
  }
  return invalid("num_negatives",
                 "be C - 1 for sampler='all', where C = " +
                     std::to_string(shapes.doc[0]) + " is doc's number of rows",
                 std::to_string(*shapes.num_negatives));
}

Status check_candidates(const InputShapes& shapes) {
  const bool explicit_table = shapes.negative_indices.has_value();
  if (!explicit_table && shapes.sampler == Sampler::kAll) return check_all(shapes);
  if (explicit_table == shapes.num_negatives.has_value()) {
    return Status::InvalidArgument(
        "give either num_negatives (with seed) or negative_indices, got " +
        std::string(explicit_table ? "both" : "neither"));
  }
  if (explicit_table) {
    const Shape& table = *shapes.negative_indices;
    if (table.size() != 2 || table[0] != shapes.query[0] || table[1] < 1 ||
        table[1] > kMostNegatives) {
      return invalid("negative_indices",
                     "have shape [B, K] with B = " + std::to_string(shapes.query[0]) +
                         ", query's rows, and 1 <= K <= 2147483647",
                     "shape " + to_string(table));
    }
    return Status::Ok();
  }
  if (*shapes.num_negatives < 1 || *shapes.num_negatives > kMostNegatives) {
    return invalid("num_negatives", "be at least 1 and at most 2147483647",
                   std::to_string(*shapes.num_negatives));
  }
  // In an empty batch nobody meets anyone.
  if (shapes.sampler == Sampler::kRing && shapes.query[0] > 0 &&
      *shapes.num_negatives > count_others(shapes)) {
    return invalid("num_negatives",
                   "be at most C - 1 for sampler='ring', where C = " +
                       std::to_string(shapes.doc[0]) + " is doc's number of rows",
                   std::to_string(*shapes.num_negatives));
  }
  if (!shapes.seed) {
    return invalid("seed", "be given with num_negatives", "none");
  }
  return check_shape("seed", shapes.seed, {2}, "two integers");
}

}  // namespace

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    text += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  }
  return text + "]";
}

Status check_shapes(const InputShapes& shapes, LossParams* params) {
  if (Status status = check_embeddings(shapes.query, shapes.doc); !status.ok()) {
    return status;
  }
  if (Status status = check_candidates(shapes); !status.ok()) return status;

  const Shape batch = {shapes.query[0]};
  const Shape candidates = {shapes.doc[0]};
  for (Status status : {
           check_shape("doc_ids", shapes.doc_ids, candidates, "one id a row of doc"),
           check_shape("query_ids", shapes.query_ids, batch, "one id a row of query"),
           check_shape("doc_log_q", shapes.doc_log_q, candidates,
                       "one log-probability a row of doc"),
           check_shape("sample_weight", shapes.sample_weight, batch,
                       "one weight a row of query"),
       }) {
    if (!status.ok()) return status;
  }

  params->batch_size = shapes.query[0];
  params->num_candidates = shapes.doc[0];
  params->dim = shapes.query[1];
  params->sampler = shapes.sampler;
  params->num_negatives = shapes.negative_indices ? (*shapes.negative_indices)[1]
                          : shapes.sampler == Sampler::kAll ? count_others(shapes)
                                                            : *shapes.num_negatives;
  return Status::Ok();
}

}  // namespace negative_cosine
