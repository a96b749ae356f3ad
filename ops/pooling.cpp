// A pool is linear once its windows (and the winners in them) are known: its vjp spreads g over them, and the
// vjp of that pools again.
#include "ops/pooling.h"

#include "autograd/kernel.h"
#include "autograd/op.h"
#include "autograd/registry.h"
#include "ops/loops/rows.h"
#include "ops/pooling_cpu.h"

namespace tandem {
namespace {

using detail::PoolAxis;
using detail::PoolMaps;
using detail::PoolWindows;

PoolAxis sliding(const char* op, const Tensor& x, int64_t size, int64_t kernel, int64_t stride,
                 int64_t padding, bool counts_padding) {
  check<ShapeError>(kernel >= 1 && stride >= 1 && padding >= 0 && 2 * padding <= kernel,
                    "{}: kernel {}, stride {}, padding {}: expected kernel and stride of at least 1, padding "
                    "of at most half a kernel",
                    op, kernel, stride, padding);
  check<ShapeError>(size >= 1 && size + 2 * padding >= kernel,
                    "{}: the kernel {} is larger than the padded map of {}", op, kernel, describe(x));
  return {size, (size + 2 * padding - kernel) / stride + 1, kernel, stride, padding, counts_padding};
}

// One number is that of both sides.
Shape pair(const Shape& sizes) { return sizes.size() == 1 ? Shape{sizes[0], sizes[0]} : sizes; }

PoolWindows sliding(const char* op, const Tensor& x, const Shape& kernels, const Shape& strides,
                    const Shape& paddings, bool counts_padding) {
  const Shape kernel = pair(kernels), step = strides.empty() ? kernel : pair(strides),
              padding = pair(paddings);
  check<ShapeError>(x.dim() >= 2, "{}: expected [..., H, W], got {}", op, describe(x));
  check<ShapeError>(kernel.size() == 2 && step.size() == 2 && padding.size() == 2,
                    "{}: kernel {}, stride {} and padding {} must be a number or a pair [height, width]", op,
                    kernel, step, padding);
  return {sliding(op, x, x.size(-2), kernel[0], step[0], padding[0], counts_padding),
          sliding(op, x, x.size(-1), kernel[1], step[1], padding[1], counts_padding)};
}

PoolAxis adaptive(const Tensor& x, int64_t size, int64_t windows) {
  check<ShapeError>(size >= 1 && windows >= 1,
                    "adaptive_avg_pool2d: expected sizes of at least 1, got {} windows for {}", windows,
                    describe(x));
  return {size, windows};
}

Shape with_map(Shape shape, int64_t h, int64_t w) {
  shape[shape.size() - 2] = h;
  shape[shape.size() - 1] = w;
  return shape;
}

// The maps, or windows, of x: of any leading dimensions and passes.
PoolMaps maps_of(const Tensor& x, const PoolWindows& windows) {
  const int64_t size = x.size(-1) * x.size(-2);
  return {windows, size ? x.numel() / size * x.passes() : 0};
}

// An op from maps to their windows, or back.
struct PoolOp : Op {
  PoolWindows windows;
  explicit PoolOp(const PoolWindows& windows) : windows(windows) {}

 protected:
  template <class Body> void for_each_map(const PoolMaps& all, Body&& body) const {
    detail::for_each_row(all.maps, elements(), body);
  }
  int64_t elements() const { return windows.h.map * windows.w.map; }         // of a map
  int64_t results() const { return windows.h.windows * windows.w.windows; }  // of a map
  Tensor of_windows(const Tensor& x) const {
    return output(with_map(x.shape(), windows.h.windows, windows.w.windows), x);
  }
  Tensor of_elements(const Tensor& x) const {
    return output(with_map(x.shape(), windows.h.map, windows.w.map), x);
  }

