// Reading and writing at positions given by an index tensor (i32 or i64). An index outside of the dimension
// is a ValueError naming it; negative ones are outside. Gradients are the same bits for any number of
// threads.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// out[i][j][k] = x[i][index[i][j][k]][k] for dim = 1; the shape of `index`, which has the dimensions of x and
// is no larger than x in every other one.
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);

// A copy of x with out[i][index[i][j][k]][k] = src[i][j][k] for dim = 1. `index` as for gather; `src` has its
// shape. Of several sources for one element the last along dim wins, and gets the gradient.
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src);

// The same with += instead of =.
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src);

// The slices of x along dim that `indices` (one-dimensional) names, in its order.
Tensor index_select(const Tensor& x, int64_t dim, const Tensor& indices);

// Indices [...] -> [..., classes]: 1 at the index, 0 elsewhere. -1 classes: one more than the largest index,
// for which a device is waited for. ValueError for no classes.
Tensor one_hot(const Tensor& indices, int64_t classes = -1, DType dtype = DType::i64);

}  // namespace tandem
