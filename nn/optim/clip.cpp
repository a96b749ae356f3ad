#include "nn/optim/clip.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "ops/detail/reduce.h"

namespace tandem::nn {
namespace {

constexpr int64_t kGrain = 32768;

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

}  // namespace

double grad_norm(const Tensors& parameters) {
  double total = 0;
  for (const Tensor& parameter : parameters)
    if (parameter.grad().defined()) total += sum_of_squares(parameter.grad());
  return std::sqrt(total);
}

double clip_grad_norm(const Tensors& parameters, double max_norm, bool error_if_nonfinite) {
  check<ConfigError>(max_norm >= 0, "clip_grad_norm: max_norm is {}, expected at least 0", max_norm);
  const double norm = grad_norm(parameters);
  check<ValueError>(!error_if_nonfinite || std::isfinite(norm),
                    "clip_grad_norm: the norm of the gradients is {}, expected a finite number", norm);
  const double factor = max_norm / (norm + 1e-6);
  if (factor >= 1) return norm;
  const NoGradGuard no_grad;
  for (const Tensor& parameter : parameters) {
    Tensor& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    gradient = dense(gradient).detach();  // an expanded one shares elements
    gradient.mul_(factor);
  }
  return norm;
}

}  // namespace tandem::nn
