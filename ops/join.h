// Joining tensors along a dimension, repeating one, and taking them apart again. Parts are views. A part that
// is the same in all passes (a class token) joins parts of m passes: the result has m.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// The tensors one after the other along dim: equal sizes in every other dimension; promoted to one dtype.
Tensor cat(const Tensors& tensors, int64_t dim = 0);
inline Tensor concat(const Tensors& tensors, int64_t dim = 0) { return cat(tensors, dim); }
// Tensors of one shape along a new dimension.
Tensor stack(const Tensors& tensors, int64_t dim = 0);

// Parts of `size` along dim, the last perhaps smaller; or parts of these sizes, which must add up.
Tensors split(const Tensor& x, int64_t size, int64_t dim = 0);
Tensors split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim = 0);
// At most `chunks` parts of equal size, the last perhaps smaller.
Tensors chunk(const Tensor& x, int64_t chunks, int64_t dim = 0);
// The slices along dim, without that dimension.
Tensors unbind(const Tensor& x, int64_t dim = 0);

// x repeats[d] times along each dimension d; of more repeats than dimensions the first make new ones.
// torch.tile, and Tensor.repeat. ValueError for negative repeats.
Tensor tile(const Tensor& x, const Shape& repeats);
// Every slice along dim `repeats` times, one beside the other. Without dim: every element, as a vector.
Tensor repeat_interleave(const Tensor& x, int64_t repeats, int64_t dim);
Tensor repeat_interleave(const Tensor& x, int64_t repeats);

// Which of a meshgrid's vectors varies down the rows: the first (ij) or the second (xy).
enum class Indexing { ij, xy };
// Vectors (or numbers) of sizes n0, n1, ... as tensors [n0, n1, ...]; the i-th varies along dimension i
// alone. xy exchanges the first two dimensions. ShapeError for tensors of more dimensions.
Tensors meshgrid(const Tensors& tensors, Indexing indexing = Indexing::ij);

}  // namespace tandem
