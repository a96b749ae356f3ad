#include "nn/optim/ema.h"

#include <cmath>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "nn/optim/run_rule.h"

namespace tandem::nn {
namespace {

constexpr int64_t kGrain = 16384;  // elements of one task of a sweep
constexpr const char* kUpdates = "updates";

}  // namespace

Ema::Ema(const Module& module, double decay) : decay_(decay), weights_(module.named_parameters()) {
  check<ConfigError>(decay > 0 && decay < 1, "ema: expected a decay in (0, 1), got {}", decay);
  const NoGradGuard no_grad;
  for (const NamedTensor& weight : weights_) averages_.push_back(weight.tensor.detach().clone());
  moves_.assign(weights_.size(), 0);
}

void Ema::restart() {
  const NoGradGuard no_grad;
  for (size_t i = 0; i < weights_.size(); ++i) averages_[i].copy_(weights_[i].tensor);
  moves_.assign(weights_.size(), 0);
  updates_ = 0, counted_ = false;
}

void Ema::update(const Tensor& norm) {
  const NoGradGuard no_grad;
  counted_ = false;
  std::vector<size_t> on_cpu, on_device[2];
  for (size_t i = 0; i < weights_.size(); ++i) {
    const Tensor& weight = weights_[i].tensor;
    moves_[i] |= weight.requires_grad();
    if (moves_[i] == 0) continue;
    check<DeviceError>(weight.device() == averages_[i].device(),
                       "ema: \"{}\" is on {}, its average on {}; make it where the model is",
                       weights_[i].name, name_of(weight.device()), name_of(averages_[i].device()));
    (weight.device() == kCpu ? on_cpu : on_device[weight.dtype() == DType::f64]).push_back(i);
  }
  if (!on_cpu.empty() && norm.defined() && !std::isfinite(norm.to_vector<double>()[0])) return;
  if (!on_cpu.empty()) update_on_cpu(on_cpu);
  for (int wide : {0, 1})
    if (!on_device[wide].empty()) update_on_device(on_device[wide], norm);
  if (!recorded_scalars()) ++updates_, counted_ = true;
}

void Ema::update_on_cpu(const std::vector<size_t>& which) {
  const auto t = static_cast<double>(updates_ + 1);
  for (const size_t i : which) {
    const Tensor &weight = weights_[i].tensor, &average = averages_[i];
    const auto run = [&]<class T>() {
      const auto factors = EmaRule{decay_}.factors<T>(0, 0, t);
      parallel_for(weight.numel(), kGrain, [&](int64_t begin, int64_t end) {
        sweep<EmaRule>(factors, weight.data<T>(), begin, end, average.data<T>());
      });
    };
    weight.dtype() == DType::f64 ? run.operator()<double>() : run.operator()<float>();
    average.bump_version();
  }
}

void Ema::update_on_device(const std::vector<size_t>& which, const Tensor& norm) {
  const Tensor& on = averages_[which.front()];
  const int64_t steps = recorded_scalars() ? static_cast<int64_t>(recorded_values().step) + 1 : updates_ + 1;
  std::vector<TensorRow> rows;
  for (const size_t i : which)
    rows.push_back({.parameter = averages_[i].device_raw(),
                    .gradient = weights_[i].tensor.device_raw(),
                    .numel = averages_[i].numel(),
                    .steps_ahead = updates_ + 1 - steps});
  TensorTable& table = tables_[on.dtype() == DType::f64];
  run_rule(EmaRule{decay_}, DeviceUpdate{table.rows(std::move(rows), on.device()), on, 0, steps,
                                         norm.defined() ? norm.device_data<double>() : nullptr});
  for (const size_t i : which) averages_[i].bump_version();
}

void Ema::replayed() { ++updates_, counted_ = true; }

void Ema::take_back() { updates_ -= std::exchange(counted_, false); }

StateDict Ema::state_dict() const {
  StateDict state{{kUpdates, from_values(std::vector<int64_t>{updates_}, {})}};
  for (size_t i = 0; i < weights_.size(); ++i) state.push_back({weights_[i].name, averages_[i]});
  return state;
}

void Ema::load_state_dict(const StateDict& state) {
  const StateDict own = state_dict();
  for (const auto& [name, tensor] : own) {
    const Tensor* given = find(state, name);
    check<ConfigError>(given != nullptr && given->defined(), "ema: load_state_dict: \"{}\" is missing", name);
    check<ShapeError>(given->shape() == tensor.shape() && given->passes() == 1,
                      "ema: load_state_dict: \"{}\": expected {}, got {}", name, describe(tensor),
                      describe(*given));
    check<DTypeError>(given->dtype() == tensor.dtype(), "ema: load_state_dict: \"{}\": expected {}, got {}",
                      name, describe(tensor), describe(*given));
  }
  check<ConfigError>(state.size() == own.size(), "ema: load_state_dict: expected {} tensors, got {}",
                     own.size(), state.size());
  const int64_t updates = find(state, kUpdates)->to_vector<int64_t>()[0];
  check<ConfigError>(updates >= 0, "ema: load_state_dict: updates is {}, expected at least 0", updates);
  const NoGradGuard no_grad;
  for (size_t i = 0; i < weights_.size(); ++i) averages_[i].copy_(*find(state, weights_[i].name));
  moves_.assign(weights_.size(), 1);
  updates_ = updates, counted_ = false;
}

Ema::Weights::Weights(const Ema& ema) : ema_(ema) {
  const NoGradGuard no_grad;
  for (size_t i = 0; i < ema.weights_.size(); ++i) {
    const Tensor& weight = ema.weights_[i].tensor;
    own_.push_back(weight.detach().clone());
    weight.copy_(ema.averages_[i]);
  }
}

Ema::Weights::~Weights() {
  const NoGradGuard no_grad;
  try {
    for (size_t i = 0; i < own_.size(); ++i) ema_.weights_[i].tensor.copy_(own_[i]);
  } catch (const Error&) {  // of a device that fails: every later call tells
  }
}

}  // namespace tandem::nn
