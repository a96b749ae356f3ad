// Graphs of cuda/dnn_ops.h on the simulated device, with tensors of the host around them.
#pragma once
#include <cudnn.h>
#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "autograd/tensor.h"
#include "cuda/dnn_ops.h"
#include "device_array.h"
#include "sim.h"

namespace dnn_test {

using tandem::DType;
using tandem::Shape;
using tandem::Tensor;

class Handle {
 public:
  Handle() { REQUIRE(cudnnCreate(&raw_) == CUDNN_STATUS_SUCCESS); }
  ~Handle() { cudnnDestroy(raw_); }
  operator cudnnHandle_t() const { return raw_; }

 private:
  cudnnHandle_t raw_ = nullptr;
};

// The memory of a tensor, on the device; an output is not initialised there.
class OnDevice {
 public:
  static OnDevice input(const Tensor& host) {
    const Tensor dense = host.clone();
    OnDevice made(dense.shape(), dense.dtype());
    require(cudaMemcpy(made.data(), dense.raw(), made.bytes(), cudaMemcpyHostToDevice));
    return made;
  }
  static OnDevice output(const Shape& shape, DType dtype) { return {shape, dtype}; }

  void* data() const { return memory_->data(); }
  int64_t bytes() const { return shape_.numel() * size_of(dtype_); }
  Tensor host() const {
    const Tensor made = tandem::empty(shape_, {dtype_});
    require(cudaMemcpy(made.raw(), data(), bytes(), cudaMemcpyDeviceToHost));
    return made;
  }

 private:
  OnDevice(const Shape& shape, DType dtype)
      : shape_(shape),
        dtype_(dtype),
        memory_(std::make_shared<DeviceArray<std::byte>>(shape.numel() * size_of(dtype))) {}
  Shape shape_;
  DType dtype_;
  std::shared_ptr<DeviceArray<std::byte>> memory_;
};

// Plans and runs a graph; the tensors are in its order.
inline void run(DType dtype, const std::function<void(tandem::cuda::DnnGraph&)>& build,
                const std::vector<OnDevice>& tensors) {
  const Handle handle;
  const tandem::cuda::DnnSearch found =
      tandem::cuda::find_dnn_plan({.handle = handle}, tandem::cuda::dnn_policy(dtype), 16, build);
  REQUIRE_MESSAGE(found.plan.has_value(), found.reason);
  std::vector<void*> pointers;
  for (const OnDevice& tensor : tensors) pointers.push_back(tensor.data());
  const DeviceArray<std::byte> workspace(found.plan->workspace());
  found.plan->execute(handle, pointers, workspace.data());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

inline bool close(const Tensor& a, const Tensor& b, double tolerance) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  if (x.size() != y.size()) return false;
  double distance = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) distance += std::pow(x[i] - y[i], 2), size += y[i] * y[i];
  return std::sqrt(distance) <= tolerance * std::max(1e-3, std::sqrt(size));
}
inline double tolerance(DType dtype) {
  return dtype == DType::f64 ? 1e-13 : dtype == DType::f32 ? 2e-6 : 6e-3;
}

}  // namespace dnn_test
