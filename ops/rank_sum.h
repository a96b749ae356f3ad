// Sums over the ranks that compute a batch together (autograd/ranks.h).
#pragma once

#include "autograd/ranks.h"
#include "autograd/tensor.h"

namespace tandem {

// y = sum over the group's ranks of their x, on each of them: x itself where there is one. f32 or f64, of one
// shape and as many passes everywhere; added up in f64. The gradient of all ranks' losses reaches every x:
// dx = the same sum of dy. All of the group's ranks call it, in forward and in backward.
Tensor sum_over_ranks(const Tensor& x, const RankGroup& group);

}  // namespace tandem
