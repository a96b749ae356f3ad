// The ops that autograd itself computes with. It includes nothing of ops/, which defines them: add and mul in
// arithmetic.cpp, sum_to in reduce.cpp.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor add(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);

// x summed over the dimensions (and passes) along which `shape` and `passes` were broadcast to x.
Tensor sum_to(const Tensor& x, const Shape& shape, int passes);

}  // namespace tandem
