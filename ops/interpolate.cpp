// Interpolation is linear, and one dimension after the other: y = A x B^T for each map, where row i of A [H',
// H] has the weights of the input rows for output row i, and B those of columns. Nearest picks.
#include "ops/interpolate.h"

#include <algorithm>
#include <cmath>

#include "autograd/registry.h"
#include "ops/indexing.h"
#include "ops/matmul.h"
#include "ops/views.h"

namespace tandem {
namespace {

struct Axis {
  int64_t in, out;
  double factor;  // out / in as it was asked for; 0: the sizes tell
};

Axis make_axis(const Tensor& x, const InterpolateOptions& options, int axis) {
  const int64_t in = x.shape()[2 + axis];
  const auto of = [axis](const auto& sides) {
    return sides.begin()[sides.end() - sides.begin() == 1 ? 0 : axis];
  };
  if (!options.size.empty()) return {in, of(options.size), 0};
  const double factor = of(options.scale_factor), out = std::floor(static_cast<double>(in) * factor);
  check<ConfigError>(factor > 0 && out < 0x1p31,
                     "interpolate: scale_factor is {}, expected a number above 0, and results below 2^31",
                     factor);
  return {in, static_cast<int64_t>(out), factor};
}

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

double keys(double x, double a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

// [out, in].
Tensor weights(const Axis& axis, const InterpolateOptions& options) {
  const auto [in, out, factor] = axis;
  const bool cubic = options.mode == Interpolation::bicubic;
  const auto filter = [&](double x) {
    return cubic ? keys(x, options.antialias ? -0.5 : -0.75) : triangle(x);
  };
  const double ratio = static_cast<double>(in) / static_cast<double>(out);
  const double aligned = out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0;
  const double step = options.align_corners ? aligned : factor > 0 ? 1 / factor : ratio;
  const Tensor result = zeros({out, in}, {DType::f64});
  for (int64_t i = 0; i < out; ++i) {
    double* row = result.data<double>() + i * in;
    const double centre = step * (static_cast<double>(i) + 0.5);  // of the output pixel, in input pixels
    if (options.antialias) {
      const double stretch = std::max(1.0, step), support = (cubic ? 2 : 1) * stretch;
      const auto begin = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5)),
                 end = std::min(in, static_cast<int64_t>(centre + support + 0.5));
      double total = 0;
      for (int64_t j = begin; j < end; ++j)
        total += row[j] = filter((static_cast<double>(j) + 0.5 - centre) / stretch);
      for (int64_t j = begin; j < end; ++j) row[j] /= total;
    } else {
      const double place = options.align_corners ? step * static_cast<double>(i) : centre - 0.5;
      const double at = cubic ? place : std::max(0.0, place);
      const auto first = static_cast<int64_t>(std::floor(at)) - (cubic ? 1 : 0);
      for (int64_t j = first; j < first + (cubic ? 4 : 2); ++j)  // beyond the edge: the edge
        row[std::clamp<int64_t>(j, 0, in - 1)] += filter(at - static_cast<double>(j));
    }
  }
  return result;
}

// torch computes the place in f32, and where rounding decides, its pixel is taken.
Tensor nearest(const Tensor& x, int dim, const Axis& axis) {
  const auto step = axis.factor > 0 ? static_cast<float>(1 / axis.factor)
                                    : static_cast<float>(axis.in) / static_cast<float>(axis.out);
  const Tensor index = empty({axis.out}, {DType::i64});
  for (int64_t i = 0; i < axis.out; ++i)
    index.data<int64_t>()[i] =
        std::min(static_cast<int64_t>(std::floor(static_cast<float>(i) * step)), axis.in - 1);
  return index_select(x, dim, index.to(x.device()));
}

void check_options(const Tensor& x, const InterpolateOptions& o) {
  const bool size = !o.size.empty(), factor = !o.scale_factor.empty();
  check<ConfigError>(size != factor, "interpolate: expected one of size and scale_factor, got {}",
                     size ? "both" : "none");
  const int64_t count = size ? o.size.size() : static_cast<int64_t>(o.scale_factor.size());
  check<ConfigError>(count <= 2, "interpolate: {} has {} numbers, expected one, or height and width",
                     size ? "size" : "scale_factor", count);
  check<ConfigError>(o.mode != Interpolation::nearest || !(o.align_corners || o.antialias),
                     "interpolate: {} is for bilinear and bicubic, not for nearest",
                     o.align_corners ? "align_corners" : "antialias");
  check<ShapeError>(x.dim() == 4, "interpolate: expected [N, C, H, W], got {}", describe(x));
}

}  // namespace

