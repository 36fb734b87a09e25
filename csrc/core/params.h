// Everything the kernels know: raw pointers, sizes and options, in one plain struct.
//
// B = batch_size, C = num_candidates, D = dim, K = num_negatives. Pointers marked
// "or null" are absent options. `Real` is the compute type: float64 for float64
// embeddings, float32 otherwise. CPU and CUDA take the same struct; there the pointers
// are the device's.
#pragma once

#include <cstdint>

#include "core/data_type.h"

namespace negative_cosine {

enum class NormalizeOver { kCandidates, kBatch };
enum class Reduction { kMean, kSum, kNone };
enum class Sampler { kShuffle, kRing, kAll };

struct LossParams {
  int64_t batch_size = 0;
  int64_t num_candidates = 0;
  int64_t dim = 0;
  int64_t num_negatives = 0;

  DataType data_type = DataType::kFloat32;
  const void* query = nullptr;        // [B, D]
  const void* doc = nullptr;          // [C, D]
  const void* logit_scale = nullptr;  // Real [1]: scale / temperature

  // Candidates: drawn by the sampler from the seed, or the caller's own table.
  Sampler sampler = Sampler::kShuffle;
  const void* seed = nullptr;  // [2] or null
  IndexType seed_type = IndexType::kInt32;
  const void* negative_indices = nullptr;  // [B, K] or null
  IndexType negative_indices_type = IndexType::kInt32;

  // Which candidates are dropped (docs/semantics.md, "Dropped candidates").
  bool mask_self = true;
  const void* doc_ids = nullptr;  // [C] or null
  IndexType doc_ids_type = IndexType::kInt32;
  const void* query_ids = nullptr;  // [B] or null
  IndexType query_ids_type = IndexType::kInt32;

  // What enters the logits and the sum. A document whose logQ is infinity is no row's
  // candidate; a row of weight 0 adds nothing to the loss or to a gradient.
  double margin = 0.0;
  double log_negative_weight = 0.0;     // added to the candidates' logits
  const void* doc_log_q = nullptr;      // Real [C] or null
  const void* sample_weight = nullptr;  // Real [B] or null
  NormalizeOver normalize_over = NormalizeOver::kCandidates;
  Reduction reduction = Reduction::kMean;

  // Whether float32 rows may be multiplied with ten bits of each element, as the tensor
  // cores do it.
  bool allow_tf32 = false;

  void* scratch = nullptr;  // forward_scratch_bytes() or gradient_scratch_bytes()
};

// What the gradient pass needs of a query row that drew a document, besides its
// embedding, side by side: such rows are scattered, and this costs one cache line (one
// sector of a GPU's memory) each.
template <typename Real>
struct alignas(4 * sizeof(Real)) SavedRow {
  // What e^(t_k - shift) is multiplied by: a_i over the row's sum of them. 0 for a row
  // that adds nothing to a gradient, whatever else it holds. For an upstream gradient
  // of 1; the gradient pass of the CPU puts the upstream gradient in, see
  // cpu/rows/saved.h.
  Real candidate_coefficient;
  Real positive_cosine;
  Real shift;               // the largest logit t_k, at least first_shift
  Real query_inverse_norm;  // 0 for a zero row
};

// What the forward pass writes. All but `loss` are saved for the gradient pass, or are
// statistics; nothing here has the size B*K.
struct ForwardOutputs {
  void* loss = nullptr;                // Real [1], or [B] without reduction
  void* row_loss = nullptr;            // Real [B]: before weights and reduction
  void* positive_cosine = nullptr;     // Real [B]
  void* saved_rows = nullptr;          // SavedRow<Real> [B]
  void* doc_inverse_norm = nullptr;    // Real [C]: 0 for a zero row
  void* row_scale_gradient = nullptr;  // Real [B]: d row_loss / d logit_scale
  void* query_direction = nullptr;     // Real [B, D] or null, see formulas.h
  int32_t* num_kept = nullptr;         // [B] or null: candidates not dropped
  int32_t* positive_rank = nullptr;    // [B] or null: kept with a larger logit
};

// What the gradient pass reads besides the parameters, and what it writes.
struct GradientArguments {
  const void* loss_gradient = nullptr;  // Real [1], or [B] without reduction
  const void* row_loss = nullptr;
  const void* saved_rows = nullptr;
  const void* doc_inverse_norm = nullptr;
  const void* row_scale_gradient = nullptr;
  const void* query_direction = nullptr;

  void* query_gradient = nullptr;          // [B, D] or null
  void* doc_gradient = nullptr;            // [C, D] or null
  void* logit_scale_gradient = nullptr;    // Real [1] or null
  void* sample_weight_gradient = nullptr;  // Real [B] or null
};

}  // namespace negative_cosine
