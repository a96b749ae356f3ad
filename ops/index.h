// What Python writes with brackets, x[indices] with integers, slices, masks and tensors of places
// (autograd/index.h), and what belongs to masks. x.index(indices), a method of Tensor, reads.
//
// PyTorch's rules: integers, slices, Ellipsis and NewAxis first; then the dimensions that tensors name are
// replaced by the shape to which these broadcast (a mask of n dimensions names n, and counts as the places
// where it is true), in front of all others unless they are neighbours. Places are not negative. A tensor of
// no dimension is one of places, here, too.
//
// Masks and tensors of places are of one pass: ShapeError otherwise, as passes could differ in size. The
// number of true elements is needed on the host, so on a device masks wait for its work.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// A copy of x with x[indices] = values, which are broadcast and converted to the dtype of x. Of places that
// are named twice the last gets the value; `accumulate` adds up instead. Gradients go to x, but where it was
// replaced, and to values. x.index_put_ and x.index(indices) = values do the same in place, unrecorded.
// ShapeError or DTypeError for values that do not fit, ValueError for places beyond the dimension.
Tensor index_put(const Tensor& x, const IndexList& indices, const Tensor& values, bool accumulate = false);
Tensor index_put(const Tensor& x, const IndexList& indices, double value, bool accumulate = false);

// The elements of x where mask (bool, both broadcast) is true, in one dimension.
Tensor masked_select(const Tensor& x, const Tensor& mask);

// The places of elements other than 0, in row-major order: i64 [n, dimensions of x].
Tensor nonzero(const Tensor& x);

}  // namespace tandem
