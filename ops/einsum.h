// Sums of products over named dimensions, as in torch.einsum.
#pragma once

#include <string_view>

#include "autograd/tensor.h"

namespace tandem {

// einsum("bij,bjk->bik", {a, b}). One term of letters (a-z, A-Z) for each tensor names its dimensions; the
// result has those behind "->", and what is not among them is summed. Without "->" these are the letters that
// occur once, A to Z, then a to z.
// - A letter twice in one term: the diagonal. "ii" is the trace.
// - "...": all other dimensions, broadcast from the right; in front of the result where "->" is left out, and
//   summed where it is not behind it.
// - Sizes of one letter are equal, or 1, which stretches.
// The tensors are multiplied from left to right: matrix products where letters are summed, whose order is
// thus the caller's choice. Floating dtypes, promoted.
// ValueError: an equation that cannot be read, or has another number of terms than there are tensors;
// ShapeError: letters and sizes that do not fit, results of more than 8 dimensions; DTypeError.
Tensor einsum(std::string_view equation, const Tensors& tensors);
// einsum("ij,jk->ik", a, b), as torch also has it.
template <class... T> Tensor einsum(std::string_view equation, const Tensor& first, const T&... others) {
  return einsum(equation, Tensors{first, others...});
}

}  // namespace tandem
