// The op's side of autograd/device_kernel.h.
#pragma once

#include "autograd/device_kernel.h"
#include "autograd/tensor_impl.h"

namespace tandem {

// Runs the kernel of x's device on args; false on the CPU, whose loop follows in the op. DeviceError naming
// the op, the device and x's dtype where the device has none.
template <class Args> bool run_on_device(const Tensor& x, const Args& args) {
  if (x.device() == kCpu) [[likely]]
    return false;
  if (!device_kernel<Args>) missing_kernel(x);
  device_kernel<Args>(args);
  return true;
}

}  // namespace tandem
