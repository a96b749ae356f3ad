#include "tests/ops/op_suite.h"

#include <cmath>
#include <cstring>
#include <set>

#include "autograd/noise.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/views.h"
#include "tests/device.h"

namespace tandem::testing {

Closeness close(const Tensor& a, const Tensor& b, double tolerance, double floor) {
  if (a.shape() != b.shape() || a.passes() != b.passes())
    return {false, fmt::format("{} vs {}", describe(a), describe(b))};
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double distance = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;  // equal infinities, too
    distance += (x[i] - y[i]) * (x[i] - y[i]);
  }
  for (double v : y) size += std::isfinite(v) ? v * v : 0;
  const double error = std::sqrt(distance) / std::max(std::sqrt(size), floor);
  return {error <= tolerance, fmt::format("relative distance {:.3g}, allowed {:.3g}", error, tolerance)};
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.passes() != b.passes() || a.dtype() != b.dtype()) return false;
  const Tensor x = dense(a.detach().to(kCpu)), y = dense(b.detach().to(kCpu));
  return std::memcmp(x.raw(), y.raw(), x.numel() * x.passes() * size_of(x.dtype())) == 0;
}

Samples samples_of(const OpInfo& op, DType dtype, uint64_t seed) {
  SampleMaker make(seed, dtype, device());
  return op.samples(make);
}

std::string registration_defects(const OpInfo& op) {
  const Samples samples = samples_of(op);
  if (samples.empty()) return op.name + ": has no samples";
  if (op.errors().empty() && op.no_errors.empty()) return op.name + ": has no error samples";
  if (!op.errors().empty() && !op.no_errors.empty()) return op.name + ": has error samples after all";
  std::set<std::string> labels;
  for (const Sample& sample : samples) {
    if (!labels.insert(sample.label).second) return op.name + ": has two samples '" + sample.label + "'";
  }
  return "";
}

Tensor strided_copy(const Tensor& x) {
  Shape wide = x.shape();
  wide.push_back(2);
  return empty(wide, {x.dtype(), x.device()}, x.passes()).select(-1, 1).copy_(x.detach());
}

Tensor several_passes(const Tensor& x, int m, uint64_t seed) {
  Tensors passes;
  for (int i = 0; i < m; ++i) {
    const Tensor shift = empty(x.shape(), {DType::f64});
    fill_uniform(noise_key(seed, i, 0, 0, Purpose::init), -1e-3, 1e-3, shift.data<double>(), x.numel());
    passes.push_back(x.detach().clone().add_(shift.to(x.device())));
  }
  return stack_passes(passes);
}

Tensor cotangent_like(const Tensor& x, uint64_t seed) {
  const Tensor v = empty(x.shape(), {DType::f64}, x.passes());
  fill_normal(noise_key(seed, 1, 0, 0, Purpose::init), 0, 1, v.data<double>(), x.numel() * x.passes());
  return v.to(x.dtype()).to(x.device());
}

}  // namespace tandem::testing
