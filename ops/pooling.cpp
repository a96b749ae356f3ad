// A pool is linear once its windows (and the winners in them) are known: its vjp spreads g over them, and the
// vjp of that pools again.
#include "ops/pooling.h"

#include <limits>

#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/detail/loop.h"

namespace tandem {
namespace {

// Where the windows lie along one axis: [begin, end) inside of the map, and what each counts for in a mean.
struct Axis {
  int64_t size;
  std::vector<int64_t> begin, end, count;
  int64_t windows() const { return static_cast<int64_t>(begin.size()); }
};
struct Windows {
  Axis h, w;
};

Axis sliding(const char* op, const Tensor& x, int64_t size, int64_t kernel, int64_t stride, int64_t padding,
             bool counts_padding) {
  check<ShapeError>(kernel >= 1 && stride >= 1 && padding >= 0 && 2 * padding <= kernel,
                    "{}: kernel {}, stride {}, padding {}: expected kernel and stride of at least 1, padding "
                    "of at most half a kernel",
                    op, kernel, stride, padding);
  check<ShapeError>(size >= 1 && size + 2 * padding >= kernel,
                    "{}: the kernel {} is larger than the padded map of {}", op, kernel, describe(x));
  Axis axis{size, {}, {}, {}};
  for (int64_t from = -padding; from + kernel <= size + padding; from += stride) {
    axis.begin.push_back(std::max<int64_t>(from, 0));
    axis.end.push_back(std::min(from + kernel, size));
    axis.count.push_back(counts_padding ? kernel : axis.end.back() - axis.begin.back());
  }
  return axis;
}

Windows sliding(const char* op, const Tensor& x, const Shape& kernel, const Shape& stride,
                const Shape& padding, bool counts_padding) {
  const Shape step = stride.empty() ? kernel : stride;
  check<ShapeError>(x.dim() >= 2, "{}: expected [..., H, W], got {}", op, describe(x));
  check<ShapeError>(kernel.size() == 2 && step.size() == 2 && padding.size() == 2,
                    "{}: kernel {}, stride {} and padding {} must be pairs [height, width]", op, kernel, step,
                    padding);
  return {sliding(op, x, x.size(-2), kernel[0], step[0], padding[0], counts_padding),
          sliding(op, x, x.size(-1), kernel[1], step[1], padding[1], counts_padding)};
}

Axis adaptive(const Tensor& x, int64_t size, int64_t windows) {
  check<ShapeError>(size >= 1 && windows >= 1,
                    "adaptive_avg_pool2d: expected sizes of at least 1, got {} windows for {}", windows,
                    describe(x));
  Axis axis{size, {}, {}, {}};
  for (int64_t i = 0; i < windows; ++i) {
    axis.begin.push_back(i * size / windows);
    axis.end.push_back(((i + 1) * size + windows - 1) / windows);
    axis.count.push_back(axis.end.back() - axis.begin.back());
  }
  return axis;
}

Shape with_map(Shape shape, int64_t h, int64_t w) {
  shape[shape.size() - 2] = h;
  shape[shape.size() - 1] = w;
  return shape;
}

// Calls body(map) for every map of x (of any leading dimensions and passes).
template <class Body>
void for_each_map(const Tensor& x, Body&& body) {
  const int64_t size = x.size(-1) * x.size(-2);
  const int64_t maps = size ? x.numel() / size * x.passes() : 0;
  parallel_for(maps, std::max<int64_t>(1, detail::kGrain / std::max<int64_t>(1, size)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t map = begin; map < end; ++map) body(map);
               });
}

Tensor spread_mean(const Tensor& g, const Windows& windows);
Tensor scatter_winners(const Tensor& g, const Tensor& winners, int64_t h, int64_t w);

// One mean a window.
struct AvgPool final : Op {
  static constexpr bool batches_passes = true;
  Windows windows;
  explicit AvgPool(const Windows& windows) : windows(windows) {}
  const char* name() const override { return "avg_pool2d"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]);
    const Axis &h = windows.h, &w = windows.w;
    const Tensor out = output(with_map(x.shape(), h.windows(), w.windows()), x);
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      for_each_map(x, [&, from = x.data<T>(), to = out.data<T>()](int64_t map) {
        const T* source = from + map * h.size * w.size;
        T* target = to + map * h.windows() * w.windows();
        for (int64_t i = 0; i < h.windows(); ++i) {
          for (int64_t j = 0; j < w.windows(); ++j) {
            A sum = 0;
            for (int64_t y = h.begin[i]; y < h.end[i]; ++y) {
              for (int64_t k = w.begin[j]; k < w.end[j]; ++k) sum += static_cast<A>(source[y * w.size + k]);
            }
            *target++ = sum / static_cast<A>(h.count[i] * w.count[j]);
          }
        }
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {spread_mean(g, windows)}; }
};

// Its transpose: every element gets its share of each window it is in.
struct AvgPoolGrad final : Op {
  static constexpr bool batches_passes = true;
  Windows windows;
  explicit AvgPoolGrad(const Windows& windows) : windows(windows) {}
  const char* name() const override { return "avg_pool2d_grad"; }
  Tensor forward(const Tensors& in) override {
    const Tensor g = dense(in[0]);
    const Axis &h = windows.h, &w = windows.w;
    const Tensor out = output(with_map(g.shape(), h.size, w.size), g);
    dispatch_floating(name(), g.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      for_each_map(out, [&, from = g.data<T>(), to = out.data<T>()](int64_t map) {
        const T* source = from + map * h.windows() * w.windows();
        T* target = to + map * h.size * w.size;
        std::vector<A> sums(h.size * w.size, A(0));
        for (int64_t i = 0; i < h.windows(); ++i) {
          for (int64_t j = 0; j < w.windows(); ++j) {
            const A share = static_cast<A>(*source++) / static_cast<A>(h.count[i] * w.count[j]);
            for (int64_t y = h.begin[i]; y < h.end[i]; ++y) {
              for (int64_t k = w.begin[j]; k < w.end[j]; ++k) sums[y * w.size + k] += share;
            }
          }
        }
        for (size_t i = 0; i < sums.size(); ++i) target[i] = sums[i];
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& c) override { return {apply<AvgPool>({c}, windows)}; }
};

Tensor spread_mean(const Tensor& g, const Windows& windows) { return apply<AvgPoolGrad>({g}, windows); }

// The elements of c at the winners' places in their maps: what the gradient of a max pool is differentiated
// to.
struct GatherWinners final : Op {
  static constexpr bool batches_passes = true;
  int64_t h, w;
  GatherWinners(int64_t h, int64_t w) : h(h), w(w) {}
  const char* name() const override { return "max_pool2d_gather"; }
  Tensor forward(const Tensors& in) override {
    const Tensor c = dense(in[0]), winners = save(in[1]);
    const Tensor out = output(winners.shape(), c);
    const int64_t per_map = winners.size(-1) * winners.size(-2);
    dispatch_floating(name(), c.dtype(), [&]<class T>() {
      for_each_map(out,
                   [&, from = c.data<T>(), at = winners.data<int32_t>(), to = out.data<T>()](int64_t map) {
                     for (int64_t i = map * per_map; i < (map + 1) * per_map; ++i)
                       to[i] = from[map * h * w + at[i]];
                   });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {scatter_winners(g, saved(0), h, w)}; }
};

struct ScatterWinners final : Op {
  static constexpr bool batches_passes = true;
  int64_t h, w;
  ScatterWinners(int64_t h, int64_t w) : h(h), w(w) {}
  const char* name() const override { return "max_pool2d_grad"; }
  Tensor forward(const Tensors& in) override {
    const Tensor g = dense(in[0]), winners = save(in[1]);
    const Tensor out = output(with_map(g.shape(), h, w), g);
    const int64_t per_map = winners.size(-1) * winners.size(-2);
    dispatch_floating(name(), g.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      for_each_map(out,
                   [&, from = g.data<T>(), at = winners.data<int32_t>(), to = out.data<T>()](int64_t map) {
                     std::vector<A> sums(h * w, A(0));  // an element may win in several windows
                     for (int64_t i = map * per_map; i < (map + 1) * per_map; ++i)
                       sums[at[i]] += static_cast<A>(from[i]);
                     for (int64_t i = 0; i < h * w; ++i) to[map * h * w + i] = sums[i];
                   });
    });
    return out;
  }
  Tensors vjp(const Tensor& c) override { return {apply<GatherWinners>({c, saved(0)}, h, w)}; }
};

Tensor scatter_winners(const Tensor& g, const Tensor& winners, int64_t h, int64_t w) {
  return apply<ScatterWinners>({g, winners}, h, w);
}

struct MaxPool final : Op {
  static constexpr bool batches_passes = true;
  Windows windows;
  explicit MaxPool(const Windows& windows) : windows(windows) {}
  const char* name() const override { return "max_pool2d"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]);
    const Axis &h = windows.h, &w = windows.w;
    const Tensor out = output(with_map(x.shape(), h.windows(), w.windows()), x);
    const Tensor winners = output(out.shape(), DType::i32, x.device());
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      using C = compute_t<T>;
      for_each_map(x, [&, from = x.data<T>(), to = out.data<T>(), at = winners.data<int32_t>()](int64_t map) {
        const T* source = from + map * h.size * w.size;
        int64_t o = map * h.windows() * w.windows();
        for (int64_t i = 0; i < h.windows(); ++i) {
          for (int64_t j = 0; j < w.windows(); ++j, ++o) {
            int64_t winner = h.begin[i] * w.size + w.begin[j];
            C best = source[winner];
            for (int64_t y = h.begin[i]; y < h.end[i]; ++y) {
              for (int64_t k = w.begin[j]; k < w.end[j]; ++k) {
                const C value = source[y * w.size + k];
                if (value > best || (value != value && best == best)) {
                  best = value;
                  winner = y * w.size + k;
                }
              }
            }
            to[o] = best;
            at[o] = static_cast<int32_t>(winner);
          }
        }
      });
    });
    save(winners);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    return {scatter_winners(g, saved(0), windows.h.size, windows.w.size)};
  }
};

}  // namespace

