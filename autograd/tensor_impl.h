// What a Tensor points to. For kernels and the engine; user code includes tensor.h only.
#pragma once

#include "autograd/tensor.h"

namespace tandem {

// A block of device memory. Views share it, and with it the count of in-place writes.
struct Storage {
  Storage(int64_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  char* data;
  int64_t bytes;
  Device device;
  int64_t version = 0;
  int64_t one_at = -1;  // at this version every element is known to be 1, wherever the memory is

  // All of this memory in another dtype, as it was at `version` (ops/products/cached_cast.h).
  struct Cast {
    std::shared_ptr<Storage> storage;
    DType from, to;
    int64_t version;
  };
  std::optional<Cast> cast;

  // A weight that is all of this memory and others below it, as one (ops/products/cached_cast.h).
  struct Join {
    struct Part {
      std::weak_ptr<Storage> storage;
      Shape shape;
      int64_t version;
    };
    Tensor all;
    std::vector<Part> parts;
  };
  std::optional<Join> join;

  // Copies of weights in this memory in the layout of a product's kernel (ops/products/packed_weight.h).
  struct Packed {
    std::shared_ptr<Storage> storage;
    int64_t offset;  // of the weight, as shape and strides
    Shape shape, strides;
    int64_t version;
  };
  std::vector<Packed> packed;
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  int64_t offset = 0;  // elements
  Shape shape, strides;
  int passes = 1;
  int64_t pass_stride = 0;
  DType dtype = DType::f32;

  bool requires_grad = false;
  std::shared_ptr<Op> grad_fn;  // the op that made it; null for a leaf
  Tensor grad;
  std::vector<GradHook> hooks;  // of a leaf; those of other tensors sit on their op

  ~TensorImpl();
};

// True for the cotangent that a backward without one starts from: what scales by it need not read it.
bool holds_one(const Tensor& x);

// DeviceError: the running op has no kernel for x's device and dtype.
[[noreturn]] void missing_kernel(const Tensor& x);

// DTypeError unless `value` is one of the numbers of `dtype`; a floating dtype rounds and takes all.
void check_holds(const char* op, DType dtype, double value);

// A gradient belongs to x, a tensor or its gradient, only where it has the same shape, passes, dtype and
// device: ShapeError, DTypeError or DeviceError, which opens with `what`, otherwise.
void check_gradient(const std::string& what, const Tensor& gradient, const Tensor& x);

// Another view of x's memory, outside of the tape. Strides and offset are in elements.
Tensor make_view(const Tensor& x, const Shape& shape, const Shape& strides, int64_t offset, int passes,
                 int64_t pass_stride);
inline Tensor make_view(const Tensor& x, const Shape& shape, const Shape& strides, int64_t offset = 0) {
  return make_view(x, shape, strides, offset, x.passes(), x.pass_stride());
}

// x with its passes (repeated by stride 0 when it is shared) as a leading dimension of size m: what a
// kernel iterates over.
Tensor with_pass_dim(const Tensor& x, int m);
// x itself, or a dense copy of it (unrecorded).
Tensor dense(const Tensor& x);
// Unrecorded conversion and copy: dst[...] = src[...], equal shapes after broadcasting src.
void copy_elements(const Tensor& dst, const Tensor& src);

}  // namespace tandem
