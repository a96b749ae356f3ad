#include "ops/norms/affine.h"

#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"

namespace tandem::detail {

void check_affine(const char* op, const char* what, const Tensor& parameter, const Shape& shape,
                  const Tensor& x) {
  if (!parameter.defined()) return;
  check<ShapeError>(parameter.shape() == shape, "{}: {} is {}, expected shape {} for x {}", op, what,
                    describe(parameter), shape, describe(x));
  check<DTypeError>(
      parameter.dtype() == x.dtype() || (x.dtype() == DType::bf16 && parameter.dtype() == DType::f32),
      "{}: {} is {}, expected the dtype of x {}", op, what, describe(parameter), describe(x));
}

Tensor affine_values(const Tensor& parameter, const Shape& shape, DType dtype, int passes, double value,
                     Device device) {
  const Tensor wide = parameter.defined() ? parameter.detach().to(dtype)
                                          : full(shape, value, {.dtype = dtype, .device = device});
  return dense(with_pass_dim(wide, passes));
}

// With a = g weight: dx = rstd (a - mean(a) - xhat mean(a xhat)).
Tensors composed_norm_vjp(const Tensor& cotangent, const Tensor& input, const Tensor& weight,
                          const Shape& dims, double eps, bool centred) {
  const DType wide = input.dtype() == DType::bf16 ? DType::f32 : input.dtype();
  const Tensor g = cotangent.to(wide), x = input.to(wide);
  const Tensor deviation = centred ? x - mean(x, dims, true) : x;
  const Tensor rstd = rsqrt(mean(square(deviation), dims, true) + eps);
  const Tensor xhat = deviation * rstd;
  const Tensor a = weight.defined() ? g * weight : g;
  const Tensor scaled = a - xhat * mean(a * xhat, dims, true);
  return {rstd * (centred ? scaled - mean(a, dims, true) : scaled), g * xhat, g};
}

}  // namespace tandem::detail
