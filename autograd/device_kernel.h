// How an op reaches the kernel of another device. A kernel is a function of Args, a plain struct of pointers
// and sizes in a header that the host's and the device's compiler both read:
//
//   template <class T> struct SoftmaxRows { const T* x; T* y; int64_t rows, n; };
//
// The op fills it and asks run_on_device(x, args) (autograd/kernel.h). The device's part (ops/softmax.cu)
// makes the kernel and sets the pointer below, once, when it is loaded:
//
//   const RegisterKernel<SoftmaxRows<float>> softmax_f32{launch<float>};
#pragma once

namespace tandem {

template <class Args>
using DeviceKernel = void (*)(const Args& args);

// Null where no device's part has a kernel for these Args. Visible in all libraries of the process.
template <class Args>
inline DeviceKernel<Args> device_kernel = nullptr;

template <class Args>
struct RegisterKernel {
  explicit RegisterKernel(DeviceKernel<Args> kernel) { device_kernel<Args> = kernel; }
};

}  // namespace tandem
