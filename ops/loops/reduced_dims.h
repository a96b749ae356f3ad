// The dimensions that an op reduces.
#pragma once

#include <vector>

#include "autograd/tensor.h"

namespace tandem::detail {

// For each dimension of x whether it is reduced: those in dims, or all where dims is empty. ShapeError
// for one that x does not have or that is named twice.
inline std::vector<bool> reduced_dims(const char* op, const Tensor& x, const Shape& dims) {
  std::vector<bool> reduced(x.dim(), dims.empty());
  for (int64_t dim : wrap_dims(op, dims, x.dim())) reduced[dim] = true;
  return reduced;
}

// The shape of x without them, or with size 1 in their places.
inline Shape reduced_shape(const Tensor& x, const std::vector<bool>& reduced, bool keepdim) {
  Shape shape;
  for (int i = 0; i < x.dim(); ++i) {
    if (!reduced[i] || keepdim) shape.push_back(reduced[i] ? 1 : x.shape()[i]);
  }
  return shape;
}

// x with the reduced dimensions as one, the last.
inline Tensor reduced_last(const Tensor& x, const std::vector<bool>& reduced) {
  Shape order, shape = reduced_shape(x, reduced, false);
  int64_t n = 1;
  for (int i = 0; i < x.dim(); ++i) {
    if (!reduced[i]) order.push_back(i);
  }
  for (int i = 0; i < x.dim(); ++i) {
    if (reduced[i]) order.push_back(i), n *= x.shape()[i];
  }
  shape.push_back(n);
  return x.permute(order).reshape(shape);
}

}  // namespace tandem::detail
