// Which positions of a batch of texts a model computes: padding, whose output nobody reads, is left out where
// that pays (autograd/packed_rows.h).
#pragma once

#include <vector>

#include "autograd/packed_rows.h"
#include "autograd/tensor.h"

namespace tandem::models {

// What is wanted of one batch.
struct Wanted {
  Tensor positions;         // bool [B, T], true where a position is read by others or by the loss
  bool from_start = false;  // the positions before the first of them are needed, too
};

// The rows of each of these batches, of every text from its first to its last wanted position. Undefined, all
// of them: they are not to be packed, being on a device, or having less padding than pays.
std::vector<PackedRows> without_padding(const std::vector<Wanted>& batches);

// pack_padded and pad_packed where the rows are defined; x itself where not.
Tensor packed(const Tensor& x, const PackedRows& rows);
Tensor padded(const Tensor& x, const PackedRows& rows);

// packed() of a mask of padding, bool [B, T]; undefined where none is left in the rows.
Tensor padding_within(const Tensor& padding, const PackedRows& rows);

// The position of each row: i64 [rows], for defined ones.
Tensor positions_of(const PackedRows& rows);

}  // namespace tandem::models
