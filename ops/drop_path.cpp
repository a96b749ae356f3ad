#include "ops/drop_path.h"

#include <algorithm>

#include "autograd/registry.h"
#include "ops/dropout_op.h"

namespace tandem {
namespace {

struct DropSamples {  // one draw for each sample, at position 0
  static constexpr const char* name = "drop_path";
  static constexpr bool converts = false;
  template <class T, class> using Args = detail::DropPathPasses<T>;

  template <class T>
  static void run(const Noise& noise, const Noise::Spans& spans, const detail::DropRows<T>& a) {
    using C = compute_t<T>;
    detail::for_each_row(spans.size() * noise.passes(), spans.longest(), [&](int64_t task) {
      const auto pass = static_cast<int>(task / spans.size());
      const NoiseSpan span = spans[task % spans.size()];
      const double rate = noise.rates[pass];
      const bool keep = rate == 0 || single_draw(noise.key, noise.first_pass + pass, span.sample, 0) >=
                                         drop_threshold(rate);
      const T* from = a.x + pass * a.x_pass + span.begin;
      T* to = a.y + pass * a.y_pass + span.begin;
      if (!keep) {
        std::fill_n(to, span.count, T{});  // whatever x was, also NaN
        return;
      }
      const C scale = static_cast<C>(kept_scale(rate));
#pragma omp simd
      for (int64_t i = 0; i < span.count; ++i) to[i] = static_cast<C>(from[i]) * scale;
    });
  }
};

}  // namespace

Tensor drop_path(const Tensor& x, const Noise& noise) { return detail::drop<DropSamples>(x, noise); }
Tensor drop_path(const Tensor& x, double p) {
  return drop_path(x, PassContext::require("drop_path").noise(Purpose::drop_path, p));
}

namespace {

void drop_path_cases(OpCases& c) {
  const auto f = [](PassOptions options) {
    return [options](const Tensors& in) {
      const PassContext context(options);
      return drop_path(in[0], 0.4);
    };
  };
  c.sample("one pass", {c.normal({12, 3})}, f({.seed = 5}));
  c.sample("makes 3 passes", {c.normal({8, 2, 2})}, f({.seed = 5, .count = 3, .rates = {0.1, 0, 0.7}}));
  c.sample("two rows of a sample", {c.normal({12, 3})}, f({.seed = 5, .batch = 6}));
  c.sample("no samples", {c.normal({0, 3})}, f({.seed = 5}));
  c.sample("packed rows", {c.normal({8, 3})}, [f](const Tensors& in) {
    const PackedScope scope(PackedRows({{0, 3}, {2, 4}, {1, 1}, {0, 3}}, 4));
    return f({.seed = 5, .count = 2})(in);
  });
  c.sample("inactive", {c.normal({3, 5})}, f({.seed = 5, .count = 2, .rates = {0, 0}}));
  c.fails<AutogradError>("no context", "drop_path: noise outside of a PassContext",
                         [] { drop_path(zeros({2}), 0.1); });
  c.fails<ShapeError>("batch", "drop_path: 5 elements are not divisible among the 2 samples",
                      [=] { f({.batch = 2})({zeros({5})}); });
}
const RegisterOp drop_path_op("drop_path", drop_path_cases, {.draws_noise = true});

}  // namespace
}  // namespace tandem
