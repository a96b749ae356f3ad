// Dense copies, also of another dtype or on another device; the gradient is copied back.
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"

namespace tandem {
namespace {

struct Copy final : Op {
  DType dtype, from = DType::f32;
  explicit Copy(DType dtype) : dtype(dtype) {}
  const char* name() const override { return "copy"; }
  Tensor forward(const Tensors& in) override {
    from = in[0].dtype();
    const Tensor out = output(in[0].shape(), dtype, in[0].device());
    copy_elements(out, in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {g.to(from)}; }
};

struct ToDevice final : Op {  // one of the two is the CPU
  Device device, from = kCpu;
  explicit ToDevice(Device device) : device(device) {}
  const char* name() const override { return "to_device"; }
  Tensor forward(const Tensors& in) override {
    from = in[0].device();
    const Tensor x = dense(in[0]), out = output(x.shape(), x.dtype(), device);
    const int64_t bytes = x.numel() * x.passes() * size_of(x.dtype());
    if (device == kCpu) {
      backend(from).copy_to_host(out.raw(), x.device_raw(), bytes);
    } else {
      backend(device).copy_from_host(out.device_raw(), x.raw(), bytes);
    }
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {g.to(from)}; }
};

}  // namespace

Tensor Tensor::clone() const { return apply<Copy>({*this}, dtype()); }
Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }
Tensor Tensor::to(DType wanted) const { return wanted == dtype() ? *this : apply<Copy>({*this}, wanted); }
Tensor Tensor::to(Device wanted) const {
  return wanted == device() ? *this : apply<ToDevice>({*this}, wanted);
}

namespace {

const RegisterOp copy_op("copy", [](OpCases& c) {
  c.sample("clone", {c.normal({3, 4})}, [](auto& in) { return in[0].t().clone(); });
  c.sample("in f64", {c.normal({3, 4})}, [](auto& in) { return in[0].to(DType::f64); });
  c.fails<ShapeError>("shapes", "copy: shapes [2] and [3] do not broadcast",
                      [] { zeros({2}).copy_(zeros({3})); });
});

// On the CPU nothing moves; on a device this is two copies.
void to_device_cases(OpCases& c) {
  const auto to_host_and_back = [](const Tensors& in) { return in[0].to(kCpu).to(in[0].device()); };
  c.sample("3x4", {c.normal({3, 4})}, to_host_and_back);
  c.sample("transposed", {c.normal({3, 4})}, [=](auto& in) { return to_host_and_back({in[0].t()}); });
  c.sample("empty", {c.normal({0, 3})}, to_host_and_back);
}
const RegisterOp to_device_op("to_device", to_device_cases,
                              {.no_errors = "takes any tensor; fails only where a device is missing"});

}  // namespace
}  // namespace tandem