Tensor interpolate(const Tensor& x, const InterpolateOptions& options) {
  check_options(x, options);
  const bool picks = options.mode == Interpolation::nearest;
  check<DTypeError>(picks || is_floating(x.dtype()),
                    "interpolate: bilinear and bicubic expect a floating dtype, got {}", describe(x));
  const Axis rows = make_axis(x, options, 0), columns = make_axis(x, options, 1);
  check<ShapeError>(rows.in > 0 && columns.in > 0 && rows.out > 0 && columns.out > 0,
                    "interpolate: {} to {} x {}: there is no pixel", describe(x), rows.out, columns.out);
  const DType dtype = promote(x.dtype(), DType::f32);  // of products
  Tensor y = picks ? x : x.to(dtype);
  // As in torch, a side whose size stays keeps its pixels whatever the factor, but for plain bicubic.
  const bool follows_factor =
      options.mode == Interpolation::bicubic && !options.align_corners && !options.antialias;
  const auto unchanged = [&](const Axis& axis) {
    return axis.in == axis.out && (axis.factor == 0 || axis.factor == 1 || !follows_factor);
  };
  const auto matrix = [&](const Axis& axis) { return weights(axis, options).to(dtype).to(x.device()); };
  if (!unchanged(columns)) y = picks ? nearest(y, 3, columns) : matmul(y, matrix(columns).t());
  if (!unchanged(rows)) y = picks ? nearest(y, 2, rows) : matmul(matrix(rows), y);
  return y.to(x.dtype());
}

namespace {

const RegisterOp interpolate_op("interpolate", [](OpCases& c) {
  const auto with = bound(interpolate);
  const Interpolation linear = Interpolation::bilinear, cubic = Interpolation::bicubic;
  c.sample("nearest, larger", {c.normal({2, 2, 2, 3})}, with({.size = {5, 4}}));
  c.sample("nearest, smaller", {c.normal({1, 2, 5, 4})}, with({.scale_factor = {0.6, 0.5}}));
  c.sample("bilinear, larger", {c.normal({1, 2, 3, 2})}, with({.size = {5, 7}, .mode = linear}));
  c.sample("bilinear, factor", {c.normal({1, 2, 3, 4})}, with({.scale_factor = {1.7}, .mode = linear}));
  c.sample("bilinear, aligned", {c.normal({1, 2, 3, 4})},
           with({.size = {5, 1}, .mode = linear, .align_corners = true}));
  c.sample("bilinear, one side", {c.normal({1, 2, 3, 4})}, with({.size = {6, 4}, .mode = linear}));
  c.sample("bilinear, antialiased", {c.normal({1, 1, 7, 5})},
           with({.size = {3, 6}, .mode = linear, .antialias = true}));
  c.sample("bicubic", {c.normal({1, 1, 4, 3})}, with({.size = {7, 2}, .mode = cubic}));
  c.sample("bicubic, antialiased", {c.normal({1, 1, 8, 7})},
           with({.scale_factor = {0.5}, .mode = cubic, .antialias = true}));
  c.sample("bicubic, one pixel", {c.normal({1, 2, 1, 1})}, with({.size = {3}, .mode = cubic}));
  c.sample("no images", {c.normal({0, 2, 3, 3})}, with({.size = {2}, .mode = linear}));
  const Tensor x = zeros({1, 1, 4, 4});
  c.fails<ConfigError>("none", "interpolate: expected one of size and scale_factor, got none", {x}, with({}));
  c.fails<ConfigError>("both", "interpolate: expected one of size and scale_factor, got both", {x},
                       with({.size = {2}, .scale_factor = {2}}));
  c.fails<ConfigError>("three", "interpolate: size has 3 numbers, expected one, or height and width", {x},
                       with({.size = {2, 2, 2}}));
  c.fails<ConfigError>("nearest", "interpolate: antialias is for bilinear and bicubic, not for nearest", {x},
                       with({.size = {2}, .antialias = true}));
  c.fails<ConfigError>("factor", "interpolate: scale_factor is -1, expected a number above 0", {x},
                       with({.scale_factor = {2, -1}}));
  c.fails<ShapeError>("dimensions", "interpolate: expected [N, C, H, W], got f32[4,4]", {zeros({4, 4})},
                      with({.size = {2}}));
  c.fails<ShapeError>("pixels", "interpolate: f32[1,1,4,4] to 0 x 0: there is no pixel", {x},
                      with({.scale_factor = {0.1}}));
  c.fails<DTypeError>("i64", "interpolate: bilinear and bicubic expect a floating dtype, got i64[1,1,2,2]",
                      {zeros({1, 1, 2, 2}, {DType::i64})}, with({.size = {3}, .mode = linear}));
});

}  // namespace
}  // namespace tandem
