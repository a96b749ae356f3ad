#include "ops/views.h"

#include <algorithm>

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/loops/inplace.h"

namespace tandem {
namespace {

// The strides that show x as `shape` (of as many elements, at least one) without a copy, or nothing.
std::optional<Shape> reshaped_strides(const Tensor& x, const Shape& shape) {
  // Groups of dimensions that are dense in memory, which may be split and merged freely. The stride of a
  // dimension of size 1 means nothing.
  Shape sizes, steps;
  for (int d = 0; d < x.dim(); ++d) {
    const int64_t size = x.shape()[d], step = x.strides()[d];
    if (size == 1) continue;
    const int last = sizes.size() - 1;
    if (last >= 0 && steps[last] == size * step) {
      sizes[last] *= size, steps[last] = step;
    } else {
      sizes.push_back(size), steps.push_back(step);
    }
  }
  Shape strides = shape;
  int64_t left = 1, step = 1;  // of the group that is being split
  for (int i = 0, group = 0; i < shape.size(); ++i) {
    if (left == 1 && shape[i] != 1) left = sizes[group], step = steps[group++];
    if (left % shape[i] != 0) return {};
    left /= shape[i];
    strides[i] = left * step;
  }
  return strides;
}

Shape resolved(const Tensor& x, const Shape& shape) {
  Shape result = shape;
  int unknown = -1;
  for (int i = 0; i < shape.size(); ++i) {
    check<ShapeError>(shape[i] >= -1, "reshape: a size is negative in {}", shape);
    if (shape[i] != -1) continue;
    check<ShapeError>(unknown < 0, "reshape: more than one size is -1 in {}", shape);
    result[unknown = i] = 1;
  }
  if (unknown >= 0) {
    const int64_t known = result.numel();
    check<ShapeError>(known > 0, "reshape: {} does not tell the -1 in {}", describe(x), shape);
    result[unknown] = x.numel() / known;
  }
  check<ShapeError>(result.numel() == x.numel(), "reshape: {} does not fit shape {}", describe(x), shape);
  return result;
}

struct Reshape final : Op {
  Shape shape, from;
  explicit Reshape(const Shape& shape) : shape(shape) {}
  const char* name() const override { return "reshape"; }
  Tensor forward(const Tensors& in) override {
    from = in[0].shape();
    if (in[0].numel() == 0) return make_view(in[0], shape, contiguous_strides(shape));
    if (auto strides = reshaped_strides(in[0], shape)) return make_view(in[0], shape, *strides);
    return make_view(dense(in[0]), shape, contiguous_strides(shape));
  }
  Tensors vjp(const Tensor& g) override { return {reshape(g, from)}; }
};

struct Permute final : Op {
  Shape dims;
  explicit Permute(const Shape& dims) : dims(dims) {}
  const char* name() const override { return "permute"; }
  Tensor forward(const Tensors& in) override {
    Shape shape, strides;
    for (int64_t d : dims) {
      shape.push_back(in[0].shape()[static_cast<int>(d)]);
      strides.push_back(in[0].strides()[static_cast<int>(d)]);
    }
    return make_view(in[0], shape, strides);
  }
  Tensors vjp(const Tensor& g) override {
    Shape inverse = dims;
    for (int i = 0; i < dims.size(); ++i) inverse[static_cast<int>(dims[i])] = i;
    return {permute(g, inverse)};
  }
};

struct Expand final : Op {
  Shape shape;
  explicit Expand(const Shape& shape) : shape(shape) {}
  const char* name() const override { return "expand"; }
  Tensor forward(const Tensors& in) override {
    Shape strides = shape;
    for (int i = 0; i < shape.size(); ++i) {
      const int own = i - (shape.size() - in[0].dim());
      strides[i] = own < 0 || in[0].shape()[own] != shape[i] ? 0 : in[0].strides()[own];
    }
    return make_view(in[0], shape, strides);
  }
  Tensors vjp(const Tensor& g) override { return {g}; }  // the engine sums what was stretched
};

// `count` places along a dimension, from `start` on, `step` apart; backwards where that is negative.
struct Stretch {
  int dim;
  int64_t start, count, step;

