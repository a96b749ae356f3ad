#include "nn/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <unordered_set>
#include <utility>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/kernel.h"
#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/join.h"

namespace tandem::nn {
namespace {

constexpr int64_t kGrain = 16384;            // elements of one task of a sweep
constexpr const char* kUpdates = "updates";  // of a state
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string key(size_t slot, const std::string& name) { return fmt::format("{}.{}", slot, name); }

Tensor step_tensor(int64_t steps) { return from_values(std::vector<int64_t>{steps}, {}); }
Tensor rate_tensor(double lr) { return from_values(std::vector<double>{lr}, {}); }

}  // namespace

Optimizer::Optimizer(std::string name, std::vector<std::string> state_names,
                     const std::vector<ParameterGroup>& groups, double lr, double weight_decay)
    : name_(std::move(name)), state_names_(std::move(state_names)), lr_(lr) {
  check_option("lr", lr, 0, kInfinity);
  check_option("weight_decay", weight_decay, 0, kInfinity);
  std::unordered_set<const TensorImpl*> seen;
  for (const auto& [parameters, options] : groups) {
    double ratio = 1;
    if (options.lr) {
      check_option("a group's lr", *options.lr, 0, kInfinity);
      check<ConfigError>(lr > 0, "{}: a group's own lr needs an lr above 0", name_);
      ratio = *options.lr / lr;
    }
    const double decay = options.weight_decay.value_or(weight_decay);
    check_option("a group's weight_decay", decay, 0, kInfinity);
    for (const Tensor& parameter : parameters) {
      const size_t i = slots_.size();
      check<AutogradError>(parameter.defined(), "{}: parameter {} is undefined", name_, i);
      check<AutogradError>(parameter.is_leaf() && parameter.is_contiguous(),
                           "{}: parameter {}, {}, is not a contiguous leaf", name_, i, describe(parameter));
      check<DTypeError>(parameter.dtype() == DType::f32 || parameter.dtype() == DType::f64,
                        "{}: parameter {}: expected f32 or f64, got {}", name_, i, describe(parameter));
      check<ConfigError>(seen.insert(parameter.impl().get()).second, "{}: parameter {}, {}, is listed twice",
                         name_, i, describe(parameter));
      slots_.push_back({.parameter = parameter, .lr_ratio = ratio, .weight_decay = decay, .state = {}});
    }
  }
  const bool learns = std::any_of(slots_.begin(), slots_.end(),
                                  [](const Slot& slot) { return slot.parameter.requires_grad(); });
  check<AutogradError>(slots_.empty() || learns, "{}: none of the {} parameters requires a gradient", name_,
                       slots_.size());
}

Optimizer::~Optimizer() = default;

void Optimizer::check_option(const char* option, double value, double low, double high) const {
  check<ConfigError>(value >= low && value < high, "{}: {} is {}, expected {} <= {} < {}", name_, option,
                     value, low, option, high);
}

void Optimizer::set_lr(double lr) {
  check_option("lr", lr, 0, kInfinity);
  lr_ = lr;
}

void Optimizer::zero_grad() {
  for (const Slot& slot : slots_) slot.parameter.grad() = {};
}

Tensors Optimizer::parameters() const {
  Tensors all;
  for (const Slot& slot : slots_) all.push_back(slot.parameter);
  return all;
}

// Kernels walk a parameter, its gradient and its state as memory of one size and kind.
void Optimizer::check_slot(size_t i) const {
  const Slot& slot = slots_[i];
  const Tensor& parameter = slot.parameter;
  check_gradient(fmt::format("{}: parameter {}", name_, i), parameter.grad(), parameter);
  check<AutogradError>(parameter.is_contiguous(), "{}: parameter {}, {}, is not contiguous any more", name_,
                       i, describe(parameter));
  for (const Tensor& state : slot.state)
    check<DeviceError>(state.device() == parameter.device(),
                       "{}: parameter {} is on {}, its state on {}; make the optimizer where the model is",
                       name_, i, name_of(parameter.device()), name_of(state.device()));
}

void Optimizer::step(const Tensor& norm) {
  const NoGradGuard no_grad;
  check<ShapeError>(!norm.defined() || norm.numel() > 0, "{}: expected a norm of the gradients, got {}",
                    name_, describe(norm));
  for (size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].parameter.grad().defined()) check_slot(i);
  const bool recording = recorded_scalars() != nullptr;
  std::vector<Active> on_cpu, on_device[2];
  for (Slot& slot : slots_) {
    slot.counted = false;
    if (recording) slot.recorded = slot.parameter.grad().defined();
    if (!slot.parameter.grad().defined()) continue;
    check<AutogradError>(!recording || !slot.state.empty() || state_names_.empty(),
                         "{}: {} was not updated before it was recorded", name_, describe(slot.parameter));
    if (slot.state.empty())
      for (size_t i = 0; i < state_names_.size(); ++i) slot.state.push_back(zeros_like(slot.parameter));
    const bool wide = slot.parameter.dtype() == DType::f64;
    auto& active = slot.parameter.device() == kCpu ? on_cpu : on_device[wide];
    active.push_back({&slot, slot.parameter.grad().contiguous()});
  }
  if (!on_cpu.empty()) {
    const std::vector<double> values = norm.defined() ? norm.to_vector<double>() : std::vector<double>{0};
    if (values.size() > 1 && values[1] < 1)
      for (Active& one : on_cpu) one.gradient = one.gradient * values[1];
    if (std::isfinite(values[0])) step_on_cpu(on_cpu);
  }
  for (int wide : {0, 1})
    if (!on_device[wide].empty()) step_on_device(on_device[wide], tables_[wide], norm);
  count_step();
  if (on_update_) on_update_(norm);
}

