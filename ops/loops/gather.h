// gather and scatter without the check of their index; dimensions brought to where they are fast.
#pragma once

#include "autograd/tensor.h"

namespace tandem::detail {

// gather(x, dim, index) with an i64 index that an op has made itself, so that it is in range.
Tensor gather_known(const Tensor& x, int dim, const Tensor& index);

// out[p with p[dim] replaced by index[p]] = src[p], in place and unrecorded, with such an index. Of several
// for one element the last along dim stays.
void write_known(const Tensor& out, int dim, const Tensor& index, const Tensor& src);

// x with dim and its last dimension exchanged, dense; recorded. Twice, it is x again.
Tensor turned(const Tensor& x, int dim);

}  // namespace tandem::detail
