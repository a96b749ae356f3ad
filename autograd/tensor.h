// Tensor: a strided view of typed memory with value semantics and shared storage, and its place in the tape.
//
// shape() is what ONE pass of the model sees. A tensor made by noise differs between the passes of a step:
// passes() tells how many are stored, 1 or m, and they lead in memory. A tensor that is the same in all
// passes is stored once (passes() == 1) and shared. Ops never see across passes; only losses do.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "autograd/device.h"
#include "autograd/dispatch.h"
#include "autograd/index.h"
#include "autograd/shape.h"

namespace tandem {

class Indexed;
class Op;
class Tensor;
struct TensorImpl;
struct ValuesIndices;                 // ops/extrema.h
using Tensors = std::vector<Tensor>;  // what ops take and return
// Returns the gradient to go on with, like the one that it got in shape, passes, dtype and device, or an
// undefined Tensor for that one.
using GradHook = std::function<Tensor(const Tensor&)>;

// Of what a new tensor is: zeros({3}, {DType::i64}).
struct TensorOptions {
  DType dtype = DType::f32;    // of its elements
  Device device = kCpu;        // where its memory is
  bool requires_grad = false;  // a leaf of the tape
};

// What a backward keeps and records.
struct BackwardOptions {
  bool retain_graph = false;  // keep what the ops saved, for another backward
  // Record the backward itself, for second derivatives; keeps the graph, too. Use grad(), not backward(): a
  // .grad whose history contains its own leaf is a reference cycle.
  bool create_graph = false;
  // Of backward(): called with each leaf as soon as its whole gradient is in its .grad, while the rest of the
  // graph is still to come. It must not run a backward of its own.
  std::function<void(const std::shared_ptr<TensorImpl>&)> leaf_done = {};
};

class Tensor {
 public:
  Tensor() = default;  // undefined
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}
  Tensor(const Tensor&) = default;
  Tensor(Tensor&&) = default;
  // a = b makes the name a refer to b. What has no name cannot be assigned to, but for x[i] and x.index(...),
  // whose assignment writes into x (class Indexed).
  Tensor& operator=(const Tensor&) & = default;
  Tensor& operator=(Tensor&&) & = default;

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

  // Memory, for kernels of the CPU: the address of the first element. The others are at strides() and
  // pass_stride() from it, which nobody checks: kernels run over all of them. DTypeError when T is not
  // dtype(); DeviceError where the memory is another device's, naming the running op, which then has no
  // kernel for it.
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
  // All elements of all passes in row-major order, converted to T: bool, uint8_t, int32_t, int64_t, float or
  // double.
  template <Element T> std::vector<T> to_vector() const;
  // The only element; ShapeError unless there is exactly one.
  double item() const { return item<double>(); }
  template <Element T> T item() const {
    check_single();
    return to_vector<T>()[0];
  }

  // The tape.
  bool requires_grad() const;
  const Tensor& requires_grad_(bool on = true) const;  // leaves of a floating dtype only
  bool is_leaf() const;
  // Undefined until a backward reached this leaf. What is assigned is checked where it is used: a backward,
  // an optimizer's step and clipping refuse a gradient of another shape, dtype, device or number of passes.
  Tensor& grad() const;
  std::shared_ptr<Op> grad_fn() const;  // the op that made it; null for a leaf
  void backward(const Tensor& cotangent = {}, BackwardOptions options = {}) const;  // autograd/engine.h
  Tensor detach() const;                    // the same memory outside of the tape
  void retain_grad() const;                 // also accumulate .grad of a non-leaf
  void register_hook(GradHook hook) const;  // runs on the whole gradient before it goes on
  int64_t version() const;                  // counts in-place writes; shared by all views
  void bump_version() const;                // for who writes to its memory
  // Refers to other's memory from now on, as a module's tensors do when it moves to a device; views of the
  // old memory stay there. ShapeError or DTypeError unless other has the same shape, passes and dtype; a
  // floating leaf may become one of another floating dtype.
  void set_data(const Tensor& other) const;

