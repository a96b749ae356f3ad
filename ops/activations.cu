#include "cuda/pointwise.cuh"
#include "ops/detail/activations.h"
#include "ops/detail/gelu.h"

namespace tandem {
namespace {

using namespace detail;

const bool registered = [] {
  cuda::register_pointwise<Relu, LeakyRelu, Elu, Tanh, Sigmoid, Silu, Softplus, GeluExact, GeluTanh>();
  return true;
}();

}  // namespace
}  // namespace tandem