  Tensor of(const Tensor& x) const {
    Shape shape = x.shape(), strides = x.strides();
    const int64_t offset = count == 0 ? 0 : start * strides[dim];
    shape[dim] = count;
    strides[dim] *= step;
    return make_view(x, shape, strides, offset);
  }
};

// A view; a copy where the step is negative, so that all views go forward in memory.
struct SliceOp final : Op {
  Stretch stretch;
  Shape from;
  explicit SliceOp(const Stretch& stretch) : stretch(stretch) {}
  const char* name() const override { return "slice"; }
  Tensor forward(const Tensors& in) override {
    from = in[0].shape();
    const Tensor part = stretch.of(in[0]);
    if (stretch.step > 0) return part;
    const Tensor out = output(part.shape(), part);
    copy_elements(out, part);
    return out;
  }
  Tensors vjp(const Tensor& g) override;
};

// Zeros of `shape` with g in the place of the slice.
struct SliceScatter final : Op {
  Shape shape;
  Stretch stretch;
  SliceScatter(const Shape& shape, const Stretch& stretch) : shape(shape), stretch(stretch) {}
  const char* name() const override { return "slice_scatter"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(shape, in[0]).zero_();
    stretch.of(out).copy_(in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<SliceOp>({g}, stretch)}; }
};

Tensors SliceOp::vjp(const Tensor& g) { return {apply<SliceScatter>({g}, from, stretch)}; }

// The places of start:end:step along a dimension of `size`, clipped as Python does.
Stretch stretch_of(int dim, int64_t start, int64_t end, int64_t step, int64_t size) {
  check<ValueError>(step != 0, "slice: expected a step other than 0");
  const bool forward = step > 0;
  const auto clip = [&](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? i + size : i, forward ? 0 : -1, forward ? size : size - 1);
  };
  start = clip(start), end = clip(end);
  const int64_t distance = forward ? end - start : start - end;
  if (distance <= 0) return {dim, 0, 0, forward ? 1 : -1};
  // A step beyond the end is as good as the shortest such.
  step = std::clamp(step, -distance, distance);
  return {dim, start, (distance - 1) / (forward ? step : -step) + 1, step};
}

// Which elements of a tensor are its diagonal.
struct DiagonalPlace {
  int64_t offset;
  int dim1, dim2;

  Tensor of(const Tensor& x) const {
    const int64_t first = std::max<int64_t>(0, -offset), second = std::max<int64_t>(0, offset);
    const int64_t count = std::min(x.shape()[dim1] - first, x.shape()[dim2] - second);
    Shape shape = x.shape(), strides = x.strides();
    const int64_t from = first * strides[dim1] + second * strides[dim2];
    shape.push_back(std::max<int64_t>(0, count));
    strides.push_back(strides[dim1] + strides[dim2]);
    for (const int d : {std::max(dim1, dim2), std::min(dim1, dim2)}) shape.erase(d), strides.erase(d);
    return make_view(x, shape, strides, count > 0 ? from : 0);
  }
};

Tensor diagonal_scatter(const Tensor& g, const Shape& shape, const DiagonalPlace& place);

struct Diagonal final : Op {
  DiagonalPlace place;
  Shape from;
  explicit Diagonal(const DiagonalPlace& place) : place(place) {}
  const char* name() const override { return "diagonal"; }
  Tensor forward(const Tensors& in) override {
    from = in[0].shape();
    return place.of(in[0]);
  }
  Tensors vjp(const Tensor& g) override { return {diagonal_scatter(g, from, place)}; }
};

// Zeros of `shape` with g as the diagonal.
struct DiagonalScatter final : Op {
  Shape shape;
  DiagonalPlace place;
  DiagonalScatter(const Shape& shape, const DiagonalPlace& place) : shape(shape), place(place) {}
  const char* name() const override { return "diagonal_scatter"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(shape, in[0]).zero_();
    copy_elements(place.of(out), in[0]);
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<Diagonal>({g}, place)}; }
};

Tensor diagonal_scatter(const Tensor& g, const Shape& shape, const DiagonalPlace& place) {
  return apply<DiagonalScatter>({g}, shape, place);
}

}  // namespace

Tensor detail::slice_view(const Tensor& x, int dim, int64_t start, int64_t end, int64_t step) {
  return stretch_of(dim, start, end, step, x.shape()[dim]).of(x);
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  const Shape target = resolved(x, shape);
  return target == x.shape() ? x : apply<Reshape>({x}, target);
}

Tensor permute(const Tensor& x, const Shape& dims) {
  check<ShapeError>(dims.size() == x.dim(), "permute: {} dims for {}", dims.size(), describe(x));
  const Shape wrapped = wrap_dims("permute", dims, x.dim());
  bool identity = true;
  for (int i = 0; i < dims.size(); ++i) identity &= wrapped[i] == i;
  return identity ? x : apply<Permute>({x}, wrapped);
}