void Optimizer::count_step() {
  counted_ = std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.counted; });
  updates_ += counted_;
}

void Optimizer::step_on_cpu(const std::vector<Active>& active) {
  std::vector<int64_t> starts;  // of each one in the sweep over all elements
  int64_t total = 0;
  for (const auto& [slot, gradient] : active) {
    slot->count();
    starts.push_back(total);
    total += slot->parameter.numel();
  }
  parallel_for(total, kGrain, [&](int64_t begin, int64_t end) {
    size_t i = std::upper_bound(starts.begin(), starts.end(), begin) - starts.begin() - 1;
    for (; begin < end; ++i) {
      const auto& [slot, gradient] = active[i];
      const int64_t stop = std::min(end, starts[i] + slot->parameter.numel());
      if (stop > begin)
        update(*slot, gradient, lr_ * lr_factor_ * slot->lr_ratio, begin - starts[i], stop - starts[i]);
      begin = stop;
    }
  });
  for (const Active& one : active) one.slot->parameter.bump_version();
}

void Optimizer::step_on_device(const std::vector<Active>& active, TensorTable& table, const Tensor& norm) {
  const bool recording = recorded_scalars() != nullptr;
  int64_t steps = recording ? static_cast<int64_t>(recorded_values().step) + 1 : 0;
  for (const Active& one : active)
    if (!recording) steps = std::max(steps, one.slot->steps + 1);
  std::vector<TensorRow> rows;
  for (const auto& [slot, gradient] : active) {
    TensorRow row{.parameter = slot->parameter.device_raw(),
                  .gradient = gradient.device_raw(),
                  .numel = slot->parameter.numel(),
                  .steps_ahead = slot->steps + 1 - steps,
                  .lr_ratio = slot->lr_ratio,
                  .weight_decay = slot->weight_decay};
    for (size_t i = 0; i < slot->state.size(); ++i) row.state[i] = slot->state[i].device_raw();
    rows.push_back(row);
  }
  const Tensor& on = active[0].slot->parameter;
  if (norm.defined())
    check<DeviceError>(norm.device() == on.device(), "{}: a norm on {} of gradients on {}", name_,
                       name_of(norm.device()), name_of(on.device()));
  // A norm alone is one without a factor of clipping.
  const bool alone = norm.defined() && norm.numel() == 1;
  const Tensor both = alone ? cat({norm.reshape({1}), ones({1}, {DType::f64, norm.device()})}) : norm;
  update_on_device({table.rows(std::move(rows), on.device()), on, lr_ * lr_factor_, steps,
                    both.defined() ? both.device_data<double>() : nullptr});
  for (const Active& one : active) {
    if (!recording) one.slot->count();
    one.slot->parameter.bump_version();
  }
}

