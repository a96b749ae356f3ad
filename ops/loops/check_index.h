// The check of index tensors as a device's kernel is told of it.
#pragma once

#include "autograd/pending_error.h"

namespace tandem::detail {

// Leaves `error`, whose values[0] becomes the first index outside of [0, error.values[1]), unless there is
// none.
struct CheckIndex {
  const int64_t* index;
  int64_t n;
  PendingError error;
};

}  // namespace tandem::detail
