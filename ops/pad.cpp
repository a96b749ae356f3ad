// pad and flip move elements, so their derivatives move cotangents back: the part inside the padding, and the
// flip again.
#include "ops/pad.h"

#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/join.h"
#include "ops/views.h"

namespace tandem {
namespace {

struct Pad final : Op {
  Shape before, shape, from;  // elements in front, of the result, of x
  double value;
  Pad(const Shape& before, const Shape& shape, double value) : before(before), shape(shape), value(value) {}
  const char* name() const override { return "pad"; }
  Tensor forward(const Tensors& in) override {
    from = in[0].shape();
    const Tensor out = output(shape, in[0]).fill_(value);
    int64_t offset = 0;
    for (int i = 0; i < from.size(); ++i) offset += before[i] * out.strides()[i];
    if (from.numel() > 0) copy_elements(make_view(out, from, out.strides(), offset), in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    Tensor inside = g;
    for (int i = 0; i < from.size(); ++i) inside = slice(inside, i, before[i], before[i] + from[i]);
    return {inside};
  }
};

struct Flip final : Op {
  Shape dims;
  explicit Flip(const Shape& dims) : dims(dims) {}
  const char* name() const override { return "flip"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(in[0].shape(), in[0]);
    if (out.numel() == 0) return out;
    Shape strides = in[0].strides();
    int64_t last = 0;  // of the flipped dimensions
    for (int64_t dim : dims) {
      const int d = static_cast<int>(dim);
      last += (in[0].shape()[d] - 1) * strides[d];
      strides[d] = -strides[d];
    }
    copy_elements(out, make_view(in[0], in[0].shape(), strides, last));
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {flip(g, dims)}; }
};

// bool [rows, columns]: column - row > diagonal.
Tensor above(int64_t rows, int64_t columns, int64_t diagonal, Device device) {
  const TensorOptions integers{DType::i64, device};
  const Tensor row = arange(0, static_cast<double>(rows), 1, integers).unsqueeze(1);
  return gt(arange(0, static_cast<double>(columns), 1, integers), row + static_cast<double>(diagonal));
}

Tensor above(const char* op, const Tensor& x, int64_t diagonal) {
  check<ShapeError>(x.dim() >= 2, "{}: expected at least 2 dimensions, got {}", op, describe(x));
  return above(x.size(-2), x.size(-1), diagonal, x.device());
}

}  // namespace

Tensor pad(const Tensor& x, const std::vector<int64_t>& sizes, double value) {
  const int pairs = static_cast<int>(sizes.size() / 2);
  check<ShapeError>(sizes.size() % 2 == 0 && pairs <= x.dim(),
                    "pad: {} sizes for {}: expected left and right of at most {} dimensions", sizes.size(),
                    describe(x), x.dim());
  Shape before(std::vector<int64_t>(x.dim(), 0)), shape = x.shape();
  bool any = false;
  for (int i = 0; i < pairs; ++i) {
    const int64_t left = sizes[2 * i], right = sizes[2 * i + 1];
    check<ValueError>(left >= 0 && right >= 0, "pad: sizes are at least 0, got {} and {}", left, right);
    const int d = x.dim() - 1 - i;
    before[d] = left;
    shape[d] += left + right;
    any |= left + right > 0;
  }
  return any ? apply<Pad>({x}, before, shape, value) : x;
}

Tensor flip(const Tensor& x, const Shape& dims) {
  const Shape wrapped = wrap_dims("flip", dims, x.dim());
  return wrapped.empty() ? x : apply<Flip>({x}, wrapped);
}

Tensor roll(const Tensor& x, const std::vector<int64_t>& shifts, const Shape& dims) {
  if (dims.empty() && shifts.size() == 1) return roll(x.reshape({-1}), shifts, {0}).reshape(x.shape());
  check<ShapeError>(shifts.size() == static_cast<size_t>(dims.size()), "roll: {} shifts for {} dims",
                    shifts.size(), dims.size());
  Tensor result = x;
  for (int i = 0; i < dims.size(); ++i) {
    const int d = wrap_dim("roll", dims[i], x.dim());
    const int64_t size = x.shape()[d];
    if (size == 0) continue;
    const int64_t shift = (shifts[i] % size + size) % size;
    if (shift > 0) {
      result = cat({slice(result, d, size - shift, size), slice(result, d, 0, size - shift)}, d);
    }
  }
  return result;
}

Tensor tril(const Tensor& x, int64_t diagonal) { return masked_fill(x, above("tril", x, diagonal), 0); }
Tensor triu(const Tensor& x, int64_t diagonal) {
  return masked_fill(x, logical_not(above("triu", x, diagonal - 1)), 0);
}
Tensor causal_mask(int64_t queries, int64_t keys, Device device) { return above(queries, keys, 0, device); }

namespace {

const RegisterOp pad_op("pad", [](OpCases& c) {
  const auto by = bound(pad);
  c.sample("last", {c.normal({2, 3})}, by({1, 2}, 0));
  c.sample("two dimensions", {c.normal({2, 3, 2})}, by({1, 0, 2, 1}, 0.5));
  c.sample("nothing", {c.normal({3})}, by({0, 0}, 0));
  c.sample("empty", {c.normal({2, 0})}, by({1, 1}, -1));
  c.fails<ShapeError>("odd", "pad: 3 sizes for f32[2,3]", {zeros({2, 3})}, by({1, 2, 3}, 0));
  c.fails<ValueError>("negative", "pad: sizes are at least 0, got -1 and 2", {zeros({2, 3})}, by({-1, 2}, 0));
});

const RegisterOp flip_op("flip", [](OpCases& c) {
  const auto over = bound(flip);
  c.sample("outer two", {c.normal({2, 3, 4})}, over({0, -1}));
  c.sample("middle", {c.normal({2, 3, 4})}, over({1}));
  c.sample("empty", {c.normal({0, 3})}, over({0}));
  c.fails<ShapeError>("twice", "flip: dim 1 appears twice in [1,-1]", {zeros({2, 3})}, over({1, -1}));
});

const RegisterOp roll_op("roll", [](OpCases& c) {
  using Roll = Tensor (*)(const Tensor&, const std::vector<int64_t>&, const Shape&);
  const auto by = bound(static_cast<Roll>(roll));
  c.sample("both", {c.normal({3, 4})}, by({1, -1}, {0, 1}));
  c.sample("more than once around", {c.normal({5})}, by({12}, {0}));
  c.sample("one dimension", {c.normal({3, 4})}, [](const Tensors& in) { return roll(in[0], -2, -1); });
  c.sample("flat", {c.normal({3, 4})}, [](const Tensors& in) { return roll(in[0], 5); });
  c.fails<ShapeError>("count", "roll: 2 shifts for 1 dims", {zeros({2, 3})}, by({1, 2}, {0}));
  c.fails<ShapeError>("no dims", "roll: 2 shifts for 0 dims", {zeros({2, 3})}, by({1, 2}, {}));
});

void triangle_cases(OpCases& c, const std::string& name, Tensor (*f)(const Tensor&, int64_t)) {
  const auto from = bound(f);
  c.sample("square", {c.normal({4, 4})}, from(0));
  c.sample("below", {c.normal({2, 3, 4})}, from(-1));
  c.sample("above", {c.normal({4, 3})}, from(1));
  c.fails<ShapeError>("dimensions", name + ": expected at least 2 dimensions, got f32[3]", {zeros({3})},
                      from(0));
}

const RegisterOp tril_op("tril", [](OpCases& c) { triangle_cases(c, "tril", tril); });
const RegisterOp triu_op("triu", [](OpCases& c) { triangle_cases(c, "triu", triu); });

}  // namespace
}  // namespace tandem
