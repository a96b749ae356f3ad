// Sizes of the problems that cuDNN is asked to solve.
#pragma once

#include <array>
#include <cstdint>
#include <variant>

namespace tandem::cuda {

// Rows [rows, columns], each normalised on its own.
struct RowsSize {
  int64_t rows, columns;
};

// Maps [n, channels, h, w], dense.
struct MapsSize {
  int64_t n, channels, h, w;
};

// What a norm is of: layer norm of rows, batch norm of maps.
using NormSize = std::variant<RowsSize, MapsSize>;

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
