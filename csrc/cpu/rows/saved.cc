#include "cpu/rows/saved.h"

#include <cstring>

#include "core/formulas.h"

namespace negative_cosine::cpu {
namespace {

constexpr int64_t kCyclesOfARow = 60;

// By bytes: the caller's memory may be aligned to a Real alone, as NumPy's is.
template <typename Real>
SavedRow<Real> load_saved_row(const LossParams& params,
                              const GradientArguments& arguments, int64_t row) {
  SavedRow<Real> saved;
  const auto* from = static_cast<const char*>(arguments.saved_rows);
  std::memcpy(&saved, from + row * int64_t{sizeof saved}, sizeof saved);
  saved.candidate_coefficient = zero_safe_product(
      saved.candidate_coefficient, upstream_of_row<Real>(params, arguments, row));
  return saved;
}

}  // namespace

void load_rows_of_query(const LossParams& params, const GradientArguments& arguments,
                        double coefficient_sum, const AnyRowsOfQuery& rows,
                        const ParallelFor& parallel_for) {
  with_compute_type(params.data_type, [&](auto real) {
    using Real = decltype(real);
    const auto* row_loss = static_cast<const Real*>(arguments.row_loss);
    auto* saved = static_cast<SavedRow<Real>*>(rows.saved);
    auto* coefficients = static_cast<RowCoefficients<Real>*>(rows.coefficients);
    parallel_for(params.batch_size, kCyclesOfARow, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        saved[row] = load_saved_row<Real>(params, arguments, row);
        coefficients[row] = row_coefficients(
            params, row, row_loss[row], upstream_of_row<Real>(params, arguments, row),
            coefficient_sum);
      }
    });
  });
}

}  // namespace negative_cosine::cpu
