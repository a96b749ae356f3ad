// cat: every input is copied once, to its place. Its derivative hands each input its part of the cotangent,
// as a view.
#include "ops/join.h"

#include <algorithm>
#include <numeric>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/views.h"

namespace tandem {
namespace {

struct Cat final : Op {
  int dim;
  std::vector<int64_t> sizes;  // along dim
  explicit Cat(int dim) : dim(dim) {}
  const char* name() const override { return "cat"; }
  Tensor forward(const Tensors& in) override {
    Shape shape = in[0].shape();
    shape[dim] = 0;
    for (const Tensor& x : in) {
      sizes.push_back(x.shape()[dim]);
      shape[dim] += sizes.back();
    }
    const Tensor out = output(shape, in[0]);
    int64_t start = 0;
    for (const Tensor& x : in) {
      copy_elements(make_view(out, x.shape(), out.strides(), start * out.strides()[dim]), x);
      start += x.shape()[dim];
    }
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    Tensors parts(sizes.size());
    int64_t start = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (needs(i)) parts[i] = slice(g, dim, start, start + sizes[i]);
      start += sizes[i];
    }
    return parts;
  }
};

}  // namespace

Tensor cat(const Tensors& tensors, int64_t dim) {
  check<ValueError>(!tensors.empty(), "cat: no tensors were given");
  const int d = wrap_dim("cat", dim, tensors[0].dim());
  DType dtype = tensors[0].dtype();
  for (const Tensor& x : tensors) {
    bool fits = x.dim() == tensors[0].dim();
    for (int i = 0; fits && i < x.dim(); ++i) fits = i == d || x.shape()[i] == tensors[0].shape()[i];
    check<ShapeError>(fits, "cat: {} beside {}: sizes may differ in dim {} only", describe(x),
                      describe(tensors[0]), d);
    dtype = promote(dtype, x.dtype());
  }
  if (tensors.size() == 1) return tensors[0];
  Tensors same;
  for (const Tensor& x : tensors) same.push_back(x.to(dtype));
  return apply<Cat>(same, d);
}

Tensor stack(const Tensors& tensors, int64_t dim) {
  check<ValueError>(!tensors.empty(), "stack: no tensors were given");
  const int d = wrap_dim("stack", dim, tensors[0].dim() + 1);
  Tensors wider;
  for (const Tensor& x : tensors) {
    check<ShapeError>(x.shape() == tensors[0].shape(), "stack: {} beside {}: expected equal shapes",
                      describe(x), describe(tensors[0]));
    wider.push_back(x.unsqueeze(d));
  }
  return cat(wider, d);
}

Tensors split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t dim) {
  const int d = wrap_dim("split", dim, x.dim());
  const bool negative = std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size < 0; });
  const int64_t total = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  if (negative || total != x.shape()[d]) {
    std::string all;
    for (const int64_t size : sizes) {
      if (!all.empty()) all += ',';
      all += std::to_string(size);
    }
    raise<ShapeError>("split: sizes [{}] of dim {} of {}: expected sizes from 0 that add up to {}", all, d,
                      describe(x), x.shape()[d]);
  }
  Tensors parts;
  int64_t start = 0;
  for (int64_t size : sizes) {
    parts.push_back(slice(x, d, start, start + size));
    start += size;
  }
  return parts;
}

Tensors split(const Tensor& x, int64_t size, int64_t dim) {
  const int d = wrap_dim("split", dim, x.dim());
  check<ValueError>(size >= 1, "split: expected a size of at least 1, got {}", size);
  const int64_t total = x.shape()[d];
  if (total <= size) return {x};
  Tensors parts;
  for (int64_t start = 0; start < total; start += size) parts.push_back(slice(x, d, start, start + size));
  return parts;
}

Tensors chunk(const Tensor& x, int64_t chunks, int64_t dim) {
  const int d = wrap_dim("chunk", dim, x.dim());
  check<ValueError>(chunks >= 1, "chunk: expected at least one chunk, got {}", chunks);
  return split(x, std::max<int64_t>(1, (x.shape()[d] + chunks - 1) / chunks), d);
}

