#include "autograd/tensor.h"

#include <cmath>
#include <cstring>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/scope.h"
#include "autograd/tensor_impl.h"

namespace tandem {

Storage::Storage(int64_t bytes, Device device)
    : data(static_cast<char*>(backend(device).allocate(bytes))), bytes(bytes), device(device) {}
Storage::~Storage() { backend(device).release(data, bytes); }

namespace {

const TensorImpl& get(const std::shared_ptr<TensorImpl>& impl) {
  check<AutogradError>(
      impl != nullptr,
      "{}: an undefined Tensor was used, as a grad() is before a backward(), and the bias of a "
      "layer that was made without",
      OpScope::current());
  return *impl;
}

}  // namespace

const Shape& Tensor::shape() const { return get(impl_).shape; }
const Shape& Tensor::strides() const { return get(impl_).strides; }
int64_t Tensor::size(int64_t dim) const { return shape()[wrap_dim("size", dim, this->dim())]; }
int Tensor::passes() const { return get(impl_).passes; }
int64_t Tensor::pass_stride() const { return get(impl_).pass_stride; }
DType Tensor::dtype() const { return get(impl_).dtype; }
Device Tensor::device() const { return get(impl_).storage->device; }

bool Tensor::is_contiguous() const {
  const TensorImpl& x = get(impl_);
  const int64_t numel = x.shape.numel();
  if (numel == 0) return true;
  int64_t step = 1;
  for (int i = x.shape.size() - 1; i >= 0; --i) {
    if (x.shape[i] == 1) continue;
    if (x.strides[i] != step) return false;
    step *= x.shape[i];
  }
  return x.passes == 1 || x.pass_stride == numel;
}

void* Tensor::raw() const {
  if (device() != kCpu) [[unlikely]] {
    check<DeviceError>(!OpScope::none(),
                       "data: the tensor's memory is on {}, expected cpu; to_vector() and to(kCpu) copy it",
                       name_of(device()));
    missing_kernel(*this);
  }
  return device_raw();
}

void* Tensor::device_raw() const {
  const TensorImpl& x = get(impl_);
  return x.storage->data + x.offset * size_of(x.dtype);
}

bool holds_one(const Tensor& x) {
  const Storage& storage = *get(x.impl()).storage;
  return storage.one_at == storage.version;
}

void missing_kernel(const Tensor& x) {
  raise<DeviceError>("{}: no kernel for {} {}", OpScope::current(), name_of(x.device()), name_of(x.dtype()));
}

void Tensor::check_dtype(DType wanted) const {
  if (dtype() == wanted) return;
  raise<DTypeError>("data: the tensor is {}, not {}", name_of(dtype()), name_of(wanted));
}

void check_holds(const char* op, DType dtype, double value) {
  if (holds(dtype, value)) return;
  const auto [least, above] = whole_range(dtype);
  raise<DTypeError>(
      "{}: {} with a tensor of {}, which holds whole numbers from {} to {}; convert it with to()", op, value,
      name_of(dtype), static_cast<int64_t>(least), static_cast<int64_t>(static_cast<uint64_t>(above) - 1));
}

void check_gradient(const std::string& what, const Tensor& gradient, const Tensor& x) {
  check<ShapeError>(gradient.shape() == x.shape() && gradient.passes() == x.passes(),
                    "{}: expected a gradient {}, got {}", what, describe(x), describe(gradient));
  check<DTypeError>(gradient.dtype() == x.dtype(), "{}: expected a gradient {}, got {}", what, describe(x),
                    describe(gradient));
  check<DeviceError>(gradient.device() == x.device(), "{}: expected a gradient on {}, got {} on {}", what,
                     name_of(x.device()), describe(gradient), name_of(gradient.device()));
}

void Tensor::check_single() const {
  check<ShapeError>(numel() == 1 && passes() == 1, "item: expected one element, got {}", describe(*this));
}

template <Element T> std::vector<T> Tensor::to_vector() const {
  const Tensor flat = dense(detach());
  const int64_t n = flat.numel() * flat.passes();
  std::vector<T> values(n);
  if (n == 0) return values;
  dispatch_all(dtype(), [&]<class S>() {
    std::vector<char> bytes(n * sizeof(S));
    backend(device()).copy_to_host(bytes.data(), flat.device_raw(), bytes.size());
    const S* source = reinterpret_cast<const S*>(bytes.data());
    for (int64_t i = 0; i < n; ++i) values[i] = static_cast<T>(static_cast<compute_t<S>>(source[i]));
  });
  return values;
}
template std::vector<bool> Tensor::to_vector<bool>() const;
template std::vector<uint8_t> Tensor::to_vector<uint8_t>() const;
template std::vector<int32_t> Tensor::to_vector<int32_t>() const;
template std::vector<int64_t> Tensor::to_vector<int64_t>() const;
template std::vector<float> Tensor::to_vector<float>() const;
template std::vector<double> Tensor::to_vector<double>() const;

Index::Index(const Tensor& mask_or_places) : kind(Kind::tensor), tensor(mask_or_places.impl()) {
  check<AutogradError>(tensor != nullptr, "index: an undefined Tensor was used");
}

bool Tensor::requires_grad() const { return impl_ && impl_->requires_grad; }

const Tensor& Tensor::requires_grad_(bool on) const {
  check<DTypeError>(!on || is_floating(dtype()),
                    "requires_grad: only floating tensors have gradients, got {}", describe(*this));
  check<AutogradError>(is_leaf(), "requires_grad: can be changed for leaves only; use detach()");
  impl_->requires_grad = on;
  return *this;
}

bool Tensor::is_leaf() const { return get(impl_).grad_fn == nullptr; }
Tensor& Tensor::grad() const { return get(impl_), impl_->grad; }
std::shared_ptr<Op> Tensor::grad_fn() const { return get(impl_).grad_fn; }

void Tensor::backward(const Tensor& cotangent, BackwardOptions options) const {
  tandem::backward(*this, cotangent, options);
}

Tensor Tensor::detach() const { return make_view(*this, shape(), strides(), 0); }

void Tensor::retain_grad() const {
  check<AutogradError>(requires_grad(), "retain_grad: the tensor does not require a gradient");
  if (is_leaf()) return;
  impl_->grad_fn->retained_ = impl_;
}

void Tensor::register_hook(GradHook hook) const {
  check<AutogradError>(requires_grad(), "register_hook: the tensor does not require a gradient");
  (is_leaf() ? impl_->hooks : impl_->grad_fn->hooks_).push_back(std::move(hook));
}

int64_t Tensor::version() const { return get(impl_).storage->version; }
void Tensor::bump_version() const { ++get(impl_).storage->version; }

void Tensor::set_data(const Tensor& other) const {
  check<ShapeError>(other.shape() == shape() && other.passes() == passes(), "set_data: expected {}, got {}",
                    describe(*this), describe(other));
  check<DTypeError>(
      other.dtype() == dtype() || (is_leaf() && is_floating(dtype()) && is_floating(other.dtype())),
      "set_data: expected {}, got {}", describe(*this), describe(other));
  const TensorImpl& from = *other.impl_;
  impl_->storage = from.storage, impl_->offset = from.offset, impl_->dtype = from.dtype;
  impl_->strides = from.strides, impl_->pass_stride = from.pass_stride;
}

namespace {

// The passes take one of the dimensions that a kernel can walk.
void check_dims(const Shape& shape, int passes) {
  check<ShapeError>(shape.size() + (passes > 1) <= kMaxDims + 1,
                    "shape: {} with {} passes has more than {} dimensions", shape, passes, kMaxDims);
}

}  // namespace

Tensor make_view(const Tensor& x, const Shape& shape, const Shape& strides, int64_t offset, int passes,
                 int64_t pass_stride) {
  const TensorImpl& source = get(x.impl());
  check_dims(shape, passes);
  auto view = std::make_shared<TensorImpl>();
  view->storage = source.storage;
  view->offset = source.offset + offset;
  view->shape = shape;
  view->strides = strides;
  view->passes = passes;
  view->pass_stride = passes == 1 ? 0 : pass_stride;
  view->dtype = source.dtype;
  return Tensor(std::move(view));
}

Tensor with_pass_dim(const Tensor& x, int m) {
  Shape shape = x.shape(), strides = x.strides();
  shape.insert(0, m);
  strides.insert(0, x.pass_stride());
  return make_view(x, shape, strides, 0, 1, 0);
}

Tensor dense(const Tensor& x) {
  if (x.is_contiguous()) return x;
  const Tensor copy = empty_like(x);
  copy_elements(copy, x);
  return copy;
}

Tensor empty(const Shape& shape, const TensorOptions& options, int passes) {
  for (int64_t size : shape) check<ShapeError>(size >= 0, "empty: a size is negative: {}", shape);
  check<ShapeError>(passes >= 1, "empty: expected at least one pass, got {}", passes);
  check_dims(shape, passes);
  const int64_t numel = shape.numel();
  int64_t bytes = 0;
  check<ShapeError>(!__builtin_mul_overflow(numel, passes * size_of(options.dtype), &bytes),
                    "empty: {} bytes times {} passes of shape {} are more than 64 bits can count",
                    size_of(options.dtype), passes, shape);
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = std::make_shared<Storage>(bytes, options.device);
  impl->shape = shape;
  impl->strides = contiguous_strides(shape);
  impl->passes = passes;
  impl->pass_stride = passes == 1 ? 0 : numel;
  impl->dtype = options.dtype;
  Tensor result(std::move(impl));
  if (options.requires_grad) result.requires_grad_();
  return result;
}

Description::operator std::string() const {
  if (!tensor.defined()) return "undefined";
  std::string text = std::string(name_of(tensor.dtype())) + to_string(tensor.shape());
  if (tensor.passes() > 1) text += " x " + std::to_string(tensor.passes()) + " passes";
  return text;
}

}  // namespace tandem