  // In place; not recorded, so an AutogradError where the tape would need them, which says what to write
  // instead (use NoGradGuard for leaves). ValueError for an expanded tensor. DTypeError for what would be cut
  // rather than rounded: floating numbers into integers, integers into a narrower type; to() cuts.
  const Tensor& fill_(double value) const;
  const Tensor& zero_() const { return fill_(0); }
  const Tensor& copy_(const Tensor& source) const;                  // broadcasts, converts to a wider type
  const Tensor& add_(const Tensor& other, double scale = 1) const;  // this += scale * other
  const Tensor& add_(double number) const;
  const Tensor& mul_(const Tensor& other) const;
  const Tensor& mul_(double factor) const;
  const Tensor& div_(const Tensor& other) const;
  const Tensor& div_(double divisor) const;
  // x[indices] = values, or += with duplicates added up where `accumulate`; see ops/index.h.
  const Tensor& index_put_(const IndexList& indices, const Tensor& values, bool accumulate = false) const;
  const Tensor& operator+=(const Tensor& other) const { return add_(other); }
  const Tensor& operator-=(const Tensor& other) const { return add_(other, -1); }
  const Tensor& operator*=(const Tensor& other) const { return mul_(other); }
  const Tensor& operator/=(const Tensor& other) const { return div_(other); }
  const Tensor& operator+=(double number) const { return add_(number); }
  const Tensor& operator-=(double number) const { return add_(-number); }
  const Tensor& operator*=(double factor) const { return mul_(factor); }
  const Tensor& operator/=(double divisor) const { return div_(divisor); }

  // The rest are ops (ops/) as methods, so that they chain: x.f(...) is f(x, ...), recorded.
  // Copies and views.
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
  Tensor squeeze() const;  // of all dimensions of size 1
  Tensor squeeze(int64_t dim) const;
  Tensor unsqueeze(int64_t dim) const;
  std::vector<Tensor> split(int64_t size, int64_t dim = 0) const;
  std::vector<Tensor> split(const std::vector<int64_t>& sizes, int64_t dim = 0) const;
  std::vector<Tensor> chunk(int64_t chunks, int64_t dim = 0) const;
  std::vector<Tensor> unbind(int64_t dim = 0) const;

  // Parts. Views; copies where a step is negative or a tensor is among the indices (autograd/index.h).
  Tensor select(int64_t dim, int64_t index) const;
  Tensor slice(int64_t dim, int64_t start, int64_t end, int64_t step = 1) const;
  template <WholeNumber T> Indexed operator[](T index) const;
  Indexed operator[](const Index& index) const;
  Indexed index(const IndexList& indices) const;
  Tensor gather(int64_t dim, const Tensor& index) const;
  Tensor index_select(int64_t dim, const Tensor& indices) const;
  Tensor masked_select(const Tensor& mask) const;
  Tensor masked_fill(const Tensor& mask, double value) const;

  // Element by element.
  Tensor abs() const;
  Tensor square() const;
  Tensor sqrt() const;
  Tensor rsqrt() const;
  Tensor exp() const;
  Tensor log() const;
  Tensor sin() const;
  Tensor cos() const;
  Tensor tanh() const;
  Tensor sigmoid() const;
  Tensor relu() const;
  Tensor pow(double exponent) const;
  Tensor pow(const Tensor& exponent) const;
  Tensor clamp(double low, double high) const;
  Tensor maximum(const Tensor& other) const;
  Tensor minimum(const Tensor& other) const;
  Tensor eq(const Tensor& other) const;
  Tensor ne(const Tensor& other) const;
  Tensor lt(const Tensor& other) const;
  Tensor le(const Tensor& other) const;
  Tensor gt(const Tensor& other) const;
  Tensor ge(const Tensor& other) const;
  Tensor eq(double number) const;
  Tensor ne(double number) const;
  Tensor lt(double number) const;
  Tensor le(double number) const;
  Tensor gt(double number) const;
  Tensor ge(double number) const;

