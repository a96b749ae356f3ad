#include "cuda/pointwise.cuh"
#include "ops/pointwise_kernel.h"

namespace tandem {
namespace {

using namespace detail;

const bool registered = [] {
  cuda::register_pointwise<Abs, Square, Reciprocal, Exp, Expm1, Log, Log1p, Sqrt, Rsqrt, Sin, Cos, Erf>();
  return true;
}();

}  // namespace
}  // namespace tandem
