#include "nn/optim/sgd.h"

#include "autograd/error.h"
#include "nn/optim/run_rule.h"

namespace tandem::nn {

SGD::SGD(const std::vector<ParameterGroup>& groups, SGDOptions options)
    : Optimizer("SGD",
                options.momentum == 0 ? std::vector<std::string>{} : std::vector<std::string>{"momentum"},
                groups, options.lr, options.weight_decay),
      options_(options) {
  check_option("momentum", options.momentum, 0, 1);
  check<ConfigError>(!options.nesterov || options.momentum > 0, "SGD: nesterov needs a momentum above 0");
}

template <class F> void SGD::with_rule(F f) const {
  if (options_.momentum == 0) return f(SgdRule{});
  f(MomentumRule{options_.momentum, options_.nesterov});
}

void SGD::update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin, int64_t end) const {
  with_rule([&](const auto& rule) { run_rule(rule, slot, gradient, lr, begin, end); });
}

void SGD::update_on_device(const DeviceUpdate& update) const {
  with_rule([&](const auto& rule) { run_rule(rule, update); });
}

}  // namespace tandem::nn