  // Calls body(window's number, elements in it, each) for all windows of a map, where each(f) calls f(place
  // of an element in the map) for the window's elements.
  template <class Body> void for_each_window(Body&& body) const {
    const PoolAxis &h = windows.h, &w = windows.w;
    for (int64_t i = 0, window = 0; i < h.windows; ++i) {
      for (int64_t j = 0; j < w.windows; ++j, ++window) {
        body(window, h.count(i) * w.count(j), [&](auto&& f) {
          for (int64_t y = h.begin(i); y < h.end(i); ++y) {
            for (int64_t k = w.begin(j); k < w.end(j); ++k) f(y * w.map + k);
          }
        });
      }
    }
  }
};

Tensor spread_mean(const Tensor& g, const PoolWindows& windows);
Tensor scatter_winners(const Tensor& g, const Tensor& winners, const PoolWindows& windows);

// One mean a window.
struct AvgPool final : PoolOp {
  using PoolOp::PoolOp;
  const char* name() const override { return "avg_pool2d"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]), out = of_windows(x);
    const PoolMaps all = maps_of(x, windows);
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      if (run_on_device(x, detail::AvgPoolArgs<T>{all, x.device_data<T>(), out.device_data<T>()})) return;
      for_each_map(all, [&, from = x.data<T>(), to = out.data<T>()](int64_t map) {
        const T* source = from + map * elements();
        for_each_window([&, target = to + map * results()](int64_t window, int64_t count, auto each) {
          double sum = 0;
          each([&](int64_t at) { sum += static_cast<A>(source[at]); });
          target[window] = static_cast<A>(sum / static_cast<double>(count));
        });
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {spread_mean(g, windows)}; }
};

// Its transpose: every element gets its share of each window it is in.
struct AvgPoolGrad final : PoolOp {
  using PoolOp::PoolOp;
  const char* name() const override { return "avg_pool2d_grad"; }
  Tensor forward(const Tensors& in) override {
    const Tensor g = dense(in[0]), out = of_elements(g);
    const PoolMaps all = maps_of(out, windows);
    dispatch_floating(name(), g.dtype(), [&]<class T>() {
      using A = accumulate_t<T>;
      if (run_on_device(g, detail::AvgPoolGradArgs<T>{all, g.device_data<T>(), out.device_data<T>()})) return;
      for_each_map(all, [&, from = g.data<T>(), to = out.data<T>()](int64_t map) {
        std::vector<A> sums(elements(), A(0));
        for_each_window([&, source = from + map * results()](int64_t window, int64_t count, auto each) {
          const A share = static_cast<A>(source[window]) / static_cast<A>(count);
          each([&](int64_t at) { sums[at] += share; });
        });
        std::copy(sums.begin(), sums.end(), to + map * elements());
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& c) override { return {apply<AvgPool>({c}, windows)}; }
};

Tensor spread_mean(const Tensor& g, const PoolWindows& windows) { return apply<AvgPoolGrad>({g}, windows); }

// Calls f with the winners' places on the CPU, which are bytes where a window has so few.
template <class F> void with_places(const Tensor& winners, F&& f) {
  winners.dtype() == DType::u8 ? f(winners.data<uint8_t>()) : f(winners.data<int32_t>());
}

// The elements of c at the winners' places: the derivative of max pool's gradient.
struct GatherWinners final : PoolOp {
  using PoolOp::PoolOp;
  const char* name() const override { return "max_pool2d_gather"; }
  Tensor forward(const Tensors& in) override {
    const Tensor c = dense(in[0]), winners = save(in[1]), out = of_windows(c);
    const PoolMaps all = maps_of(c, windows);
    dispatch_floating(name(), c.dtype(), [&]<class T>() {
      if (c.device() != kCpu)
        return (void)run_on_device(
            c, detail::GatherWinnersArgs<T>{all, c.device_data<T>(), winners.device_data<int32_t>(),
                                            out.device_data<T>()});
      with_places(winners, [&]<class Place>(Place* places) {
        detail::gather_winners_cpu<T, Place>({all, c.data<T>(), places, out.data<T>()});
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {scatter_winners(g, saved(0), windows)}; }
};

struct ScatterWinners final : PoolOp {
  using PoolOp::PoolOp;
  const char* name() const override { return "max_pool2d_grad"; }
  Tensor forward(const Tensors& in) override {
    const Tensor g = dense(in[0]), winners = save(in[1]), out = of_elements(g);
    const PoolMaps all = maps_of(out, windows);
    dispatch_floating(name(), g.dtype(), [&]<class T>() {
      if (g.device() != kCpu)
        return (void)run_on_device(
            g, detail::ScatterWinnersArgs<T>{all, g.device_data<T>(), winners.device_data<int32_t>(),
                                             out.device_data<T>()});
      with_places(winners, [&]<class Place>(Place* places) {
        detail::scatter_winners_cpu<T, Place>({all, g.data<T>(), places, out.data<T>()});
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& c) override { return {apply<GatherWinners>({c, saved(0)}, windows)}; }
};

Tensor scatter_winners(const Tensor& g, const Tensor& winners, const PoolWindows& windows) {
  return apply<ScatterWinners>({g, winners}, windows);
}

struct MaxPool final : PoolOp {
  using PoolOp::PoolOp;
  const char* name() const override { return "max_pool2d"; }
  Tensor forward(const Tensors& in) override {
    const Tensor x = dense(in[0]), out = of_windows(x);
    const bool bytes = x.device() == kCpu && windows.h.size * windows.w.size <= 256;
    const Tensor winners = output(out.shape(), bytes ? DType::u8 : DType::i32, x.device());
    save(winners);
    const PoolMaps all = maps_of(x, windows);
    dispatch_floating(name(), x.dtype(), [&]<class T>() {
      if (x.device() != kCpu)
        return (void)run_on_device(x, detail::MaxPoolArgs<T>{all, x.device_data<T>(), out.device_data<T>(),
                                                             winners.device_data<int32_t>()});
      with_places(winners, [&]<class Place>(Place* places) {
        detail::max_pool_cpu<T, Place>({all, x.data<T>(), out.data<T>(), places});
      });
    });
    return out;
  }
  Tensors vjp(const Tensor& g) override { return {scatter_winners(g, saved(0), windows)}; }
};

}  // namespace

Tensor max_pool2d(const Tensor& x, const Shape& kernel, const Shape& stride, const Shape& padding) {
  const PoolWindows windows = sliding("max_pool2d", x, kernel, stride, padding, false);
  return apply<MaxPool>({x}, windows);
}

Tensor avg_pool2d(const Tensor& x, const Shape& kernel, const Shape& stride, const Shape& padding,
                  bool count_include_pad) {
  const PoolWindows windows = sliding("avg_pool2d", x, kernel, stride, padding, count_include_pad);
  return apply<AvgPool>({x}, windows);
}

Tensor adaptive_avg_pool2d(const Tensor& x, const Shape& sizes) {
  const Shape size = pair(sizes);
  check<ShapeError>(x.dim() >= 2 && size.size() == 2,
                    "adaptive_avg_pool2d: expected [..., H, W] and one or two sizes, got {} and {}",
                    describe(x), size);
  const PoolWindows windows{adaptive(x, x.size(-2), size[0]), adaptive(x, x.size(-1), size[1])};
  return apply<AvgPool>({x}, windows);
}

namespace {

using Pool = Tensor (*)(const Tensor&, const Shape& kernel, const Shape& stride, const Shape& padding);

// What both pools with sliding windows are checked with.
void sliding_cases(OpCases& c, const std::string& name, Pool pool) {
  const auto with = bound(pool);
  c.sample("2x2", {c.distinct({2, 1, 4, 4})}, with({2, 2}, {}, {0, 0}));
  c.sample("overlapping, padding", {c.distinct({1, 2, 5, 4})}, with({3, 2}, {2, 1}, {1, 1}));
  c.sample("one number for both sides", {c.distinct({1, 5, 5})}, with(3, 2, 1));
  c.sample("one map", {c.distinct({3, 3})}, with({3, 2}, {1, 1}, {0, 0}));
  c.sample("no samples", {c.distinct({0, 1, 4, 4})}, with({2, 2}, {}, {0, 0}));

  const Tensor x = zeros({1, 1, 4, 4});
  c.fails<ShapeError>("kernel", name + ": the kernel 5 is larger than the padded map of f32[1,1,4,4]", {x},
                      with({5, 2}, {}, {0, 0}));
  c.fails<ShapeError>("padding", name + ": kernel 2, stride 2, padding 2: expected", {x},
                      with({2, 2}, {}, {2, 0}));
  c.fails<ShapeError>("pair",
                      name + ": kernel [2,2,2], stride [2,2,2] and padding [0,0] must be a number or a pair",
                      {x}, with({2, 2, 2}, {}, {0, 0}));
  c.fails<ShapeError>("rank", name + ": expected [..., H, W], got f32[4]", {zeros({4})},
                      with({2, 2}, {}, {0, 0}));
  c.fails<DTypeError>("i64", name + ": expected a floating dtype", {x.to(DType::i64)},
                      with({2, 2}, {}, {0, 0}));
}

const RegisterOp max_pool2d_op("max_pool2d", [](OpCases& c) { sliding_cases(c, "max_pool2d", max_pool2d); });

const RegisterOp avg_pool2d_op("avg_pool2d", [](OpCases& c) {
  sliding_cases(c, "avg_pool2d",
                [](const Tensor& x, const Shape& kernel, const Shape& stride, const Shape& padding) {
                  return avg_pool2d(x, kernel, stride, padding);
                });
  c.sample("padding not counted", {c.normal({1, 5, 4})}, bound(avg_pool2d)({3, 3}, {2, 2}, {1, 1}, false));
});

const RegisterOp adaptive_avg_pool2d_op("adaptive_avg_pool2d", [](OpCases& c) {
  const auto to = bound(adaptive_avg_pool2d);
  c.sample("global", {c.normal({2, 2, 3, 4})}, to(1));
  c.sample("uneven", {c.normal({1, 5, 7})}, to({3, 2}));
  c.sample("more windows than rows", {c.normal({1, 2, 3})}, to({3, 3}));
  c.fails<ShapeError>("no windows",
                      "adaptive_avg_pool2d: expected sizes of at least 1, got 0 windows for f32[1,4,4]",
                      {zeros({1, 4, 4})}, to({0, 1}));
  c.fails<ShapeError>("pair", "adaptive_avg_pool2d: expected [..., H, W] and one or two sizes",
                      {zeros({1, 4, 4})}, to({1, 1, 1}));
});

}  // namespace
}  // namespace tandem
