#include "ops/pointwise.h"

#include "ops/loops/pointwise_op.h"
#include "ops/pointwise_kernel.h"

namespace tandem {
using namespace detail;
Tensor neg(const Tensor& x) { return affine(x, -1, 0); }
Tensor abs(const Tensor& x) { return pointwise<Abs>(x); }
Tensor square(const Tensor& x) { return pointwise<Square>(x); }
Tensor reciprocal(const Tensor& x) { return pointwise<Reciprocal>(x); }
Tensor exp(const Tensor& x) { return pointwise<Exp>(x); }
Tensor expm1(const Tensor& x) { return pointwise<Expm1>(x); }
Tensor log(const Tensor& x) { return pointwise<Log>(x); }
Tensor log1p(const Tensor& x) { return pointwise<Log1p>(x); }
Tensor sqrt(const Tensor& x) { return pointwise<Sqrt>(x); }
Tensor rsqrt(const Tensor& x) { return pointwise<Rsqrt>(x); }
Tensor sin(const Tensor& x) { return pointwise<Sin>(x); }
Tensor cos(const Tensor& x) { return pointwise<Cos>(x); }
Tensor erf(const Tensor& x) { return pointwise<Erf>(x); }

namespace {

const RegisterOp abs_op{pointwise_info("abs", abs, nonzero_input)};
const RegisterOp square_op{pointwise_info("square", square, any_input)};
const RegisterOp reciprocal_op{pointwise_info("reciprocal", reciprocal, nonzero_input)};
const RegisterOp exp_op{pointwise_info("exp", exp, any_input)};
const RegisterOp expm1_op{pointwise_info("expm1", expm1, any_input)};
const RegisterOp log_op{pointwise_info("log", log, positive_input)};
const RegisterOp log1p_op{pointwise_info("log1p", log1p, positive_input)};
const RegisterOp sqrt_op{pointwise_info("sqrt", sqrt, positive_input)};
const RegisterOp rsqrt_op{pointwise_info("rsqrt", rsqrt, positive_input)};
const RegisterOp sin_op{pointwise_info("sin", sin, any_input)};
const RegisterOp cos_op{pointwise_info("cos", cos, any_input)};
const RegisterOp erf_op{pointwise_info("erf", erf, any_input)};

}  // namespace
}  // namespace tandem
