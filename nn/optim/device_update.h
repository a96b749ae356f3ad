// Runs an optimizer's rule (nn/optim/rules.h) over all parameters of an update on a device.
#pragma once

#include "autograd/kernel.h"
#include "nn/optim/rules.h"
#include "nn/optim/tensor_table.h"

namespace tandem::nn {

template <class Rule> void run_rule(const Rule& rule, const DeviceUpdate& update) {
  const auto run = [&]<class T>() {
    run_on_device(update.on, OptimizerStep<Rule, T>{update.tensors, rule, update.lr, update.steps,
                                                    recorded_scalars(), update.norm});
  };
  update.on.dtype() == DType::f64 ? run.template operator()<double>() : run.template operator()<float>();
}

}  // namespace tandem::nn
