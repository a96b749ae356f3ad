// Padding and the rearrangements that move elements within a tensor, and triangular masks.
#pragma once

#include <concepts>

#include "autograd/tensor.h"

namespace tandem {

// Constant padding; `sizes` = {last left, last right, second-to-last left, ...}, each at least 0.
Tensor pad(const Tensor& x, const std::vector<int64_t>& sizes, double value = 0);
// Reversed along each of dims.
Tensor flip(const Tensor& x, const Shape& dims);
// Shifted by shifts[i] along dims[i]; what leaves at the end enters at the start. Without dims: one shift of
// all elements in row-major order.
Tensor roll(const Tensor& x, const std::vector<int64_t>& shifts, const Shape& dims = {});
template <std::integral I> Tensor roll(const Tensor& x, I shift) {
  return roll(x, std::vector<int64_t>{static_cast<int64_t>(shift)});
}
template <std::integral I, std::integral D> Tensor roll(const Tensor& x, I shift, D dim) {
  return roll(x, std::vector<int64_t>{static_cast<int64_t>(shift)}, Shape{static_cast<int64_t>(dim)});
}

// x [..., rows, columns] with zeros above (tril) or below (triu) the diagonal `diagonal`: 0 is the main one,
// positive ones lie above it.
Tensor tril(const Tensor& x, int64_t diagonal = 0);
Tensor triu(const Tensor& x, int64_t diagonal = 0);
// bool [queries, keys]: true where the query may NOT see the key, which is later: for masked_fill.
Tensor causal_mask(int64_t queries, int64_t keys, Device device = kCpu);
inline Tensor causal_mask(int64_t n, Device device = kCpu) { return causal_mask(n, n, device); }

}  // namespace tandem
