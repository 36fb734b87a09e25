// The CPU kernels of one instruction set: compiled once for each (see CMakeLists.txt).
//
// No standard library templates in here: the linker could keep this copy of one for the
// whole program, with instructions that the running processor lacks.
#include "cpu/kernel_table.h"
#include "cpu/rows/forward.h"
#include "cpu/rows/gradient.h"
#include "cpu/tiles/forward.h"
#include "cpu/tiles/gradient.h"

#define NEGATIVE_COSINE_STRING(text) #text
#define NEGATIVE_COSINE_NAME(name) NEGATIVE_COSINE_STRING(name)

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {
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

// Whether the forward pass needs the candidates: for the loss, or for statistics.
bool meets_candidates(const LossParams& params, const ForwardOutputs& outputs) {
  return params.normalize_over == NormalizeOver::kCandidates ||
         outputs.num_kept != nullptr;
}

// Whether documents' gradients have parts from the rows that drew them.
bool meets_rows(const LossParams& params) {
  return params.normalize_over == NormalizeOver::kCandidates && params.batch_size > 0;
}

// Calls work(first place, last place) for tiles begin..end-1 of `places`.
template <typename Work>
void for_each_tile(int64_t places, int64_t begin, int64_t end, const Work& work) {
  const int64_t rows = rows_of_tile(places);
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t last = (tile + 1) * rows;
    work(tile * rows, last < places ? last : places);
  }
}

void forward_rows(const LossParams& params, const ForwardOutputs& outputs,
                  const void* query_inverse_norms, const KeyTable& keys,
                  ThreadScratch scratch, int64_t begin, int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    const Workspace<Real> work(scratch, shape, params.num_negatives);
    const bool meets = meets_candidates(params, outputs);
    for_each_row_with_lists(
        work, begin, end,
        [&](int64_t row, int32_t* buffer) {
          return meets ? kept_candidates(params, keys, row, buffer)
                       : IndexList{nullptr, 0};
        },
        [&](int64_t row, const IndexList& list, const IndexList& next) {
          forward_row<Storage>(params, outputs, shape, work,
                               static_cast<const Real*>(query_inverse_norms)[row], row,
                               list, next);
        });
  });
}

void forward_tiles(const LossParams& params, const ForwardOutputs& outputs,
                   const void* query_inverse_norms, const PlaceOrder& order,
                   ThreadScratch scratch, int64_t begin, int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    const TileMemory<Real> memory(scratch, shape);
    const int64_t met = meets_candidates(params, outputs) ? params.num_negatives : 0;
    const auto work = [&](int64_t first, int64_t last) {
      ForwardTile<Storage>(params, outputs, query_inverse_norms, order, shape, memory,
                           met)
          .run(first, last);
    };
    for_each_tile(num_query_places(params, order), begin, end, work);
  });
}

void query_gradient_rows(const LossParams& params, const GradientArguments& arguments,
                         const AnyRowsOfQuery& rows_of_query, int64_t begin,
                         int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    for (int64_t row = begin; row < end; ++row) {
      query_gradient_row<Storage>(params, arguments, rows_of_query.as<Real>(), shape,
                                  row);
    }
  });
}

void doc_gradient_rows(const LossParams& params, const GradientArguments& arguments,
                       const AnyRowsOfQuery& rows_of_query,
                       const RowsOfDocs& rows_of_docs, ThreadScratch scratch,
                       int64_t begin, int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    const Workspace<Real> work(scratch, shape, params.num_negatives);
    const bool meets = meets_rows(params);
    for_each_row_with_lists(
        work, begin, end,
        [&](int64_t doc, int32_t* buffer) {
          return meets ? kept_rows(params, rows_of_docs, doc, buffer)
                       : IndexList{nullptr, 0};
        },
        [&](int64_t doc, const IndexList& list, const IndexList& next) {
          doc_gradient_row<Storage>(params, arguments, rows_of_query.as<Real>(), shape,
                                    work, doc, list, next);
        });
  });
}

void doc_gradient_tiles(const LossParams& params, const GradientArguments& arguments,
                        const AnyRowsOfQuery& rows_of_query, const PlaceOrder& order,
                        ThreadScratch scratch, int64_t begin, int64_t end) {
  with_storage_type(params.data_type, [&](auto element) {
    using Storage = decltype(element);
    using Real = ComputeType<Storage>;
    const RowShape<Real> shape(params.dim);
    const TileMemory<Real> memory(scratch, shape);
    const int64_t met = meets_rows(params) ? params.num_negatives : 0;
    const auto work = [&](int64_t first, int64_t last) {
      GradientTile<Storage>(params, arguments, rows_of_query.as<Real>(), order, shape,
                            memory, met)
          .run(first, last);
    };
    for_each_tile(params.num_candidates, begin, end, work);
  });
}

void sample_rows(const KeyTable& keys, int64_t num_negatives, ThreadScratch scratch,
                 int64_t begin, int64_t end, int32_t* table) {
  auto* candidates = static_cast<int32_t*>(scratch);
  for (int64_t row = begin; row < end; ++row) {
    permute_by_each_key(keys, row, candidates);
    __builtin_memcpy(table + row * num_negatives, candidates,
                     sizeof(int32_t) * static_cast<size_t>(num_negatives));
  }
}

}  // namespace

const Kernels& kernels() {
  static const Kernels table = {NEGATIVE_COSINE_NAME(NEGATIVE_COSINE_ISA),
                                inverse_norms,
                                permute_range,
                                forward_rows,
                                forward_tiles,
                                query_gradient_rows,
                                doc_gradient_rows,
                                doc_gradient_tiles,
                                sample_rows};
  return table;
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
