#include "ops/pointwise.h"

#include "ops/loops/pointwise_op.h"
#include "ops/pointwise_kernel.h"

namespace tandem {
using namespace detail;
Tensor neg(const Tensor& x) { return -x; }
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

constexpr auto nonzero = &SampleMaker::away_from_zero;
constexpr auto positive = [](SampleMaker& make, const Shape& shape) { return make.uniform(shape, 0.3, 2.5); };

const RegisterOp abs_op = register_pointwise("abs", abs, nonzero);
const RegisterOp square_op = register_pointwise("square", square);
const RegisterOp reciprocal_op = register_pointwise("reciprocal", reciprocal, nonzero);
const RegisterOp exp_op = register_pointwise("exp", exp);
const RegisterOp expm1_op = register_pointwise("expm1", expm1);
const RegisterOp log_op = register_pointwise("log", log, positive);
const RegisterOp log1p_op = register_pointwise("log1p", log1p, positive);
const RegisterOp sqrt_op = register_pointwise("sqrt", sqrt, positive);
const RegisterOp rsqrt_op = register_pointwise("rsqrt", rsqrt, positive);
const RegisterOp sin_op = register_pointwise("sin", sin);
const RegisterOp cos_op = register_pointwise("cos", cos);
const RegisterOp erf_op = register_pointwise("erf", erf);

}  // namespace
}  // namespace tandem
