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
#include "ops/loops/row_reduce.h"

namespace tandem::nn {
namespace {

constexpr int64_t kGrain = 32768;

double sum_of_squares(const Tensor& x) {
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

double norm_on_cpu(const Tensors& gradients) {
  double total = 0;
  for (const Tensor& gradient : gradients) total += sum_of_squares(gradient);
  return std::sqrt(total);
}

// Dense gradients of one device; with `replace` one that was not dense takes the place of its parameter's,
// since elements of an expanded gradient share memory.
Tensors dense_gradients(const Tensors& parameters, bool replace) {
  const NoGradGuard no_grad;
  Tensors gradients;
  for (size_t i = 0; i < parameters.size(); ++i) {
    Tensor& gradient = parameters[i].grad();
    if (!gradient.defined()) continue;
    check_gradient(fmt::format("grad_norm: parameter {}", i), gradient, parameters[i]);
    check<DeviceError>(gradients.empty() || gradients[0].device() == gradient.device(),
                       "grad_norm: gradients on {} and on {}", name_of(gradient.device()),
                       name_of(gradients.empty() ? kCpu : gradients[0].device()));
    gradients.push_back(gradient.contiguous());
    if (replace) gradient = gradients.back();
  }
  return gradients;
}

void check_max_norm(double max_norm) {
  check<ConfigError>(max_norm >= 0, "clip_grad_norm: max_norm is {}, expected at least 0", max_norm);
}

bool on_a_device(const Tensors& gradients) { return !gradients.empty() && gradients[0].device() != kCpu; }

double factor_of(double norm, double max_norm) { return max_norm / (norm + 1e-6); }

void scale(const Tensors& gradients, double factor) {
  const NoGradGuard no_grad;
  for (const Tensor& gradient : gradients) gradient.mul_(factor);
}

// The gradients of one dtype as a table on their device.
struct GradientTable {
  Tensor like;  // one of them; undefined: there are none
  TensorRows rows;
};
template <class T> GradientTable table_of(const Tensors& gradients, TensorTable& table) {
  GradientTable result;
  std::vector<TensorRow> rows;
  for (const Tensor& g : gradients) {
    check<DTypeError>(g.dtype() == DType::f32 || g.dtype() == DType::f64,
                      "grad_norm: expected gradients of f32 or f64 on a device, got {}", describe(g));
    if (g.dtype() != dtype_of<T>) continue;
    result.like = g;
    rows.push_back({.gradient = g.device_raw(), .numel = g.numel()});
  }
  if (!rows.empty()) result.rows = table.rows(std::move(rows), result.like.device());
  return result;
}

}  // namespace

Tensor GradientNorm::on_device(const Tensors& gradients, double max_norm, bool clips) {
  const Device device = gradients[0].device();
  const GradientTable narrow = table_of<float>(gradients, tables_[0]),
                      wide = table_of<double>(gradients, tables_[1]);
  const int64_t first = narrow.rows.chunks, count = first + wide.rows.chunks;
  const Tensor sums = empty({std::max<int64_t>(1, count)}, {DType::f64, device}),
               norm = empty({2}, {DType::f64, device});
  double* parts = sums.device_data<double>();
  double* out = norm.device_data<double>();
  if (narrow.like.defined()) run_on_device(narrow.like, SquareSums<float>{narrow.rows, parts});
  if (wide.like.defined()) run_on_device(wide.like, SquareSums<double>{wide.rows, parts + first});
  run_on_device(gradients[0], NormOfSums{parts, count, max_norm, out});
  if (!clips) return norm;
  if (narrow.like.defined()) run_on_device(narrow.like, ScaleGradients<float>{narrow.rows, out});
  if (wide.like.defined()) run_on_device(wide.like, ScaleGradients<double>{wide.rows, out});
  for (const Tensor& g : gradients) g.bump_version();
  return norm;
}

Tensor GradientNorm::norm_tensor(const Tensors& parameters, double max_norm) {
  check_max_norm(max_norm);
  const Tensors gradients = dense_gradients(parameters, false);
  if (on_a_device(gradients)) return on_device(gradients, max_norm, false);
  const double norm = norm_on_cpu(gradients);
  return from_values(std::vector<double>{norm, std::min(1.0, factor_of(norm, max_norm))}, {2});
}

double GradientNorm::norm(const Tensors& parameters) {
  return norm_tensor(parameters).to_vector<double>()[0];
}

double GradientNorm::clip(const Tensors& parameters, double max_norm, bool error_if_nonfinite) {
  check_max_norm(max_norm);
  const Tensors gradients = dense_gradients(parameters, true);
  const bool there = on_a_device(gradients);
  const double norm =
      there ? on_device(gradients, max_norm, true).to_vector<double>()[0] : norm_on_cpu(gradients);
  const double factor = factor_of(norm, max_norm);
  const bool scaled = there && std::isfinite(norm);
  check<ValueError>(std::isfinite(norm) || !error_if_nonfinite,
                    "clip_grad_norm: the norm of the gradients is {}, expected a finite number", norm);
  if (!scaled && !(factor >= 1)) scale(gradients, factor);  // as PyTorch has it, by NaN or 0, too
  return norm;
}

double grad_norm(const Tensors& parameters) { return GradientNorm().norm(parameters); }
double clip_grad_norm(const Tensors& parameters, double max_norm, bool error_if_nonfinite) {
  return GradientNorm().clip(parameters, max_norm, error_if_nonfinite);
}

}  // namespace tandem::nn