Tensor max_pool2d(const Tensor& x, const Shape& kernel, const Shape& stride, const Shape& padding) {
  const Windows windows = sliding("max_pool2d", x, kernel, stride, padding, false);
  return apply<MaxPool>({x}, windows);
}

Tensor avg_pool2d(const Tensor& x, const Shape& kernel, const Shape& stride, const Shape& padding,
                  bool count_include_pad) {
  const Windows windows = sliding("avg_pool2d", x, kernel, stride, padding, count_include_pad);
  return apply<AvgPool>({x}, windows);
}

Tensor adaptive_avg_pool2d(const Tensor& x, const Shape& size) {
  check<ShapeError>(x.dim() >= 2 && size.size() == 2,
                    "adaptive_avg_pool2d: expected [..., H, W] and a pair of sizes, got {} and {}",
                    describe(x), size);
  const Windows windows{adaptive(x, x.size(-2), size[0]), adaptive(x, x.size(-1), size[1])};
  return apply<AvgPool>({x}, windows);
}

namespace {

template <class F>
Samples sliding_samples(SampleMaker& make, F f) {
  auto with = [f](Shape kernel, Shape stride, Shape padding) {
    return [=](const Tensors& in) { return f(in[0], kernel, stride, padding); };
  };
  return {{"2x2", {make.distinct({2, 1, 4, 4})}, with({2, 2}, {}, {0, 0})},
          {"overlapping, padding", {make.distinct({1, 2, 5, 4})}, with({3, 2}, {2, 1}, {1, 1})},
          {"one map", {make.distinct({3, 3})}, with({3, 2}, {1, 1}, {0, 0})},
          {"no samples", {make.distinct({0, 1, 4, 4})}, with({2, 2}, {}, {0, 0})}};
}

template <class F>
ErrorSamples sliding_errors(const std::string& name, F f) {
  return {fails<ShapeError>("kernel", name + ": the kernel 5 is larger than the padded map of f32[1,1,4,4]",
                            [f] {
                              f(zeros({1, 1, 4, 4}), Shape{5, 2}, Shape{}, Shape{0, 0});
                            }),
          fails<ShapeError>("padding", name + ": kernel 2, stride 2, padding 2: expected",
                            [f] {
                              f(zeros({1, 1, 4, 4}), Shape{2, 2}, Shape{}, Shape{2, 0});
                            }),
          fails<ShapeError>("pair", name + ": kernel [2], stride [2] and padding [0,0] must be pairs",
                            [f] {
                              f(zeros({1, 1, 4, 4}), Shape{2}, Shape{}, Shape{0, 0});
                            }),
          fails<ShapeError>("rank", name + ": expected [..., H, W], got f32[4]",
                            [f] {
                              f(zeros({4}), Shape{2, 2}, Shape{}, Shape{0, 0});
                            }),
          fails<DTypeError>("i64", name + ": expected a floating dtype", [f] {
            f(zeros({1, 4, 4}, {DType::i64}), Shape{2, 2}, Shape{}, Shape{0, 0});
          })};
}

Tensor average(const Tensor& x, const Shape& kernel, const Shape& stride, const Shape& padding) {
  return avg_pool2d(x, kernel, stride, padding);
}

const RegisterOp max_op{{.name = "max_pool2d",
                         .samples = [](SampleMaker& make) { return sliding_samples(make, max_pool2d); },
                         .errors = [] { return sliding_errors("max_pool2d", max_pool2d); }}};

const RegisterOp avg_op{{.name = "avg_pool2d",
                         .samples =
                             [](SampleMaker& make) {
                               Samples samples = sliding_samples(make, average);
                               samples.push_back(
                                   {"padding not counted", {make.normal({1, 5, 4})}, [](auto& in) {
                                      return avg_pool2d(in[0], {3, 3}, {2, 2}, {1, 1}, false);
                                    }});
                               return samples;
                             },
                         .errors = [] { return sliding_errors("avg_pool2d", average); }}};

const RegisterOp adaptive_op{
    {.name = "adaptive_avg_pool2d",
     .samples =
         [](SampleMaker& make) {
           auto to = [](Shape size) {
             return [size](const Tensors& in) { return adaptive_avg_pool2d(in[0], size); };
           };
           return Samples{{"global", {make.normal({2, 2, 3, 4})}, to({1, 1})},
                          {"uneven", {make.normal({1, 5, 7})}, to({3, 2})},
                          {"more windows than rows", {make.normal({1, 2, 3})}, to({3, 3})}};
         },
     .errors =
         [] {
           return ErrorSamples{
               fails<ShapeError>(
                   "no windows",
                   "adaptive_avg_pool2d: expected sizes of at least 1, got 0 windows for f32[1,4,4]",
                   [] {
                     adaptive_avg_pool2d(zeros({1, 4, 4}), {0, 1});
                   }),
               fails<ShapeError>("pair", "adaptive_avg_pool2d: expected [..., H, W] and a pair of sizes", [] {
                 adaptive_avg_pool2d(zeros({1, 4, 4}), {1});
               })};
         }}};

}  // namespace
}  // namespace tandem
