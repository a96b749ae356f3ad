#include "cuda/pointwise.cuh"
#include "ops/activations_kernel.h"
#include "ops/gelu_kernel.h"

namespace tandem {
namespace {

using namespace detail;

const RegisterKernels registered{[] {
  cuda::register_pointwise<Relu, LeakyRelu, Elu, Tanh, Sigmoid, Silu, Softplus, GeluExact, GeluTanh>();
}};

}  // namespace
}  // namespace tandem