void Optimizer::update_on_device(const DeviceUpdate& update) const { missing_kernel(update.on); }

void Optimizer::replayed() {
  for (Slot& slot : slots_) {
    slot.counted = false;
    if (!slot.recorded) continue;
    slot.count();
    slot.parameter.bump_version();
  }
  count_step();
}

void Optimizer::take_back() {
  for (Slot& slot : slots_) slot.steps -= std::exchange(slot.counted, false);
  updates_ -= std::exchange(counted_, false);
}

StateDict Optimizer::state_dict() const {
  StateDict state{{"lr", rate_tensor(lr_)}, {kUpdates, step_tensor(updates_)}};
  for (size_t i = 0; i < slots_.size(); ++i) {
    state.push_back({key(i, "steps"), step_tensor(slots_[i].steps)});
    // A step that was not finite made states, but changed nothing.
    for (size_t j = 0; slots_[i].steps > 0 && j < slots_[i].state.size(); ++j)
      state.push_back({key(i, state_names_[j]), slots_[i].state[j]});
  }
  return state;
}

void Optimizer::load_state_dict(const StateDict& state) {
  std::map<std::string, Tensor> given;
  for (const auto& [name, tensor] : state)
    check<ConfigError>(tensor.defined() && given.emplace(name, tensor).second,
                       "{}: load_state_dict: \"{}\" is given twice or undefined", name_, name);
  const auto take = [&](const std::string& name, const Tensor& like) {
    const auto node = given.extract(name);
    check<ConfigError>(!node.empty(), "{}: load_state_dict: \"{}\" is missing", name_, name);
    const Tensor& value = node.mapped();
    check<ShapeError>(value.shape() == like.shape() && value.passes() == 1,
                      "{}: load_state_dict: \"{}\": expected {}, got {}", name_, name, describe(like),
                      describe(value));
    check<DTypeError>(value.dtype() == like.dtype(), "{}: load_state_dict: \"{}\": expected {}, got {}",
                      name_, name, describe(like), describe(value));
    return value;
  };
  const NoGradGuard no_grad;
  const double lr = take("lr", rate_tensor(0)).item();
  check_option("lr", lr, 0, kInfinity);
  const auto count_of = [&](const std::string& name) {
    const int64_t count = take(name, step_tensor(0)).to_vector<int64_t>()[0];
    check<ConfigError>(count >= 0, "{}: load_state_dict: \"{}\" is {}, expected at least 0", name_, name,
                       count);
    return count;
  };
  std::vector<Slot> slots = slots_;
  int64_t updates = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots[i];
    slot.steps = count_of(key(i, "steps"));
    updates = std::max(updates, slot.steps);
    slot.state.clear();
    if (slot.steps > 0)
      for (const std::string& name : state_names_)
        slot.state.push_back(take(key(i, name), slot.parameter).detach().to(slot.parameter.device()).clone());
  }
  if (given.contains(kUpdates)) updates = count_of(kUpdates);  // files of before have none
  check<ConfigError>(given.empty(), "{}: load_state_dict: \"{}\" is unexpected", name_,
                     given.empty() ? "" : given.begin()->first);
  slots_ = std::move(slots);
  updates_ = updates, counted_ = false;
  lr_ = lr;
}

}  // namespace tandem::nn