Tensor transpose(const Tensor& x, int64_t a, int64_t b) {
  Shape dims;
  for (int i = 0; i < x.dim(); ++i) dims.push_back(i);
  std::swap(dims[wrap_dim("transpose", a, x.dim())], dims[wrap_dim("transpose", b, x.dim())]);
  return permute(x, dims);
}

Tensor expand(const Tensor& x, const Shape& shape) {
  check<ShapeError>(shape.size() >= x.dim(), "expand: {} to the shorter shape {}", describe(x), shape);
  Shape target = shape;
  for (int i = 0; i < shape.size(); ++i) {
    const int own = i - (shape.size() - x.dim());
    if (own >= 0 && target[i] == -1) target[i] = x.shape()[own];
    check<ShapeError>(target[i] >= 0 && (own < 0 || x.shape()[own] == 1 || x.shape()[own] == target[i]),
                      "expand: {} does not stretch to {}", describe(x), shape);
  }
  return target == x.shape() ? x : apply<Expand>({x}, target);
}

Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t end, int64_t step) {
  const int d = wrap_dim("slice", dim, x.dim());
  const int64_t size = x.shape()[d];
  const Stretch stretch = stretch_of(d, start, end, step, size);
  const bool all = stretch.start == 0 && stretch.count == size && stretch.step > 0;
  return all ? x : apply<SliceOp>({x}, stretch);
}

Tensor select(const Tensor& x, int64_t dim, int64_t index) {
  const int d = wrap_dim("select", dim, x.dim());
  const int64_t size = x.shape()[d], i = index < 0 ? index + size : index;
  check<ValueError>(i >= 0 && i < size, "select: index {} is out of range for size {} of dim {}", index, size,
                    d);
  Shape rest = x.shape();
  rest.erase(d);
  return reshape(slice(x, d, i, i + 1), rest);
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  const Shape dims = wrap_dims("diagonal", {dim1, dim2}, x.dim());
  const int a = static_cast<int>(dims[0]), b = static_cast<int>(dims[1]);
  return apply<Diagonal>({x}, DiagonalPlace{std::clamp(offset, -x.shape()[a], x.shape()[b]), a, b});
}

Tensor diag(const Tensor& x, int64_t diagonal) {
  check<ShapeError>(x.dim() == 1 || x.dim() == 2, "diag: expected a vector or a matrix, got {}", describe(x));
  if (x.dim() == 2) return tandem::diagonal(x, diagonal);
  check<ValueError>(diagonal > -(int64_t{1} << 31) && diagonal < int64_t{1} << 31,
                    "diag: diagonal is {}, expected a number between -2^31 and 2^31", diagonal);
  const int64_t n = x.shape()[0] + std::abs(diagonal);
  return diagonal_scatter(x, {n, n}, {diagonal, 0, 1});
}

Tensor Tensor::view(const Shape& shape) const {
  const Shape target = resolved(*this, shape);
  check<ShapeError>(numel() == 0 || reshaped_strides(*this, target).has_value(),
                    "view: {} with strides {} cannot be seen as {} without a copy; use reshape",
                    describe(*this), strides(), target);
  return tandem::reshape(*this, target);
}

