// Tensor: a strided view of typed memory with value semantics and shared storage, and its place in the tape.
//
// shape() is what ONE pass of the model sees. A tensor made by noise differs between the passes of a step:
// passes() tells how many are stored, 1 or m, and they lead in memory. A tensor that is the same in all
// passes is stored once (passes() == 1) and shared. Ops never see across passes; only losses do.
#pragma once

#include <functional>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autograd/device.h"
#include "autograd/dispatch.h"
#include "autograd/shape.h"

namespace tandem {

class Op;
class Tensor;
struct TensorImpl;
using Tensors = std::vector<Tensor>;
// Returns the gradient to go on with, like the one that it got in shape, passes, dtype and device, or an
// undefined Tensor for that one.
using GradHook = std::function<Tensor(const Tensor&)>;

struct TensorOptions {
  DType dtype = DType::f32;
  Device device = kCpu;
  bool requires_grad = false;
};

// One element of Tensor::index: an integer, a Slice (start:end:step), Ellipsis (...) or NewAxis.
struct Slice {
  std::optional<int64_t> start = {}, end = {};
  int64_t step = 1;
};
struct Ellipsis {};
struct NewAxis {};
struct Index {
  enum class Kind { integer, slice, ellipsis, new_axis } kind;
  int64_t integer = 0;
  tandem::Slice slice = {};
  Index(int64_t i) : kind(Kind::integer), integer(i) {}
  Index(int i) : Index(int64_t{i}) {}
  Index(tandem::Slice s) : kind(Kind::slice), slice(s) {}
  Index(Ellipsis) : kind(Kind::ellipsis) {}
  Index(NewAxis) : kind(Kind::new_axis) {}
};

struct BackwardOptions {
  bool retain_graph = false;  // keep what the ops saved, for another backward
  // Record the backward itself, for second derivatives; keeps the graph, too. Use grad(), not backward(): a
  // .grad whose history contains its own leaf is a reference cycle.
  bool create_graph = false;
};

class Tensor {
 public:
  Tensor() = default;  // undefined
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}

  // Description.
  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const;    // of one pass
  const Shape& strides() const;  // in elements, beside shape()
  int dim() const { return shape().size(); }
  int64_t size(int64_t dim) const;                   // negative counts from the end
  int64_t numel() const { return shape().numel(); }  // of one pass
  int passes() const;
  int64_t pass_stride() const;  // in elements; 0 when passes() == 1
  DType dtype() const;
  Device device() const;
  bool is_contiguous() const;  // rows dense, passes dense

  // Memory, for kernels of the CPU: the first element. DTypeError when T is not dtype(); DeviceError where
  // the memory is another device's, naming the running op, which then has no kernel for it.
  void* raw() const;
  void* device_raw() const;  // the address on any device: an argument of that device's kernels
  template <class T> T* data() const {
    check_dtype(dtype_of<T>);
    return static_cast<T*>(raw());
  }
  template <class T> T* device_data() const {
    check_dtype(dtype_of<T>);
    return static_cast<T*>(device_raw());
  }
  double item() const;  // the only element as a number; ShapeError unless there is exactly one
  template <class T>
  std::vector<T> to_vector() const;  // all elements of all passes in row-major order, converted to T

  // The tape.
  bool requires_grad() const;
  const Tensor& requires_grad_(bool on = true) const;  // leaves of a floating dtype only
  bool is_leaf() const;
  // Undefined until a backward reached this leaf. What is assigned is checked where it is used: a backward,
  // an optimizer's step and clipping refuse a gradient of another shape, dtype, device or number of passes.
  Tensor& grad() const;
  std::shared_ptr<Op> grad_fn() const;
  void backward(const Tensor& cotangent = {}, BackwardOptions options = {}) const;
  Tensor detach() const;                    // the same memory outside of the tape
  void retain_grad() const;                 // also accumulate .grad of a non-leaf
  void register_hook(GradHook hook) const;  // runs on the whole gradient before it goes on
  int64_t version() const;                  // counts in-place writes; shared by all views
  void bump_version() const;
  // Refers to other's memory from now on, as a module's tensors do when it moves to a device; views of the
  // old memory stay there. ShapeError or DTypeError unless other has the same shape, passes and dtype; a
  // floating leaf may become one of another floating dtype.
  void set_data(const Tensor& other) const;

