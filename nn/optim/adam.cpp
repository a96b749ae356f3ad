#include "nn/optim/adam.h"

#include <cmath>
#include <limits>

#include "autograd/error.h"

namespace tandem::nn {

AdamBase::AdamBase(const char* name, const std::vector<ParameterGroup>& groups, const AdamWOptions& options,
                   bool decoupled)
    : Optimizer(name, {"exp_avg", "exp_avg_sq"}, groups, options.lr, options.weight_decay),
      options_(options),
      decoupled_(decoupled) {
  check_option("beta1", options.betas[0], 0, 1);
  check_option("beta2", options.betas[1], 0, 1);
  check_option("eps", options.eps, 0, std::numeric_limits<double>::infinity());
}

void AdamBase::update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin, int64_t end) const {
  const double beta1 = options_.betas[0], beta2 = options_.betas[1];
  const double t = static_cast<double>(slot.steps);
  const double rate = lr / (1 - std::pow(beta1, t));
  const double scale = 1 / std::sqrt(1 - std::pow(beta2, t));
  const double keep = decoupled_ ? 1 - lr * slot.weight_decay : 1;
  const double decay = decoupled_ ? 0 : slot.weight_decay;
  dispatch_floating("Adam", slot.parameter.dtype(), [&]<class T>() {
    using C = compute_t<T>;
    T* const p = slot.parameter.data<T>();
    const T* const g = gradient.data<T>();
    T* const m = slot.state[0].data<T>();
    T* const v = slot.state[1].data<T>();
    const C b1 = static_cast<C>(beta1), b2 = static_cast<C>(beta2), a1 = static_cast<C>(1 - beta1),
            a2 = static_cast<C>(1 - beta2), eps = static_cast<C>(options_.eps), r = static_cast<C>(rate),
            s = static_cast<C>(scale), k = static_cast<C>(keep), d = static_cast<C>(decay);
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const C slope = g[i] + d * p[i];
      const C first = b1 * m[i] + a1 * slope;
      const C second = b2 * v[i] + a2 * slope * slope;
      m[i] = first;
      v[i] = second;
      p[i] = k * p[i] - r * first / (s * std::sqrt(second) + eps);
    }
  });
}

}  // namespace tandem::nn
