// gather: out[p] = x[p with p[dim] replaced by index[p]]. Its derivative adds each cotangent to where the
// value came from, which is scatter_add; the derivative of scatter_add is gather again.
#include "ops/indexing.h"

#include <algorithm>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/indexing_kernel.h"
#include "ops/loops/column_sums.h"
#include "ops/loops/gather.h"
#include "ops/loops/index.h"
#include "ops/loops/loop.h"
#include "ops/views.h"

namespace tandem {
namespace {

// Zeros of `shape`, or in[2] where it is given, with in[0] added at the positions of in[1].
struct ScatterAdd final : Op {
  int dim;
  Shape shape;
  ScatterAdd(int dim, const Shape& shape) : dim(dim), shape(shape) {}
  const char* name() const override { return "scatter_add"; }
  Tensor forward(const Tensors& in) override;
  Tensors vjp(const Tensor& g) override;
};

// x for a kernel that reads so many elements of it, one by one: on the CPU copied if it lies across, as
// gradients of what was turned do.
Tensor upright(const Tensor& x, int64_t reads) {
  return x.device() == kCpu && reads >= x.numel() && detail::lies_across(x) ? dense(x) : x;
}

struct Gather final : Op {
  int dim;
  Shape from;
  explicit Gather(int dim) : dim(dim) {}
  const char* name() const override { return "gather"; }
  Tensor forward(const Tensors& in) override {
    const Tensor &index = in[1], x = upright(in[0], index.numel());
    from = x.shape();
    const Tensor out = output(index.shape(), x);
    Shape strides = x.strides();
    const int64_t step = strides[dim];
    strides[dim] = 0;
    const Tensor base = make_view(x, index.shape(), strides);
    const detail::Walk<3> walk = detail::make_walk<3>(out, {&base, &index});
    const int last = walk.dims - 1;
    const int64_t os = walk.strides[0][last], xs = walk.strides[1][last], is = walk.strides[2][last];
    dispatch_all(x.dtype(), [&]<class T>() {
      if (run_on_device(x, detail::GatherAlong<T>{walk, out.device_data<T>(), x.device_data<T>(),
                                                  index.device_data<int64_t>(), step, from[dim]})) {
        return;
      }
      T* target = out.data<T>();
      const T* source = x.data<T>();
      const int64_t* at = index.data<int64_t>();
      detail::for_each_run(walk, [&](const std::array<int64_t, 3>& offsets, int64_t n) {
        T* o = target + offsets[0];
        const T* s = source + offsets[1];
        const int64_t* i = at + offsets[2];
        if (is == 0 && os == 1 && xs == 1) {
          std::copy_n(s + *i * step, n, o);  // one index for the whole run
        } else {
          for (int64_t k = 0; k < n; ++k) o[k * os] = s[i[k * is] * step + k * xs];
        }
      });
    });
    save(index);
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {apply<ScatterAdd>({g, saved(0), Tensor()}, dim, from)}; }
};

Tensors ScatterAdd::vjp(const Tensor& g) { return {apply<Gather>({g, saved(0)}, dim), Tensor(), g}; }

// Calls Write{}(out element, src element) for all positions of the index; those that may meet in one element
// of out, which differ along dim only, in their order: on one thread.
template <class Write> void write_at(const Tensor& out, int dim, const Tensor& index, const Tensor& source) {
  using O = typename Write::Out;
  using T = typename Write::Value;
  Shape rest = index.shape();
  const int64_t count = rest[dim];
  if (index.numel() == 0) return;
  rest[dim] = 1;
  const Tensor src = upright(source, index.numel());
  const Tensor target = make_view(out, rest, out.strides()), at = make_view(index, rest, index.strides()),
               sources = make_view(src, rest, src.strides());
  const detail::Walk<3> walk = detail::make_walk<3>(target, {&at, &sources});
  const int last = walk.dims - 1;
  const int64_t os = walk.strides[0][last], is = walk.strides[1][last], ss = walk.strides[2][last];
  const int64_t od = out.strides()[dim], id = index.strides()[dim], sd = src.strides()[dim];
  if (run_on_device(out,
                    detail::WriteAlong<Write>{walk, out.device_data<O>(), index.device_data<int64_t>(),
                                              src.device_data<T>(), count, out.shape()[dim], od, id, sd})) {
    return;
  }
  constexpr Write write;
  O* o = out.data<O>();
  const int64_t* i = index.data<int64_t>();
  const T* s = src.data<T>();
  auto run = [&](const std::array<int64_t, 3>& offsets, int64_t n) {
    O* to = o + offsets[0];
    const int64_t* where = i + offsets[1];
    const T* from = s + offsets[2];
    if (is == 0 && os == 1 && ss == 1) {  // one index for the whole run
      for (int64_t j = 0; j < count; ++j) {
        O* row = to + where[j * id] * od;
        const T* values = from + j * sd;
#pragma omp simd
        for (int64_t k = 0; k < n; ++k) write(row[k], values[k]);
      }
    } else {
      for (int64_t k = 0; k < n; ++k) {
        for (int64_t j = 0; j < count; ++j) {
          write(to[k * os + where[j * id + k * is] * od], from[j * sd + k * ss]);
        }
      }
    }
  };
  detail::for_each_run(walk, run, std::max<int64_t>(64, detail::kGrain / count));
}

Tensor ScatterAdd::forward(const Tensors& in) {
  const Tensor &src = in[0], &index = in[1];
  Tensor result;
  dispatch_numeric(name(), src.dtype(), [&]<class T>() {
    const auto add_up = [&]<class Sum>() {
      const Tensor total = output(shape, dtype_of<Sum>, src.device());
      if (in[2].defined()) {
        copy_elements(total, in[2]);
      } else {
        total.zero_();
      }
      write_at<detail::Accumulate<T, Sum>>(total, dim, index, src);
      result = total.to(src.dtype());
    };
    // As many as stand along dim may meet in one element.
    using C = compute_t<T>;
    index.size(dim) > kStretch ? add_up.template operator()<wide_t<C>>() : add_up.template operator()<C>();
  });
  save(index);
  return result;
}

}  // namespace

void detail::write_known(const Tensor& out, int dim, const Tensor& index, const Tensor& src) {
  dispatch_all(out.dtype(), [&]<class T>() { write_at<Assign<T>>(out, dim, index, src); });
}

namespace {

// in[0] with in[2] written at the positions of in[1].
struct Scatter final : Op {
  int dim;
  explicit Scatter(int dim) : dim(dim) {}
  const char* name() const override { return "scatter"; }
  Tensor forward(const Tensors& in) override {
    const Tensor out = output(in[0].shape(), in[0]);
    copy_elements(out, in[0]);
    detail::write_known(out, dim, in[1], in[2]);
    save(in[1]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    const Tensor index = saved(0), zero = zeros({}, {g.dtype(), g.device()});
    Tensor source;
    if (needs(2)) {
      // A source gets the gradient if its number along dim is the one that stayed.
      Shape along(std::vector<int64_t>(index.dim(), 1));
      along[dim] = index.shape()[dim];
      const TensorOptions integers{DType::i64, g.device()};
      const Tensor number =
          arange(0, static_cast<double>(along[dim]), 1, integers).reshape(along).expand(index.shape());
      const Tensor stayed = apply<Scatter>({zeros(g.shape(), integers), index, number}, dim);
      source = where(eq(apply<Gather>({stayed, index}, dim), number), apply<Gather>({g, index}, dim), zero);
    }
    return {needs(0) ? apply<Scatter>({g, index, zero.expand(index.shape())}, dim) : Tensor(), Tensor(),
            source};
  }
};

int check_layout(const char* op, const Tensor& x, int64_t dim, const Tensor& index) {
  const int d = wrap_dim(op, dim, x.dim());
  bool fits = index.dim() == x.dim();
  for (int i = 0; fits && i < x.dim(); ++i) fits = i == d || index.shape()[i] <= x.shape()[i];
  check<ShapeError>(fits,
                    "{}: the index {} does not fit {}: expected as many dimensions, none larger but dim {}",
                    op, describe(index), describe(x), d);
  return d;
}

struct Target {
  int dim;
  Tensor x, index, src;
};

Target checked_target(const char* op, const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  const int d = check_layout(op, x, dim, index);
  check<ShapeError>(src.shape() == index.shape(), "{}: src {} beside the index {}: expected equal shapes", op,
                    describe(src), describe(index));
  const DType dtype = promote(x.dtype(), src.dtype());
  return {d, x.to(dtype), detail::index_in_range(op, index, x.shape()[d]), src.to(dtype)};
}

// Whether there are so many elements apart from their neighbours along dim that it pays to bring those
// together: each access would miss the caches.
bool lies_apart(const Tensor& x, int dim, const Tensor& index) {
  constexpr int64_t kMany = 1 << 16;
  return x.numel() >= kMany && index.numel() >= x.numel() && x.device() == kCpu &&
         x.strides()[dim] > x.strides().back() && index.strides().back() != 0;
}

}  // namespace

Tensor detail::turned(const Tensor& x, int dim) { return x.transpose(dim, -1).contiguous(); }
using detail::turned;

Tensor gather(const Tensor& x, int64_t dim, const Tensor& index) {
  const int d = check_layout("gather", x, dim, index);
  const Tensor places = detail::index_in_range("gather", index, x.shape()[d]);
  if (!lies_apart(x, d, places)) return apply<Gather>({x, places}, d);
  return turned(apply<Gather>({turned(x, d), turned(places, d)}, x.dim() - 1), d);
}

Tensor detail::gather_known(const Tensor& x, int dim, const Tensor& index) {
  return apply<Gather>({x, index}, dim);
}

Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  const Target t = checked_target("scatter", x, dim, index, src);
  if (!lies_apart(t.x, t.dim, t.index)) return apply<Scatter>({t.x, t.index, t.src}, t.dim);
  const Tensors rows{turned(t.x, t.dim), turned(t.index, t.dim), turned(t.src, t.dim)};
  return turned(apply<Scatter>(rows, x.dim() - 1), t.dim);
}

Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& src) {
  const Target t = checked_target("scatter_add", x, dim, index, src);
  if (!lies_apart(t.x, t.dim, t.index)) return apply<ScatterAdd>({t.src, t.index, t.x}, t.dim, x.shape());
  const Tensors rows{turned(t.src, t.dim), turned(t.index, t.dim), turned(t.x, t.dim)};
  return turned(apply<ScatterAdd>(rows, x.dim() - 1, rows[2].shape()), t.dim);
}

