// Sizes of the problems that cuDNN is asked to solve.
#pragma once

#include <array>
#include <cstdint>

namespace tandem::cuda {

// softmax(scale q k^T) v. Strides of [batch, heads, rows, columns] in elements, columns dense.
struct AttentionShape {
  int64_t batch, heads, queries, keys, dim, value_dim;
  using Strides = std::array<int64_t, 3>;  // of batch, heads, rows
  Strides q = {}, k = {}, v = {}, out = {};
  double scale;
  bool causal;  // query t sees keys <= t
};
struct AttentionGradShape : AttentionShape {
  Strides dout, dq, dk, dv;
};

}  // namespace tandem::cuda