  // In place; not recorded, so an AutogradError where the tape would need them (use NoGradGuard for leaves).
  // ValueError for an expanded tensor. DTypeError for what would be cut rather than rounded: floating numbers
  // into integers, integers into a narrower type; to() cuts.
  const Tensor& fill_(double value) const;
  const Tensor& zero_() const { return fill_(0); }
  const Tensor& copy_(const Tensor& source) const;                  // broadcasts, converts to a wider type
  const Tensor& add_(const Tensor& other, double scale = 1) const;  // this += scale * other
  const Tensor& mul_(double factor) const;
  const Tensor& operator+=(const Tensor& other) const { return add_(other); }
  const Tensor& operator-=(const Tensor& other) const { return add_(other, -1); }

  // Recorded forms of frequent ops (ops/), so that they chain.
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;
  Tensor contiguous() const;
  Tensor clone() const;
  Tensor reshape(const Shape& shape) const;  // one size may be -1
  Tensor view(const Shape& shape) const;     // reshape that never copies; ShapeError when it would have to
  Tensor flatten(int64_t start_dim = 0, int64_t end_dim = -1) const;
  Tensor permute(const Shape& dims) const;
  Tensor transpose(int64_t a, int64_t b) const;
  Tensor t() const;
  Tensor expand(const Shape& shape) const;
  Tensor squeeze(int64_t dim) const;
  Tensor unsqueeze(int64_t dim) const;
  Tensor select(int64_t dim, int64_t index) const;
  Tensor slice(int64_t dim, int64_t start, int64_t end, int64_t step = 1) const;
  Tensor operator[](int64_t index) const { return select(0, index); }
  Tensor index(const std::vector<Index>& indices) const;
  Tensor sum() const;
  Tensor sum(const Shape& dims, bool keepdim = false) const;
  Tensor mean() const;
  Tensor mean(const Shape& dims, bool keepdim = false) const;

  // Passes, for losses, the trainer and tests; models never need these.
  Tensor pass(int index) const;    // one pass, as a tensor of one pass (recorded view)
  Tensor passes_as_batch() const;  // [m, shape...] as a plain tensor (recorded view)

  const std::shared_ptr<TensorImpl>& impl() const { return impl_; }

 private:
  void check_dtype(DType wanted) const;
  std::shared_ptr<TensorImpl> impl_;
};

// "f32[2,3]", or "f32[2,3] x 4 passes". Formatted lazily, so free as an argument of check(); must not outlive
// the tensor.
struct Description {
  const Tensor& tensor;
  operator std::string() const;
};
inline Description describe(const Tensor& tensor) { return {tensor}; }
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);
std::string to_string(const Tensor& tensor);

// Makers. Elements of empty() are uninitialised; SampleMaker (autograd/registry.h) makes random tensors.
Tensor empty(const Shape& shape, const TensorOptions& options = {}, int passes = 1);
Tensor full(const Shape& shape, double value, const TensorOptions& options = {});
Tensor zeros(const Shape& shape, const TensorOptions& options = {});
Tensor ones(const Shape& shape, const TensorOptions& options = {});
Tensor arange(double start, double end, double step = 1, const TensorOptions& options = {});
Tensor eye(int64_t n, const TensorOptions& options = {});
inline Tensor empty_like(const Tensor& x) { return empty(x.shape(), {x.dtype(), x.device()}, x.passes()); }
inline Tensor zeros_like(const Tensor& x) { return empty_like(x).zero_(); }
inline Tensor ones_like(const Tensor& x) { return empty_like(x).fill_(1); }

// A tensor of T's dtype holding `values` in row-major order; ShapeError when their number is not
// shape.numel().
template <class T> Tensor from_values(std::span<const T> values, const Shape& shape);
template <class T> Tensor from_values(const std::vector<T>& values, const Shape& shape) {
  return from_values(std::span<const T>(values), shape);
}
// tensor({1, 2, 3}): one-dimensional f32.
Tensor tensor(std::initializer_list<float> values);
Tensor tensor(std::initializer_list<float> values, const Shape& shape);
Tensor scalar(double value, const TensorOptions& options = {});  // shape []

// m tensors of one pass each as the passes of one (recorded); the inverse of Tensor::pass.
Tensor stack_passes(const Tensors& passes);

}  // namespace tandem

template <> struct fmt::formatter<tandem::Description> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(const tandem::Description& description, format_context& context) const {
    const std::string text = description;
    return std::copy(text.begin(), text.end(), context.out());
  }
};