Tensors unbind(const Tensor& x, int64_t dim) {
  const int d = wrap_dim("unbind", dim, x.dim());
  Tensors parts;
  for (int64_t i = 0; i < x.shape()[d]; ++i) parts.push_back(select(x, d, i));
  return parts;
}

namespace {

// x stretched along a new dimension in front of `at`, which is then merged with dim.
Tensor repeated(const Tensor& x, int64_t repeats, int dim, int at) {
  Shape stretched = x.shape(), merged = x.shape();
  stretched.insert(at, repeats);
  merged[dim] = Shape{merged[dim], repeats}.numel();  // ShapeError where it is too large
  return x.unsqueeze(at).expand(stretched).reshape(merged);
}

}  // namespace

Tensor tile(const Tensor& x, const Shape& repeats) {
  Tensor y = x;
  while (y.dim() < repeats.size()) y = y.unsqueeze(0);
  for (int i = 0; i < repeats.size(); ++i) {
    check<ValueError>(repeats[i] >= 0, "tile: expected repeats of at least 0, got {}", repeats);
    const int d = y.dim() - repeats.size() + i;
    y = repeated(y, repeats[i], d, d);
  }
  return y;
}

Tensor repeat_interleave(const Tensor& x, int64_t repeats, int64_t dim) {
  const int d = wrap_dim("repeat_interleave", dim, x.dim());
  check<ValueError>(repeats >= 0, "repeat_interleave: expected at least 0 repeats, got {}", repeats);
  return repeated(x, repeats, d, d + 1);
}

Tensor repeat_interleave(const Tensor& x, int64_t repeats) {
  return repeat_interleave(x.reshape({-1}), repeats, 0);
}

Tensors meshgrid(const Tensors& tensors, Indexing indexing) {
  check<ValueError>(!tensors.empty(), "meshgrid: no tensors were given");
  Shape shape;
  for (const Tensor& x : tensors) {
    check<ShapeError>(x.dim() <= 1, "meshgrid: expected vectors, got {}", describe(x));
    shape.push_back(x.numel());
  }
  Tensors grids;
  for (int i = 0; i < shape.size(); ++i) {
    Shape along(std::vector<int64_t>(shape.size(), 1));
    along[i] = shape[i];
    const Tensor grid = tensors[i].reshape(along).expand(shape);
    grids.push_back(indexing == Indexing::xy && shape.size() > 1 ? transpose(grid, 0, 1) : grid);
  }
  return grids;
}

