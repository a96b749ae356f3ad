#include "nn/optim/adam.h"

#include <limits>

#include "autograd/error.h"
#include "nn/optim/device_update.h"

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

AdamRule AdamBase::rule() const { return {options_.betas[0], options_.betas[1], options_.eps, decoupled_}; }

void AdamBase::update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin, int64_t end) const {
  dispatch_floating("Adam", slot.parameter.dtype(), [&]<class T>() {
    using C = compute_t<T>;
    T* const p = slot.parameter.data<T>();
    const T* const g = gradient.data<T>();
    T* const m = slot.state[0].data<T>();
    T* const v = slot.state[1].data<T>();
    const auto f = rule().factors<C>(lr, slot.weight_decay, static_cast<double>(slot.steps));
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      C parameter = p[i], first = m[i], second = v[i];
      AdamRule::apply<C>(f, g[i], parameter, first, second);
      p[i] = parameter, m[i] = first, v[i] = second;
    }
  });
}

void AdamBase::update_on_device(const DeviceUpdate& update) const { run_rule(rule(), update); }

}  // namespace tandem::nn
