// Products with weights that stay as they are: the weight is copied once into the layout that the tile kernel
// reads, so that a product is as fast as the machine multiplies, or reads the weight.
#pragma once

#include "autograd/tensor.h"
#include "ops/products/matmul_args.h"

namespace tandem::detail {

// c = act(a weight^T + bias) of `args`, whose b is weight^T, where that is for this kernel: f32 on the CPU,
// under an InferenceGuard. False: nothing was done. The copy belongs to the
// weight's storage, is made again after an in-place write and freed with it. Any number of threads may ask.
// The same bits for any number of threads, and for a row beside any others.
bool packed_product(const Tensor& weight, const MatmulArgs& args);

}  // namespace tandem::detail
