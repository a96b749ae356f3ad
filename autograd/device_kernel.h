// How an op reaches the kernel of another device. A kernel is a function of Args, a plain struct of pointers
// and sizes in a header that the host's and the device's compiler both read:
//
//   template <class T> struct SoftmaxRows { const T* x; T* y; int64_t rows, n; };
//
// The op fills it and asks run_on_device(x, args) (autograd/kernel.h). The device's part (ops/softmax.cu)
// has the kernel, and registers the function that launches it:
//
//   template <class T> void launch(const SoftmaxRows<T>& args) { ... }
//   const RegisterKernels registered{[] {
//     register_kernel(launch<float>);
//     register_kernel(launch<double>);
//   }};
#pragma once

namespace tandem {

template <class Args> using DeviceKernel = void (*)(const Args& args);

// Null where no device's part has a kernel for these Args. Visible in all libraries of the process.
template <class Args> inline DeviceKernel<Args> device_kernel = nullptr;

template <class Args> void register_kernel(void (*kernel)(const Args& args)) { device_kernel<Args> = kernel; }

// Calls a function that registers kernels, when the library that has this object is loaded.
struct RegisterKernels {
  template <class F> explicit RegisterKernels(F register_them) { register_them(); }
};

}  // namespace tandem
