#include "tests/testing.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "autograd/noise.h"
#include "autograd/tensor_impl.h"

namespace tandem::testing {

Tensor leaf(const std::vector<double>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())}).requires_grad_();
}

Tensor normal(const Shape& shape, uint64_t seed, DType dtype, int passes) {
  const Tensor x = empty(shape, {DType::f64}, passes);
  fill_normal(noise_key(seed, 1, 0, 0, Purpose::init), 0, 1, x.data<double>(), x.numel() * passes);
  return x.to(dtype);
}

Tensor cotangent_like(const Tensor& x, uint64_t seed) {
  return normal(x.shape(), seed, x.dtype(), x.passes()).to(x.device());
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.passes() != b.passes() || a.dtype() != b.dtype()) return false;
  const Tensor x = dense(a.detach().to(kCpu)), y = dense(b.detach().to(kCpu));
  return std::memcmp(x.raw(), y.raw(), x.numel() * x.passes() * size_of(x.dtype())) == 0;
}

Closeness close(const Tensor& a, const Tensor& b, double tolerance, double floor) {
  if (a.shape() != b.shape() || a.passes() != b.passes())
    return {false, fmt::format("{} vs {}", describe(a), describe(b))};
  const auto x = values(a), y = values(b);
  double distance = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;  // equal infinities, too
    distance += (x[i] - y[i]) * (x[i] - y[i]);
  }
  for (double v : y) size += std::isfinite(v) ? v * v : 0;
  const double error = std::sqrt(distance) / std::max(std::sqrt(size), floor);
  return {error <= tolerance, fmt::format("relative distance {:.3g}, allowed {:.3g}", error, tolerance)};
}

double difference(const Tensor& got, const Tensor& expected, double scale) {
  REQUIRE(got.shape() == expected.shape());
  const auto a = values(got), b = values(expected);
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double distance = std::abs(a[i] - b[i]);
    if (std::isnan(distance)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, distance);
    scale = std::max(scale, std::abs(b[i]));
  }
  return scale > 0 ? worst / scale : worst;
}

}  // namespace tandem::testing