Tensor index_select(const Tensor& x, int64_t dim, const Tensor& indices) {
  const int d = wrap_dim("index_select", dim, x.dim());
  check<ShapeError>(indices.dim() == 1, "index_select: expected indices of one dimension, got {}",
                    describe(indices));
  Shape shape = x.shape(), along(std::vector<int64_t>(x.dim(), 1));
  shape[d] = along[d] = indices.numel();
  const Tensor index = detail::checked_index("index_select", indices, x.shape()[d]);
  return apply<Gather>({x, index.reshape(along).expand(shape)}, d);
}

Tensor one_hot(const Tensor& indices, int64_t classes, DType dtype) {
  if (classes == -1) {
    const std::vector<int64_t> all = indices.to_vector<int64_t>();
    check<ValueError>(!all.empty(), "one_hot: {} has no index to tell the number of classes",
                      describe(indices));
    classes = std::max<int64_t>(0, *std::max_element(all.begin(), all.end())) + 1;
  }
  check<ValueError>(classes >= 1, "one_hot: expected at least one class, got {}", classes);
  const Tensor index = detail::checked_index("one_hot", indices, classes);
  return eq(index.unsqueeze(-1), arange(0, static_cast<double>(classes), 1, {DType::i64, index.device()}))
      .to(dtype);
}

