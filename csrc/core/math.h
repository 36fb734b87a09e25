// The few functions of the real numbers that the formulas need, by overload.
//
// From C's <math.h>: the C++ ones are templates, see cpu/kernels.cc.
#pragma once

#include <math.h>

#include "core/portability.h"

namespace negative_cosine {

template <typename Real>
constexpr Real kLargestNumber =
    sizeof(Real) == 4 ? Real(__FLT_MAX__) : Real(__DBL_MAX__);

template <typename Real>
constexpr Real kInfinity = static_cast<Real>(__builtin_inf());

NEGATIVE_COSINE_INLINE float exp_of(float x) { return ::expf(x); }
NEGATIVE_COSINE_INLINE double exp_of(double x) { return ::exp(x); }
NEGATIVE_COSINE_INLINE float expm1_of(float x) { return ::expm1f(x); }
NEGATIVE_COSINE_INLINE double expm1_of(double x) { return ::expm1(x); }
NEGATIVE_COSINE_INLINE float log_of(float x) { return ::logf(x); }
NEGATIVE_COSINE_INLINE double log_of(double x) { return ::log(x); }
NEGATIVE_COSINE_INLINE float log1p_of(float x) { return ::log1pf(x); }
NEGATIVE_COSINE_INLINE double log1p_of(double x) { return ::log1p(x); }
NEGATIVE_COSINE_INLINE float sqrt_of(float x) { return ::sqrtf(x); }
NEGATIVE_COSINE_INLINE double sqrt_of(double x) { return ::sqrt(x); }

}  // namespace negative_cosine
