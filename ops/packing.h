// Batches with padding to packed rows and back (autograd/packed_rows.h).
#pragma once

#include "autograd/packed_rows.h"
#include "autograd/tensor.h"

namespace tandem {

// x [samples, positions, ...] to [rows, ...]: the rows that are no padding. Of any dtype. ValueError for
// undefined rows; ShapeError for rows of another batch.
Tensor pack_padded(const Tensor& x, const PackedRows& rows);

// x [rows, ...] to [samples, positions, ...], 0 (false) at every other position. Errors as of pack_padded.
Tensor pad_packed(const Tensor& x, const PackedRows& rows);

// Both on the CPU and on devices; the gradient of one is the other of the gradient. Example:
//
//   const PackedRows rows({{0, 2}, {1, 2}}, 3);         // of two samples, three positions each
//   Tensor x = arange(6).view({2, 3});                  // 0 1 2, 3 4 5
//   Tensor packed = pack_padded(x, rows);               // 0 1 4
//   Tensor padded = pad_packed(packed, rows);           // 0 1 0, 0 4 0

}  // namespace tandem
