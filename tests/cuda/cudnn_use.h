// How much of its work the device gives to cuDNN, while this lives: "never" or "always" (cuda/dnn.h).
#pragma once

#include <cstdlib>

namespace tandem::testing {

class CudnnUse {
 public:
  explicit CudnnUse(const char* use) { setenv("TANDEM_CUDNN", use, 1); }
  ~CudnnUse() { unsetenv("TANDEM_CUDNN"); }
  CudnnUse(const CudnnUse&) = delete;
  CudnnUse& operator=(const CudnnUse&) = delete;
};

}  // namespace tandem::testing