namespace {

Tensor index_of(std::vector<int64_t> values, const Shape& shape) { return from_values(values, shape); }
Tensor index_of(std::vector<int64_t> values) {
  return index_of(values, {static_cast<int64_t>(values.size())});
}

const RegisterOp gather_op("gather", [](OpCases& c) {
  const auto along = bound(gather);
  c.sample("repeats", {c.normal({2, 4})}, along(1, index_of({3, 0, 3, 1, 1, 2}, {2, 3})));
  c.sample("smaller", {c.normal({4, 3})}, along(0, index_of({3, 0, 0, 2, 1, 0, 3, 3, 0, 1}, {5, 2})));
  c.sample("middle", {c.normal({2, 3, 2})}, along(-2, index_of({2, 0, 1, 1}, {2, 1, 2})));
  c.sample("i32", {c.normal({3})}, along(0, index_of({2, 2}).to(DType::i32)));
  c.sample("empty", {c.normal({2, 3})}, along(1, zeros({2, 0}, {DType::i64})));
  const Tensor x = zeros({3});
  c.fails<ValueError>("range", "gather: index 3 is out of range for size 3", {x}, along(0, index_of({0, 3})));
  c.fails<ValueError>("negative", "gather: index -1 is out of range for size 3", {x},
                      along(0, index_of({-1})));
  c.fails<ShapeError>("shape", "gather: the index i64[1] does not fit f32[3,2]", {zeros({3, 2})},
                      along(0, index_of({0})));
  c.fails<DTypeError>("float", "gather: expected an index dtype", {x}, along(0, zeros({1})));
});

using Writer = Tensor (*)(const Tensor&, int64_t, const Tensor&, const Tensor&);

void scatter_cases(OpCases& c, const std::string& name, Writer f) {
  const auto along = [f](int64_t dim, Tensor index) {
    return [=](const Tensors& in) { return f(in[0], dim, index.to(in[0].device()), in[1]); };
  };
  c.sample("repeats", {c.normal({2, 4}), c.normal({2, 3})}, along(1, index_of({3, 0, 3, 1, 1, 2}, {2, 3})));
  c.sample("smaller", {c.normal({4, 3}), c.normal({5, 2})},
           along(0, index_of({3, 0, 0, 2, 1, 0, 3, 3, 0, 1}, {5, 2})));
  c.sample("middle", {c.normal({2, 3, 2}), c.normal({2, 1, 2})},
           along(-2, index_of({2, 0, 1, 1}, {2, 1, 2})));
  c.sample("empty", {c.normal({2, 3}), c.normal({2, 0})}, along(1, zeros({2, 0}, {DType::i64})));
  c.fails<ValueError>("range", name + ": index 3 is out of range for size 3", {zeros({3}), zeros({1})},
                      along(0, index_of({3})));
  c.fails<ShapeError>("src", name + ": src f32[2] beside the index i64[1]", {zeros({3}), zeros({2})},
                      along(0, index_of({0})));
}

const RegisterOp scatter_op("scatter", [](OpCases& c) { scatter_cases(c, "scatter", scatter); });
const RegisterOp scatter_add_op("scatter_add",
                                [](OpCases& c) { scatter_cases(c, "scatter_add", scatter_add); });

const RegisterOp index_select_op("index_select", [](OpCases& c) {
  const auto along = bound(index_select);
  c.sample("rows", {c.normal({4, 3})}, along(0, index_of({3, 1, 3})));
  c.sample("middle", {c.normal({2, 3, 2})}, along(1, index_of({2, 0, 0, 1})));
  c.sample("columns", {c.normal({3, 4})}, along(-1, index_of({1, 1})));
  c.sample("none", {c.normal({3, 4})}, along(0, index_of({})));
  c.fails<ValueError>("range", "index_select: index 4 is out of range for size 3", {zeros({3})},
                      along(0, index_of({4})));
  c.fails<ShapeError>("dimensions", "index_select: expected indices of one dimension, got i64[1,1]",
                      {zeros({3})}, along(0, zeros({1, 1}, {DType::i64})));
});

void one_hot_cases(OpCases& c) {
  const auto of = bound(one_hot);
  c.sample("2x3", {c.integers({2, 3}, 0, 4)}, of(4, DType::i64));
  c.sample("number", {c.integers({}, 0, 4)}, of(4, DType::i64));
  c.sample("as many as there are", {c.integers({5}, 0, 4)}, of(-1, DType::i64));
  c.fails<ValueError>("range", "one_hot: index 4 is out of range for size 4", {index_of({4})},
                      of(4, DType::i64));
  c.fails<ValueError>("classes", "one_hot: expected at least one class, got 0", {index_of({})},
                      of(0, DType::i64));
  c.fails<ValueError>("none", "one_hot: i64[0] has no index to tell the number of classes", {index_of({})},
                      of(-1, DType::i64));
  c.fails<ValueError>("negative", "one_hot: index -2 is out of range for size 1", {index_of({-2})},
                      of(-1, DType::i64));
}
const RegisterOp one_hot_op("one_hot", one_hot_cases, {.differentiable = false});

}  // namespace
}  // namespace tandem
