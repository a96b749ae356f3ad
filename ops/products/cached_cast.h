// Weights in the dtype of a product, converted once for as long as they are not written to.
#pragma once

#include "autograd/tensor.h"

namespace tandem::detail {

// w in `dtype`, unrecorded. The copy belongs to w's storage, serves all views of it, is made again after an
// in-place write and freed with it. Any number of threads may ask.
Tensor cached_cast(const Tensor& w, DType dtype);

// The parts, which have equal sizes but for the first, one below the other in `dtype`, unrecorded. For as
// long as none is written to where each is all of its memory, in order; a copy of its own each time
// otherwise. It belongs to the first part's storage; any number of threads may ask.
Tensor cached_join(const Tensors& parts, DType dtype);

}  // namespace tandem::detail
