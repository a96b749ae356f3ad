// The rules of in-place writes. The tape does not record them, so what it needs is not written to.
#pragma once

#include "autograd/tensor.h"

namespace tandem::detail {

struct Write {
  const char* op;
  const char* instead;  // a recorded expression that does the same: "h = h + y"
};

// AutogradError for a tensor of the tape, ValueError for one whose elements share places in memory.
void check_writable(const Write& write, const Tensor& target);
// DTypeError where numbers of the source would be cut; a float may be rounded.
void check_wide_enough(const Write& write, const Tensor& target, const Tensor& source);
// ShapeError unless the source broadcasts to the target and adds no passes to it.
void check_fits(const char* op, const Tensor& target, const Tensor& source);
// What is read of the source: nothing the tape should have seen (AutogradError), and not the target's own
// memory in another order.
Tensor readable(const Write& write, const Tensor& target, const Tensor& source);

// x[start:end:step] along dim as an unrecorded view, also where the step is negative: what is written to.
Tensor slice_view(const Tensor& x, int dim, int64_t start, int64_t end, int64_t step);

}  // namespace tandem::detail
