// Largest and smallest values, and where they are. A NaN is the result wherever there is one; of equal values
// the first is chosen. ShapeError for an empty dimension, or one that x does not have.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// Values, and where in a dimension they were found.
struct ValuesIndices {
  Tensor values;   // differentiable
  Tensor indices;  // i64
};

// The largest (smallest) value along dim and its index. The gradient goes to that element.
ValuesIndices max(const Tensor& x, int64_t dim, bool keepdim = false);
ValuesIndices min(const Tensor& x, int64_t dim, bool keepdim = false);

// Over several dimensions (empty: all). The gradient is shared evenly among equal values.
Tensor amax(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
Tensor amin(const Tensor& x, const Shape& dims = {}, bool keepdim = false);
Tensor max(const Tensor& x);  // amax over all
Tensor min(const Tensor& x);

// Indices alone (i64); without dim into the flattened tensor.
Tensor argmax(const Tensor& x);
Tensor argmin(const Tensor& x);
Tensor argmax(const Tensor& x, int64_t dim, bool keepdim = false);
Tensor argmin(const Tensor& x, int64_t dim, bool keepdim = false);

}  // namespace tandem