  // Over dimensions: x.sum(1), x.sum({0, 1}, true); all of them where none is named.
  Tensor sum(const Shape& dims = {}, bool keepdim = false) const;
  Tensor mean(const Shape& dims = {}, bool keepdim = false) const;
  Tensor prod(const Shape& dims = {}, bool keepdim = false) const;
  Tensor var(const Shape& dims = {}, double correction = 1, bool keepdim = false) const;
  Tensor std(const Shape& dims = {}, double correction = 1, bool keepdim = false) const;
  Tensor amax(const Shape& dims = {}, bool keepdim = false) const;
  Tensor amin(const Shape& dims = {}, bool keepdim = false) const;
  Tensor logsumexp(const Shape& dims = {}, bool keepdim = false) const;
  Tensor all(const Shape& dims = {}, bool keepdim = false) const;
  Tensor any(const Shape& dims = {}, bool keepdim = false) const;
  // Two numbers would be a dimension and keepdim: write x.sum({0, 1}), or x.sum(0, true).
  template <WholeNumber D, WholeNumber E> Tensor sum(D, E) const = delete;        // x.sum({0, 1})
  template <WholeNumber D, WholeNumber E> Tensor mean(D, E) const = delete;       // x.mean({0, 1})
  template <WholeNumber D, WholeNumber E> Tensor prod(D, E) const = delete;       // x.prod({0, 1})
  template <WholeNumber D, WholeNumber E> Tensor amax(D, E) const = delete;       // x.amax({0, 1})
  template <WholeNumber D, WholeNumber E> Tensor amin(D, E) const = delete;       // x.amin({0, 1})
  template <WholeNumber D, WholeNumber E> Tensor logsumexp(D, E) const = delete;  // x.logsumexp({0, 1})
  template <WholeNumber D, WholeNumber E> Tensor all(D, E) const = delete;        // x.all({0, 1})
  template <WholeNumber D, WholeNumber E> Tensor any(D, E) const = delete;        // x.any({0, 1})
  template <std::same_as<bool> B> Tensor var(const Shape&, B) const = delete;  // x.var(1, 1, true): keepdim
  template <std::same_as<bool> B> Tensor std(const Shape&, B) const = delete;  // x.std(1, 1, true): keepdim
  Tensor max() const;
  Tensor min() const;
  Tensor argmax() const;
  Tensor argmin() const;
  ValuesIndices max(int64_t dim, bool keepdim = false) const;
  ValuesIndices min(int64_t dim, bool keepdim = false) const;
  Tensor argmax(int64_t dim, bool keepdim = false) const;
  Tensor argmin(int64_t dim, bool keepdim = false) const;
  ValuesIndices sort(int64_t dim = -1, bool descending = false) const;
  ValuesIndices topk(int64_t k, int64_t dim = -1, bool largest = true, bool sorted = true) const;
  Tensor cumsum(int64_t dim) const;
  Tensor softmax(int64_t dim) const;
  Tensor log_softmax(int64_t dim) const;
  Tensor matmul(const Tensor& other) const;

  // Passes, for losses, the trainer and tests; models never need these.
  Tensor pass(int index) const;    // one pass, as a tensor of one pass (recorded view)
  Tensor passes_as_batch() const;  // [m, shape...] as a plain tensor (recorded view)

  // What all copies of this tensor share.
  const std::shared_ptr<TensorImpl>& impl() const { return impl_; }

 private:
  void check_dtype(DType wanted) const;
  void check_single() const;
  std::shared_ptr<TensorImpl> impl_;
};

// A part of x, as x[i] and x.index(...) name it: a tensor like any other, but an assignment to the expression
// itself writes into x, in place: x[0] = y; x.index({{1, 3}, {}}) += 1; x[mask] = 0. A name for it is a
// tensor of its own: after `auto row = x[0]`, `row = y` makes row another tensor. Of places that indices name
// twice, the last assigned stays (index_put_ can add them up).
class Indexed : public Tensor {
 public:
  explicit Indexed(const Tensor& view) : Tensor(view) {}
  Indexed(const Tensor& copy, const Tensor& of, const IndexList& indices);
  Indexed(const Indexed&) = default;
  Indexed(Indexed&&) = default;

  Indexed& operator=(const Tensor& other) & { return Tensor::operator=(other), source_.reset(), *this; }
  Indexed& operator=(const Indexed&) & = default;
  Indexed& operator=(Indexed&&) & = default;
  void operator=(const Tensor& value) && { write('=', value); }
  void operator=(const Indexed& value) && { write('=', value); }
  template <class T>
  requires std::is_arithmetic_v<T>
  void operator=(T number) && { write('=', beside(static_cast<double>(number))); }

 private:
  template <class V> friend void operator+=(Indexed&& x, const V& value) { x.write('+', x.beside(value)); }
  template <class V> friend void operator-=(Indexed&& x, const V& value) { x.write('-', x.beside(value)); }
  template <class V> friend void operator*=(Indexed&& x, const V& value) { x.write('*', x.beside(value)); }
  template <class V> friend void operator/=(Indexed&& x, const V& value) { x.write('/', x.beside(value)); }

  Tensor beside(double number) const;  // in the dtype and on the device of this
  const Tensor& beside(const Tensor& value) const { return value; }
  void write(char op, const Tensor& value) const;

  struct Source;
  std::shared_ptr<const Source> source_;  // of a copy
};

template <WholeNumber T> Indexed Tensor::operator[](T index) const { return Indexed(select(0, index)); }

// "f32[2,3]", or "f32[2,3] x 4 passes". Formatted lazily, so free as an argument of check(); must not outlive
// the tensor.
struct Description {
  const Tensor& tensor;
  operator std::string() const;
};
inline Description describe(const Tensor& tensor) { return {tensor}; }

// A tensor is no range, since each row would be a tensor of its own.
Tensor* begin(const Tensor&) = delete;  // for (const Tensor& row : x.unbind()), or x.select(0, i)
Tensor* end(const Tensor&) = delete;

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

#include "autograd/makers.h"
#include "autograd/print.h"