namespace {

const RegisterOp cat_op("cat", [](OpCases& c) {
  const auto along = [](int64_t dim) { return [dim](const Tensors& in) { return cat(in, dim); }; };
  c.sample("last", {c.normal({2, 3}), c.normal({2, 1}), c.normal({2, 2})}, along(-1));
  c.sample("first", {c.normal({1, 2, 3}), c.normal({2, 2, 3})}, along(0));
  c.sample("middle", {c.normal({2, 1, 3}), c.normal({2, 4, 3})}, along(1));
  c.sample("an empty part", {c.normal({2, 3}), c.normal({0, 3}), c.normal({1, 3})}, along(0));
  c.sample("one", {c.normal({2, 3})}, along(0));
  c.fails<ValueError>("none", "cat: no tensors were given", {}, along(0));
  c.fails<ShapeError>("sizes", "cat: f32[2,4] beside f32[2,3]: sizes may differ in dim 0 only",
                      {zeros({2, 3}), zeros({2, 4})}, along(0));
  c.fails<ShapeError>("dim", "cat: dim 1 is out of range", {zeros({2})}, along(1));
});

const RegisterOp stack_op("stack", [](OpCases& c) {
  const auto along = [](int64_t dim) { return [dim](const Tensors& in) { return stack(in, dim); }; };
  c.sample("first", {c.normal({2, 3}), c.normal({2, 3})}, along(0));
  c.sample("last", {c.normal({2, 3}), c.normal({2, 3}), c.normal({2, 3})}, along(-1));
  c.sample("numbers", {c.normal({}), c.normal({})}, along(0));
  c.fails<ValueError>("none", "stack: no tensors were given", {}, along(0));
  c.fails<ShapeError>("shapes", "stack: f32[3] beside f32[2]", {zeros({2}), zeros({3})}, along(0));
});

// One part alone, and parts joined in another order, so that the place of each shows.
const RegisterOp split_op("split", [](OpCases& c) {
  c.sample("size 2, joined backwards", {c.normal({5, 3})}, [](const Tensors& in) {
    const Tensors parts = split(in[0], 2, 0);
    return cat({parts[2], parts[1], parts[0]}, 0);
  });
  c.sample("sizes, one used", {c.normal({2, 6})}, [](const Tensors& in) {
    return split(in[0], {1, 3, 2}, 1)[1];
  });
  c.sample("chunks", {c.normal({2, 5})}, [](const Tensors& in) { return chunk(in[0], 3, -1)[2]; });
  c.sample("unbind", {c.normal({2, 3})}, [](const Tensors& in) {
    const Tensors parts = unbind(in[0], 1);
    return stack({parts[2], parts[0], parts[2]});
  });
  c.fails<ShapeError>("sum", "split: sizes [1,3] of dim 0 of f32[5]: expected", [] {
    split(zeros({5}), std::vector<int64_t>{1, 3});
  });
  c.fails<ValueError>("size", "split: expected a size of at least 1, got 0", [] { split(zeros({5}), 0); });
  c.fails<ValueError>("chunks", "chunk: expected at least one chunk, got 0", [] { chunk(zeros({5}), 0); });
});

const RegisterOp tile_op("tile", [](OpCases& c) {
  const auto by = bound(tile);
  c.sample("columns", {c.normal({2, 3})}, by({2}));
  c.sample("both and a new one", {c.normal({2, 2})}, by({2, 3, 1}));
  c.sample("never", {c.normal({2, 3})}, by({0, 2}));
  c.fails<ValueError>("negative", "tile: expected repeats of at least 0, got [2,-1]", {zeros({2})},
                      by({2, -1}));
});

const RegisterOp repeat_interleave_op("repeat_interleave", [](OpCases& c) {
  using Along = Tensor (*)(const Tensor&, int64_t, int64_t);
  const auto by = bound(static_cast<Along>(repeat_interleave));
  c.sample("middle", {c.normal({2, 3, 2})}, by(2, 1));
  c.sample("last", {c.normal({2, 3})}, by(3, -1));
  c.sample("elements", {c.normal({2, 3})}, [](const Tensors& in) { return repeat_interleave(in[0], 2); });
  c.sample("never", {c.normal({2, 3})}, by(0, 0));
  c.fails<ValueError>("negative", "repeat_interleave: expected at least 0 repeats, got -1", {zeros({2})},
                      by(-1, 0));
  c.fails<ShapeError>("dim", "repeat_interleave: dim 1 is out of range", {zeros({2})}, by(2, 1));
});

const RegisterOp meshgrid_op("meshgrid", [](OpCases& c) {
  const auto stacked = [](Indexing indexing) {
    return [indexing](const Tensors& in) { return stack(meshgrid(in, indexing)); };
  };
  c.sample("ij", {c.normal({2}), c.normal({3}), c.normal({2})}, stacked(Indexing::ij));
  c.sample("xy", {c.normal({2}), c.normal({3})}, stacked(Indexing::xy));
  c.sample("number", {c.normal({}), c.normal({3})}, stacked(Indexing::ij));
  c.fails<ValueError>("none", "meshgrid: no tensors were given", [] { meshgrid({}); });
  c.fails<ShapeError>("matrix", "meshgrid: expected vectors, got f32[2,3]", {zeros({2, 3})},
                      stacked(Indexing::ij));
});

}  // namespace
}  // namespace tandem
