#include "autograd/op_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/gradcheck.h"
#include "autograd/noise.h"

namespace tandem {
namespace {

constexpr uint64_t kSeed = 7;  // of the samples

bool is_float(const Tensor& x) { return x.defined() && is_floating(x.dtype()); }
bool has_floats(const Sample& sample) {
  return std::any_of(sample.inputs.begin(), sample.inputs.end(), is_float);
}

// A cotangent: any but all ones, or the output itself, under which the gradient of a norm vanishes.
Tensor random_like(const Tensor& x) {
  const Tensor result = empty(x.shape(), {.dtype = DType::f64}, x.passes());
  fill_normal(noise_key(8, 1, 0, 0, Purpose::init), 0, 1, result.data<double>(), x.numel() * x.passes());
  return result.to(x.dtype());
}

// |a - b| / max(|b|, floor) over all passes; NaN where one of them has it, infinity for different shapes.
double distance(const Tensor& a, const Tensor& b, double floor) {
  if (a.shape() != b.shape() || a.passes() != b.passes()) return std::numeric_limits<double>::infinity();
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double squares = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] != y[i]) squares += (x[i] - y[i]) * (x[i] - y[i]);  // equal infinities are no distance
  }
  for (double v : y) size += std::isfinite(v) ? v * v : 0;
  return std::sqrt(squares) / std::max(std::sqrt(size), floor);
}

// The entry in which a is farthest from b: "worst at [1,0] of pass 2: 0.5, expected 0.25".
std::string worst_entry(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.passes() != b.passes())
    return fmt::format("{}, expected {}", describe(a), describe(b));
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  size_t worst = 0;
  double farthest = -1;
  for (size_t i = 0; i < x.size() && !std::isnan(farthest); ++i) {
    const double apart = x[i] == y[i] ? 0 : std::abs(x[i] - y[i]);
    if (!(apart <= farthest)) worst = i, farthest = apart;
  }
  Shape place = a.shape();
  auto left = static_cast<int64_t>(worst);
  for (int d = a.dim() - 1; d >= 0; --d) {
    place[d] = left % a.shape()[d];
    left /= a.shape()[d];
  }
  return fmt::format("worst at {}{}: {:.6g}, expected {:.6g}", place,
                     a.passes() > 1 ? fmt::format(" of pass {}", left) : "", x[worst], y[worst]);
}

// The floating inputs as leaves, in f64 where `wide`.
Tensors leaves(const OpInfo& op, const Sample& sample, bool wide) {
  Tensors result;
  for (const Tensor& x : sample.inputs) {
    if (!is_float(x)) {
      result.push_back(x);
    } else {
      const Tensor values = wide ? x.detach().to(DType::f64) : x.detach();
      result.push_back(values.clone().requires_grad_(op.differentiable));
    }
  }
  return result;
}

Tensor gradient_of(const Tensor& x) { return x.grad().defined() ? x.grad() : zeros_like(x); }

// Calls compare(what, a, b, floor) for the output of a sample and for each gradient, beside those of the same
// numbers in f64 on the CPU.
template <class Compare>
void compare_sample(const OpInfo& op, const Sample& sample, const Sample& on_cpu, const Compare& compare) {
  const Tensors narrow = leaves(op, sample, false), wide = leaves(op, on_cpu, true);
  const Tensor y = sample.function(narrow), reference = on_cpu.function(wide);
  compare("output", y, reference, 1e-3);
  if (!op.differentiable || !has_floats(sample)) return;
  const Tensor v = random_like(y);
  y.backward(v.to(y.device()));
  reference.backward(v.to(DType::f64));
  double total = 0;  // of all gradients: some true ones are 0, and rounding is all that is left of them
  for (const Tensor& x : wide) {
    if (!is_float(x)) continue;
    for (double g : gradient_of(x).to_vector<double>()) total += g * g;
  }
  for (size_t i = 0; i < wide.size(); ++i) {
    if (!is_float(wide[i])) continue;
    compare(fmt::format("gradient of input {}", i), gradient_of(narrow[i]), gradient_of(wide[i]),
            std::max(1e-3, 1e-3 * std::sqrt(total)));
  }
}

}  // namespace

OpCheck check_gradients(const OpInfo& op, Device device) {
  OpCheck check{DType::f64, op.second_order ? "gradient x2" : "gradient", 0, GradcheckOptions().tolerance};
  SampleMaker make(kSeed, DType::f64, device);
  for (const Sample& sample : op.samples(make)) {
    if (!has_floats(sample)) continue;
    const GradcheckResult result =
        gradcheck(sample.function, sample.inputs, {.second_order = op.second_order});
    check.worst = std::max(check.worst, result.error);
    if (!result.passed)
      check.failures.push_back(fmt::format("sample '{}': {}", sample.label, result.message));
  }
  return check;
}

OpCheck check_precision(const OpInfo& op, DType dtype, Device device) {
  OpCheck check{dtype, "against f64", 0, dtype == DType::f32 ? op.f32_tolerance : op.bf16_tolerance};
  if (dtype == DType::f64) check.what = "against cpu", check.allowed = 1e-10;
  SampleMaker make(kSeed, dtype, device), make_on_cpu(kSeed, dtype, kCpu);  // of the same numbers
  const Samples samples = op.samples(make), on_cpu = op.samples(make_on_cpu);
  for (size_t s = 0; s < samples.size(); ++s) {
    compare_sample(
        op, samples[s], on_cpu[s],
        [&](const std::string& what, const Tensor& a, const Tensor& b, double floor) {
          const double error = distance(a, b, floor);
          if (std::isnan(error) || error > check.worst) check.worst = error;
          if (!(error <= check.allowed))
            check.failures.push_back(fmt::format("sample '{}': {}: relative error {:.3g}, {}",
                                                 samples[s].label, what, error, worst_entry(a, b)));
        });
  }
  return check;
}

void check_op(const OpInfo& op, Device device, const std::function<void(const OpCheck&)>& report) {
  if (op.differentiable) report(check_gradients(op, device));
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const bool takes = std::find(op.dtypes.begin(), op.dtypes.end(), dtype) != op.dtypes.end();
    if (takes && (dtype != DType::f64 || device != kCpu)) report(check_precision(op, dtype, device));
  }
}

}  // namespace tandem
