// Arguments of the kernel for the backward of a linear layer's bias and activation f, compiled by host and
// device:
//   dz = g f'(z),  sums (+)= the sums of dz's columns, which are the bias' gradient
#pragma once

#include "ops/activations_kernel.h"
#include "ops/gelu_kernel.h"
#include "ops/loops/pointwise_parts.h"
#include "ops/products/activation.h"

namespace tandem::detail {

template <class T> struct LinearSweep {
  Activation activation = Activation::none;
  const T* g = nullptr;  // [rows, cols], rows row_stride apart
  const T* z = nullptr;  // like g; for relu it may be the output, whose sign is that of z; unused for none
  T* dz = nullptr;       // dense, or null
  accumulate_t<T>* sums = nullptr;  // [cols], or null
  bool accumulate = false;          // to sums
  int64_t rows = 0, cols = 0, row_stride = 0;
};

struct NoActivation {
  template <class T> static constexpr T derivative(T) { return 1; }
};

// body.operator()<F>() with the functor of an activation, of which derivative(z) is f'(z).
template <class Body> decltype(auto) with_activation(Activation f, Body&& body) {
  switch (f) {
    case Activation::relu:
      return body.template operator()<Relu>();
    case Activation::gelu:
      return body.template operator()<GeluExact>();
    case Activation::gelu_tanh:
      return body.template operator()<GeluTanh>();
    default:
      return body.template operator()<NoActivation>();
  }
}

}  // namespace tandem::detail
