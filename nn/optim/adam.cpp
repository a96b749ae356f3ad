#include "nn/optim/adam.h"

#include <limits>

#include "autograd/error.h"
#include "nn/optim/run_rule.h"

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
  run_rule(rule(), slot, gradient, lr, begin, end);
}

void AdamBase::update_on_device(const DeviceUpdate& update) const { run_rule(rule(), update); }

}  // namespace tandem::nn
