#include "nn/optim/sgd.h"

#include "autograd/error.h"
#include "nn/optim/device_update.h"

namespace tandem::nn {

SGD::SGD(const std::vector<ParameterGroup>& groups, SGDOptions options)
    : Optimizer("SGD",
                options.momentum == 0 ? std::vector<std::string>{} : std::vector<std::string>{"momentum"},
                groups, options.lr, options.weight_decay),
      options_(options) {
  check_option("momentum", options.momentum, 0, 1);
  check<ConfigError>(!options.nesterov || options.momentum > 0, "SGD: nesterov needs a momentum above 0");
}

void SGD::update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin, int64_t end) const {
  dispatch_floating("SGD", slot.parameter.dtype(), [&]<class T>() {
    using C = compute_t<T>;
    T* const p = slot.parameter.data<T>();
    const T* const g = gradient.data<T>();
    if (options_.momentum == 0) {
      const auto f = SgdRule{}.factors<C>(lr, slot.weight_decay, 0);
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        C parameter = p[i];
        SgdRule::apply<C>(f, g[i], parameter);
        p[i] = parameter;
      }
      return;
    }
    T* const b = slot.state[0].data<T>();
    const auto f = MomentumRule{options_.momentum, options_.nesterov}.factors<C>(lr, slot.weight_decay, 0);
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      C parameter = p[i], buffer = b[i];
      MomentumRule::apply<C>(f, g[i], parameter, buffer);
      p[i] = parameter, b[i] = buffer;
    }
  });
}

void SGD::update_on_device(const DeviceUpdate& update) const {
  if (options_.momentum == 0) {
    run_rule(SgdRule{}, update);
  } else {
    run_rule(MomentumRule{options_.momentum, options_.nesterov}, update);
  }
}

}  // namespace tandem::nn
