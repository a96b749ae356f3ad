// Views and rearrangements. Results share memory with x where strides can express them; the gradient is the
// inverse rearrangement. Dimensions may be counted from the end (negative).
#pragma once

#include "autograd/tensor.h"

namespace tandem {

Tensor reshape(const Tensor& x, const Shape& shape);      // one size may be -1; copies only where it must
Tensor permute(const Tensor& x, const Shape& dims);       // dims is a permutation of 0..dim-1
Tensor transpose(const Tensor& x, int64_t a, int64_t b);  // the two dimensions exchanged
Tensor expand(const Tensor& x, const Shape& shape);  // stride 0 along stretched dimensions; -1 keeps a size
// start:end:step along dim, with Python's rules: negative numbers count from the end, what is beyond the ends
// is clipped. A negative step goes from the end, and copies. ValueError for step 0.
Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t end, int64_t step = 1);
Tensor select(const Tensor& x, int64_t dim, int64_t index);  // one slice, without that dimension

// The elements of x where the index of dim2 is that of dim1 plus offset, along a new last dimension in place
// of both: diagonal(x) of [N, M] is [min(N, M)], and 0-sized where there is none. ShapeError for equal dims.
Tensor diagonal(const Tensor& x, int64_t offset = 0, int64_t dim1 = 0, int64_t dim2 = 1);
// That of a matrix, or the matrix of zeros with the vector x as this diagonal (a copy). ShapeError otherwise,
// ValueError for a diagonal that is 2^31 away.
Tensor diag(const Tensor& x, int64_t diagonal = 0);

}  // namespace tandem