namespace {

const RegisterOp reshape_op("reshape", [](OpCases& c) {
  const auto to = bound(reshape);
  c.sample("split", {c.normal({4, 6})}, to({2, 2, -1}));
  c.sample("merge transposed", {c.normal({4, 6})}, [](auto& in) { return reshape(in[0].t(), {24}); });
  c.sample("empty", {c.normal({0, 6})}, to({3, 0}));
  c.fails<ShapeError>("size", "reshape: f32[2,3] does not fit shape [4,2]", {zeros({2, 3})}, to({4, 2}));
  c.fails<ShapeError>("two -1", "reshape: more than one size is -1", {zeros({2, 3})}, to({-1, -1}));
  c.fails<ShapeError>("view", "view: f32[3,2]", [] { zeros({2, 3}).t().view({6}); });
});

const RegisterOp permute_op("permute", [](OpCases& c) {
  const auto by = bound(permute);
  c.sample("120", {c.normal({2, 3, 4})}, by({1, 2, 0}));
  c.sample("transpose", {c.normal({2, 3, 4})}, bound(transpose)(-1, 0));
  c.fails<ShapeError>("twice", "permute: dim 0 appears twice", {zeros({2, 3})}, by({0, 0}));
  c.fails<ShapeError>("count", "permute: 1 dims for f32[2,3]", {zeros({2, 3})}, by({0}));
});

const RegisterOp expand_op("expand", [](OpCases& c) {
  const auto to = bound(expand);
  c.sample("both", {c.normal({3, 1})}, to({2, -1, 4}));
  c.fails<ShapeError>("size", "expand: f32[2] does not stretch to [3]", {zeros({2})}, to({3}));
});

const RegisterOp slice_op("slice", [](OpCases& c) {
  const auto along = bound(slice);
  c.sample("step 2", {c.normal({3, 7})}, along(1, 1, 6, 2));
  c.sample("select", {c.normal({3, 7})}, bound(select)(0, -1));
  c.sample("empty", {c.normal({3, 7})}, along(1, 5, 5, 1));
  c.sample("backwards", {c.normal({7, 3})}, along(0, -1, -8, -3));
  c.fails<ValueError>("step", "slice: expected a step other than 0", {zeros({3})}, along(0, 0, 3, 0));
  c.fails<ValueError>("index", "select: index 3 is out of range for size 3", {zeros({3})},
                      bound(select)(0, 3));
  c.fails<ShapeError>("dim", "slice: dim 2 is out of range", {zeros({3})}, along(2, 0, 1, 1));
});

void slice_scatter_cases(OpCases& c) {
  const auto into = [](const Shape& shape, int dim, int64_t start, int64_t step) -> Function {
    return [=](const Tensors& in) {
      return apply<SliceScatter>({in[0]}, shape, Stretch{dim, start, in[0].shape()[dim], step});
    };
  };
  c.sample("step 2", {c.normal({3, 3})}, into({3, 7}, 1, 1, 2));
  c.sample("last row", {c.normal({1, 4})}, into({3, 4}, 0, 2, 1));
  c.sample("backwards", {c.normal({3, 3})}, into({3, 7}, 1, 6, -3));
  c.sample("empty", {c.normal({3, 0})}, into({3, 7}, 1, 5, 1));
}
const RegisterOp slice_scatter_op(
    "slice_scatter", slice_scatter_cases,
    {.no_errors = "no user calls it: slice's gradient, of a slice that was checked"});

const RegisterOp diagonal_op("diagonal", [](OpCases& c) {
  const auto at = bound(diagonal);
  c.sample("wide", {c.normal({3, 4})}, at(0, 0, 1));
  c.sample("above", {c.normal({2, 4, 3})}, at(1, 1, 2));
  c.sample("below", {c.normal({4, 2, 3})}, at(-2, 0, -1));
  c.sample("other order", {c.normal({4, 2, 3})}, at(-1, 2, 0));
  c.sample("none", {c.normal({2, 3})}, at(3, 0, 1));
  c.fails<ShapeError>("equal", "diagonal: dim 1 appears twice in [1,-1]", {zeros({2, 3})}, at(0, 1, -1));
  c.fails<ShapeError>("dim", "diagonal: dim 1 is out of range", {zeros({2})}, at(0, 0, 1));
});

const RegisterOp diag_op("diag", [](OpCases& c) {
  const auto at = bound(diag);
  c.sample("vector", {c.normal({3})}, at(0));
  c.sample("vector, above", {c.normal({3})}, at(2));
  c.sample("matrix, below", {c.normal({4, 3})}, at(-1));
  c.sample("empty", {c.normal({0})}, at(-1));
  c.fails<ValueError>("far away", "diag: diagonal is 2147483648, expected", {zeros({2})},
                      at(int64_t{1} << 31));
  c.fails<ShapeError>("dimensions", "diag: expected a vector or a matrix, got f32[2,3,4]", {zeros({2, 3, 4})},
                      at(0));
});

void diagonal_scatter_cases(OpCases& c) {
  const auto into = bound(diagonal_scatter);
  c.sample("middle", {c.normal({2, 3})}, into({4, 2, 3}, {-1, 0, 2}));
  c.sample("empty", {c.normal({0})}, into({2, 3}, {3, 0, 1}));
}
const RegisterOp diagonal_scatter_op(
    "diagonal_scatter", diagonal_scatter_cases,
    {.no_errors = "no user calls it: diagonal's gradient, of a diagonal that was checked"});

}  // namespace
}  // namespace tandem
