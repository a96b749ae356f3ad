// Runs an optimizer's rule (nn/optim/rules.h): over all parameters of an update on a device, or over the
// elements [begin, end) of one on the CPU.
#pragma once

#include <utility>

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

// One element, on values of its own: stores to one tensor could be loads of another, and no vector would do.
template <class Rule, class Factors, class T, class... State>
void apply_rule(const Factors& f, T g, T& parameter, State&... state) {
  [&](T p, State... s) {
    Rule::apply(f, g, p, s...);
    parameter = p, ((state = s), ...);
  }(parameter, state...);
}
template <class Rule, class Factors, class T, class... State>
void sweep(Factors f, const T* g, int64_t begin, int64_t end, T* parameter, State*... state) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) apply_rule<Rule>(f, g[i], parameter[i], state[i]...);
}

template <class Rule, class Slot>
void run_rule(const Rule& rule, const Slot& slot, const Tensor& gradient, double lr, int64_t begin,
              int64_t end) {
  const auto run = [&]<class T, size_t... k>(std::index_sequence<k...>) {
    sweep<Rule>(rule.template factors<T>(lr, slot.weight_decay, static_cast<double>(slot.steps)),
                gradient.data<T>(), begin, end, slot.parameter.template data<T>(),
                slot.state[k].template data<T>()...);
  };
  const std::make_index_sequence<Rule::kStates> states;
  slot.parameter.dtype() == DType::f64 ? run.template operator()<double>(states)
                                       : run.template operator()<float>(states);
}

}  // namespace tandem::nn
