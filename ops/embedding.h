// Rows of a table by their numbers.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// weight[indices]: weight [V, D], indices (i32, i64) of any shape; gives [indices..., D]. The gradient of row
// padding_idx is 0 (-1: no such row). Its sums are made in the order of the indices, for any number of
// threads. ValueError for an index outside of [0, V).
Tensor embedding(const Tensor& weight, const Tensor& indices, int64_t padding_idx = -1);

}  // namespace tandem
