// The CPU kernels of one instruction set: compiled once for each (see CMakeLists.txt).
//
// No standard library templates in here: the linker could keep this copy of one for the
// whole program, with instructions that the running processor lacks.
#include "cpu/forward_rows.h"
#include "cpu/gradient_rows.h"
#include "cpu/read_rows.h"

#define NEGATIVE_COSINE_STRING(text) #text
#define NEGATIVE_COSINE_NAME(name) NEGATIVE_COSINE_STRING(name)

namespace negative_cosine {
namespace NEGATIVE_COSINE_ISA {
namespace {

void inverse_norms(DataType type, const void* rows, int64_t dim, int64_t begin,
                   int64_t end, void* inverse_norms) {
  with_storage_type(type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(dim);
    for (int64_t row = begin; row < end; ++row) {
      static_cast<Real*>(inverse_norms)[row] =
          inverse_norm(shape, static_cast<const Storage*>(rows) + row * dim);
    }
  });
}

// Which row or document stands at a place: on the ring, or by its own number.
NEGATIVE_COSINE_INLINE int64_t index_at(Ring ring, int64_t place) {
  return ring != nullptr ? ring[place] : place;
}

void forward_rows(const LossParams& params, const ForwardOutputs& outputs,
                  const void* query_inverse_norms, const CandidateSource& source,
                  RowScratch scratch, int64_t begin, int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    const Workspace<Real> work(scratch, shape, params.num_negatives);
    const bool meets_candidates = params.normalize_over == NormalizeOver::kCandidates ||
                                  outputs.num_kept != nullptr;
    for_each_row_with_lists(
        work, begin, end,
        [&](int64_t place, int32_t* buffer) {
          const int64_t row = index_at(source.ring, place);
          return meets_candidates && row < params.batch_size
                     ? kept_candidates(params, source, row, place, buffer)
                     : IndexList{nullptr, 0};
        },
        [&](int64_t place, const IndexList& list, const IndexList& next) {
          const int64_t row = index_at(source.ring, place);
          if (row >= params.batch_size) return;
          forward_row<Storage>(params, outputs, shape, work,
                               static_cast<const Real*>(query_inverse_norms)[row], row,
                               list, next);
        });
  });
}

void query_gradient_rows(const LossParams& params, const GradientArguments& arguments,
                         const void* facts, int64_t begin, int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    for (int64_t row = begin; row < end; ++row) {
      query_gradient_row<Storage>(
          params, arguments, static_cast<const RowFacts<Real>*>(facts), shape, row);
    }
  });
}

void doc_gradient_rows(const LossParams& params, const GradientArguments& arguments,
                       const void* facts, const RowsOfDocs& rows_of_docs,
                       RowScratch scratch, int64_t begin, int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    const Workspace<Real> work(scratch, shape, params.num_negatives);
    const auto* row_facts = static_cast<const RowFacts<Real>*>(facts);
    const bool met_candidates =
        params.normalize_over == NormalizeOver::kCandidates && params.batch_size > 0;
    for_each_row_with_lists(
        work, begin, end,
        [&](int64_t place, int32_t* buffer) {
          const int64_t doc = index_at(rows_of_docs.ring, place);
          return met_candidates ? kept_rows(params, rows_of_docs, doc, place, buffer)
                                : IndexList{nullptr, 0};
        },
        [&](int64_t place, const IndexList& list, const IndexList& next) {
          const int64_t doc = index_at(rows_of_docs.ring, place);
          doc_gradient_row<Storage>(params, arguments, row_facts, shape, work, doc,
                                    list, next);
        });
  });
}

void sample_rows(const KeyTable& keys, int64_t num_negatives, RowScratch scratch,
                 int64_t begin, int64_t end, int32_t* table) {
  auto* candidates = static_cast<int32_t*>(scratch);
  for (int64_t row = begin; row < end; ++row) {
    permute_by_each_key(keys, row, candidates);
    __builtin_memcpy(table + row * num_negatives, candidates,
                     sizeof(int32_t) * static_cast<size_t>(num_negatives));
  }
}

}  // namespace

const CpuKernels& kernels() {
  static const CpuKernels table = {NEGATIVE_COSINE_NAME(NEGATIVE_COSINE_ISA),
                                   inverse_norms,
                                   ring_order,
                                   forward_rows,
                                   query_gradient_rows,
                                   doc_gradient_rows,
                                   sample_rows,
                                   sum_of_rows};
  return table;
}

}  // namespace NEGATIVE_COSINE_ISA
}  // namespace negative_cosine
