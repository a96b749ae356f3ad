// Keeps a table of tensors (nn/optim/tensor_rows.h) on their device.
#pragma once

#include <vector>

#include "autograd/tensor.h"
#include "nn/optim/tensor_rows.h"

namespace tandem::nn {

// One update of many parameters of a dtype, all on one device.
struct DeviceUpdate {
  TensorRows tensors;
  Tensor on;  // one of the parameters
  double lr;
  int64_t steps;       // the number of the update, to which a row adds its steps_ahead
  const double* norm;  // of the gradients, on the device; or null
};

class TensorTable {
 public:
  // The rows on the device, where their tensors are; copied only when they differ from those of the last
  // call. Fills in first_chunk and aligned.
  TensorRows rows(std::vector<TensorRow> rows, Device device);

 private:
  struct Copy {
    Tensor memory;
    TensorRows rows;
  };
  static Copy make(const std::vector<TensorRow>& rows, int64_t chunks, Device device);

  std::vector<TensorRow> last_;
  Copy copy_;
  std::vector<Copy> recorded_;  // a recorded step reads its own at every replay
};

}  // namespace tandem::nn
