// What the gradient pass knows of each query row besides its embedding, with the
// upstream gradient in it.
#pragma once

#include "core/formulas.h"
#include "core/params.h"

namespace negative_cosine::cpu {

template <typename Real>
struct RowsOfQuery {
  const SavedRow<Real>* saved;                // by the forward pass
  const RowCoefficients<Real>* coefficients;  // of the row's own pair
};

// The same of any compute type.
struct AnyRowsOfQuery {
  void* saved;
  void* coefficients;

  template <typename Real>
  NEGATIVE_COSINE_INLINE_MEMBER RowsOfQuery<Real> as() const {
    return {static_cast<const SavedRow<Real>*>(saved),
            static_cast<const RowCoefficients<Real>*>(coefficients)};
  }
};

}  // namespace negative_cosine::cpu
