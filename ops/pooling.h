// Pooling of maps [..., H, W]; all leading dimensions are independent maps. Sizes are {height, width}, or one
// number for both: max_pool2d(x, 2).
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// Windows: H' = (H + 2 padding - kernel) / stride + 1, the same for W. An empty stride is the size of
// the kernel. ShapeError when a window would lie in padding alone or sizes do not fit.

// The largest value of every window; the gradient goes to the first of equal ones, and NaN wins.
Tensor max_pool2d(const Tensor& x, const Shape& kernel, const Shape& stride = {},
                  const Shape& padding = {0, 0});
// The mean of every window; zeros of the padding count unless count_include_pad is false.
Tensor avg_pool2d(const Tensor& x, const Shape& kernel, const Shape& stride = {},
                  const Shape& padding = {0, 0}, bool count_include_pad = true);
// The means of size[0] x size[1] windows that cover the map: window i is [floor(i H / H'), ceil((i + 1) H /
// H')). {1, 1} is the global mean.
Tensor adaptive_avg_pool2d(const Tensor& x, const Shape& size);

}  // namespace tandem
