#include "nn/optim/clip.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/kernel.h"
#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "nn/optim/tensor_table.h"
#include "ops/loops/row_reduce.h"

namespace tandem::nn {
namespace {

constexpr int64_t kGrain = 32768;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double sum_of_squares(const Tensor& gradient) {
  const Tensor x = dense(gradient);
  const int64_t n = x.numel();
  std::vector<double> parts(static_cast<size_t>((n + kGrain - 1) / kGrain));
  dispatch_floating("grad_norm", x.dtype(), [&]<class T>() {
    const T* data = x.data<T>();
    parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t at = part * kGrain;
        parts[part] = tandem::detail::reduce_rows(
            std::min(kGrain, n - at), 0.0, tandem::detail::plus, [](double v) { return v * v; }, data + at);
      }
    });
  });
  return std::accumulate(parts.begin(), parts.end(), 0.0);
}

// Dense gradients of one device; `replace`: one that was not takes the place of its parameter's.
Tensors dense_gradients(const Tensors& parameters, bool replace) {
  Tensors gradients;
  for (const Tensor& parameter : parameters) {
    Tensor& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    check<DeviceError>(gradients.empty() || gradients[0].device() == gradient.device(),
                       "grad_norm: gradients on {} and on {}", name_of(gradient.device()),
                       name_of(gradients.empty() ? kCpu : gradients[0].device()));
    gradients.push_back(dense(gradient));
    if (replace) gradient = gradients.back();  // an expanded one shares elements
  }
  return gradients;
}

// The gradients of one dtype as a table, kept from call to call.
struct GradientTable {
  Tensor like;  // one of them; undefined: there are none
  TensorRows rows;
};
template <class T>
GradientTable table_of(const Tensors& gradients) {
  thread_local TensorTable table;
  GradientTable result;
  std::vector<TensorRow> rows;
  for (const Tensor& g : gradients) {
    if (g.dtype() != dtype_of<T>) continue;
    result.like = g;
    rows.push_back({.gradient = g.device_raw(), .numel = g.numel()});
  }
  if (!rows.empty()) result.rows = table.rows(std::move(rows), result.like.device());
  return result;
}

// The norm and the factor of clipping on the gradients' device.
Tensor norm_on_device(const Tensors& gradients, double max_norm, bool clips) {
  const Device device = gradients[0].device();
  const GradientTable narrow = table_of<float>(gradients), wide = table_of<double>(gradients);
  const int64_t first = narrow.rows.chunks, count = first + wide.rows.chunks;
  const Tensor sums = empty({std::max<int64_t>(1, count)}, {DType::f64, device}),
               norm = empty({2}, {DType::f64, device});
  double* parts = sums.device_data<double>();
  double* out = norm.device_data<double>();
  if (narrow.like.defined()) run_on_device(narrow.like, SquareSums<float>{narrow.rows, parts});
  if (wide.like.defined()) run_on_device(wide.like, SquareSums<double>{wide.rows, parts + first});
  run_on_device(gradients[0], NormOfSums{parts, count, max_norm, out});
  if (!clips) return norm;
  if (narrow.like.defined()) run_on_device(narrow.like, ScaleGradients<float>{narrow.rows, out, true});
  if (wide.like.defined()) run_on_device(wide.like, ScaleGradients<double>{wide.rows, out, true});
  for (const Tensor& g : gradients) g.bump_version();
  return norm;
}

bool on_device(const Tensors& gradients) { return !gradients.empty() && gradients[0].device() != kCpu; }

double factor_of(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }

}  // namespace

double grad_norm(const Tensors& parameters) {
  const Tensors gradients = dense_gradients(parameters, false);
  if (on_device(gradients)) return norm_on_device(gradients, kInfinity, false).to_vector<double>()[0];
  double total = 0;
  for (const Tensor& gradient : gradients) total += sum_of_squares(gradient);
  return std::sqrt(total);
}

double clip_grad_norm(const Tensors& parameters, double max_norm, bool error_if_nonfinite) {
  check<ConfigError>(max_norm >= 0, "clip_grad_norm: max_norm is {}, expected at least 0", max_norm);
  const Tensors gradients = dense_gradients(parameters, true);
  const bool device = on_device(gradients);
  const double norm =
      device ? norm_on_device(gradients, max_norm, true).to_vector<double>()[0] : grad_norm(parameters);
  check<ValueError>(!error_if_nonfinite || std::isfinite(norm),
                    "clip_grad_norm: the norm of the gradients is {}, expected a finite number", norm);
  if (max_norm / (norm + 1e-6) >= 1 || (device && std::isfinite(norm))) return norm;
  const NoGradGuard no_grad;
  for (const Tensor& gradient : gradients) gradient.mul_(max_norm / (norm + 1e-6));
  return norm;
}

Tensor grad_norm_tensor(const Tensors& parameters) {
  const Tensors gradients = dense_gradients(parameters, false);
  if (on_device(gradients)) return norm_on_device(gradients, kInfinity, false);
  return from_values(std::vector<double>{grad_norm(parameters), 1}, {2});
}

Tensor clip_grad_norm_tensor(const Tensors& parameters, double max_norm) {
  check<ConfigError>(max_norm >= 0, "clip_grad_norm: max_norm is {}, expected at least 0", max_norm);
  const Tensors gradients = dense_gradients(parameters, true);
  if (on_device(gradients)) return norm_on_device(gradients, max_norm, true);
  const double norm = grad_norm(parameters);
  if (!std::isfinite(norm)) return from_values(std::vector<double>{norm, norm}, {2});
  clip_grad_norm(parameters, max_norm);
  return from_values(std::vector<double>{norm, factor_of(norm, max_norm)}, {2});
}

}  // namespace tandem::nn
