#include "cuda/pointwise.cuh"
#include "ops/pointwise_kernel.h"

namespace tandem {
namespace {

using namespace detail;

const RegisterKernels registered{[] {
  cuda::register_pointwise<Abs, Square, Reciprocal, Exp, Expm1, Log, Log1p, Sqrt, Rsqrt, Sin, Cos, Erf>();
}};

}  // namespace
}  // namespace tandem
