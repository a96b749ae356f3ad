#include "nn/module.h"

#include <fnmatch.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "ops/arithmetic.h"

namespace tandem::nn {

const Tensor* find(const NamedTensors& tensors, std::string_view name) {
  for (const NamedTensor& entry : tensors)
    if (entry.name == name) return &entry.tensor;
  return nullptr;
}

StateDict clone(const StateDict& state) {
  const NoGradGuard no_grad;
  StateDict copy;
  for (const auto& [name, tensor] : state) copy.push_back({name, tensor.clone()});
  return copy;
}

StateDict average(const std::vector<StateDict>& states) {
  check<ConfigError>(!states.empty(), "average: no state dicts, expected at least one");
  const NoGradGuard no_grad;
  StateDict mean;
  for (const auto& [name, last] : states.back()) {
    Tensor sum = last.clone();
    for (const StateDict& state : states) {
      const Tensor* tensor = find(state, name);
      check<ConfigError>(tensor != nullptr && state.size() == states.back().size(),
                         "average: the state dicts hold different names, such as {}", name);
      check<ShapeError>(tensor->shape() == last.shape(), "average: {}: {} and {}", name, tensor->shape(),
                        last.shape());
      if (&state != &states.back() && is_floating(last.dtype())) sum = sum + *tensor;
    }
    mean.push_back(
        {name, is_floating(last.dtype()) ? sum * (1.0 / static_cast<double>(states.size())) : sum});
  }
  return mean;
}

Parameter& Parameter::operator=(const Parameter& other) {
  check<AutogradError>(!defined(),
                       "Parameter: {} is its module's, and is not replaced by assignment; nn::tie(a.weight, "
                       "b.weight) makes two of them one, a.weight.copy_(b.weight) copies values",
                       describe(*this));
  Tensor::operator=(other);
  module_ = other.module_;
  return *this;
}

void tie(Parameter& own, const Parameter& other) {
  check<AutogradError>(own.module_ && other.module_, "tie: a parameter is undefined");
  check<ShapeError>(own.shape() == other.shape(), "tie: {} and {}", describe(own), describe(other));
  check<DTypeError>(own.dtype() == other.dtype(), "tie: {} and {}", describe(own), describe(other));
  for (Module::Entry& entry : own.module_->parameters_)
    if (entry.tensor.impl() == own.impl()) entry.tensor = other;
  own.Tensor::operator=(other);
}

Module::Module(Module& parent, std::string name) : parent_(&parent), name_(std::move(name)) {
  parent.check_name(name_);
  path_ = parent.path_of(name_);
  training_ = parent.training_;
  parent.children_.push_back(this);
}

Module::~Module() {
  if (parent_) std::erase(parent_->children_, this);
  for (Module* child : children_) child->parent_ = nullptr;
}

std::string Module::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void Module::check_name(const std::string& name) const {
  const Scope scope(path_);
  check<ConfigError>(!name.empty() && name.find('.') == std::string::npos,
                     "Module: expected a name without '.' and not empty, got \"{}\"", name);
  const auto same = [&](const Entry& entry) { return entry.name == name; };
  const bool taken = std::any_of(parameters_.begin(), parameters_.end(), same) ||
                     std::any_of(buffers_.begin(), buffers_.end(), same) ||
                     std::any_of(children_.begin(), children_.end(),
                                 [&](const Module* child) { return child->name_ == name; });
  check<ConfigError>(!taken, "Module: the name \"{}\" is taken", name);
}

// visit(module, prefix of its tensors' names) for this module and all below, parents first.
template <class Visit> void Module::walk(Visit&& visit, const std::string& prefix) const {
  visit(*this, prefix);
  for (const Module* child : children_) child->walk(visit, prefix + child->name_ + ".");
}

NamedTensors Module::named_parameters() const {
  NamedTensors all;
  std::unordered_set<const TensorImpl*> seen;
  walk([&](const Module& module, const std::string& prefix) {
    for (const Entry& entry : module.parameters_)
      if (seen.insert(entry.tensor.impl().get()).second) all.push_back({prefix + entry.name, entry.tensor});
  });
  return all;
}

Tensors Module::parameters() const {
  Tensors all;
  for (NamedTensor& entry : named_parameters()) all.push_back(std::move(entry.tensor));
  return all;
}

NamedTensors Module::named_buffers() const {
  NamedTensors all;
  walk([&](const Module& module, const std::string& prefix) {
    for (const Entry& entry : module.buffers_) all.push_back({prefix + entry.name, entry.tensor});
  });
  return all;
}

int64_t Module::num_parameters() const {
  int64_t count = 0;
  for (const NamedTensor& entry : named_parameters()) count += entry.tensor.numel();
  return count;
}

Device Module::device() const {
  const NamedTensors all = named_parameters();
  return all.empty() ? kCpu : all.front().tensor.device();
}

template <class To> void Module::convert(To to) {
  NamedTensors all = named_parameters(), buffers = named_buffers();
  all.insert(all.end(), buffers.begin(), buffers.end());
  const NoGradGuard no_grad;
  std::vector<std::pair<Tensor, Tensor>> converted;  // all of them, before any is changed
  for (const auto& [name, tensor] : all) converted.emplace_back(tensor, to(tensor.detach()));
  for (const auto& [tensor, result] : converted) {
    tensor.set_data(result);
    if (tensor.grad().defined()) tensor.grad() = to(tensor.grad().detach());
  }
}

void Module::to(Device device) {
  convert([&](const Tensor& x) { return x.to(device); });
}

void Module::to(DType dtype) {
  const Scope scope(path_);
  check<DTypeError>(dtype == DType::f32 || dtype == DType::f64,
                    "to: weights are f32 or f64, got {}; for products in bf16 see the precision of a step",
                    name_of(dtype));
  convert([&](const Tensor& x) { return is_floating(x.dtype()) ? x.to(dtype) : x; });
}

Parameter Module::register_parameter(const std::string& name, Tensor value) {
  check_name(name);
  const Scope scope(path_);
  check<ConfigError>(value.defined(), "register_parameter: \"{}\" is an undefined tensor", name);
  check<DTypeError>(value.dtype() == DType::f32 || value.dtype() == DType::f64,
                    "register_parameter: expected f32 or f64, got \"{}\" {}", name, describe(value));
  check<ShapeError>(value.passes() == 1, "register_parameter: \"{}\" differs between passes: {}", name,
                    describe(value));
  check<AutogradError>(value.is_leaf(), "register_parameter: \"{}\" is not a leaf", name);
  value.requires_grad_();
  parameters_.push_back({name, value});
  return {value, this};
}

Parameter Module::register_parameter(const std::string& name, const Shape& shape, const Initializer& init) {
  const InitOptions& options = InitScope::current();
  const Parameter value = register_parameter(name, empty(shape, {options.dtype, options.device}));
  initialize(name, init);
  return value;
}

Tensor Module::register_buffer(const std::string& name, Tensor value, bool persistent) {
  check_name(name);
  const Scope scope(path_);
  check<ConfigError>(value.defined(), "register_buffer: \"{}\" is an undefined tensor", name);
  buffers_.push_back({name, value, persistent});
  return value;
}

void Module::initialize(std::string_view parameter, const Initializer& init) {
  const auto entry = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Entry& candidate) { return candidate.name == parameter; });
  const Scope scope(path_);
  check<ConfigError>(
      entry != parameters_.end(),
      "initialize: there is no parameter \"{}\" in this module; a child's own initialize fills "
      "the child's",
      parameter);
  const NoGradGuard no_grad;
  const Tensor values = empty(entry->tensor.shape(), {entry->tensor.dtype()});
  init(values, noise_key(InitScope::current().seed, 0, site_hash(path_of(parameter)), 0, Purpose::init));
  entry->tensor.copy_(values);
}

void Module::train(bool on) {
  training_ = on;
  for (Module* child : children_) child->train(on);
}

void Module::zero_grad() {
  for (const Tensor& parameter : parameters()) parameter.grad() = {};
}

void Module::requires_grad_(bool on, const std::string& pattern) {
  const Scope scope(path_);
  bool found = false;
  for (const auto& [name, tensor] : named_parameters()) {
    if (fnmatch(pattern.c_str(), name.c_str(), 0) != 0) continue;
    tensor.requires_grad_(on);
    if (!on) tensor.grad() = {};
    found = true;
  }
  check<ConfigError>(found, "requires_grad_: no parameter has a name like \"{}\"", pattern);
}

StateDict Module::state_dict() const {
  StateDict state;
  walk([&](const Module& module, const std::string& prefix) {
    for (const Entry& entry : module.parameters_)
      state.push_back({prefix + entry.name, entry.tensor.detach()});
    for (const Entry& entry : module.buffers_)
      if (entry.persistent) state.push_back({prefix + entry.name, entry.tensor.detach()});
  });
  return state;
}

void Module::load_state_dict(const StateDict& state) {
  const Scope scope(path_);
  std::unordered_map<std::string_view, const Tensor*> given;
  for (const auto& [name, tensor] : state)
    check<ConfigError>(given.emplace(name, &tensor).second, "load_state_dict: \"{}\" is given twice", name);
  const StateDict own = state_dict();
  for (const auto& [name, tensor] : own) {
    const auto found = given.find(name);
    check<ConfigError>(found != given.end(), "load_state_dict: \"{}\" {} is missing", name, describe(tensor));
    const Tensor& value = *found->second;
    check<ConfigError>(value.defined(), "load_state_dict: \"{}\" is an undefined tensor", name);
    check<ShapeError>(value.shape() == tensor.shape() && value.passes() == 1,
                      "load_state_dict: \"{}\": expected {}, got {}", name, describe(tensor),
                      describe(value));
    check<DTypeError>(
        value.dtype() == tensor.dtype() || (is_floating(value.dtype()) && is_floating(tensor.dtype())),
        "load_state_dict: \"{}\": expected {}, got {}", name, describe(tensor), describe(value));
  }
  for (const auto& [name, tensor] : state)
    check<ConfigError>(find(own, name) != nullptr, "load_state_dict: \"{}\" {} is unexpected", name,
                       describe(tensor));
  const NoGradGuard no_grad;
  for (const auto& [name, tensor] : own) tensor.copy_(*given.at(name));
}

void Module::commit_statistics() {
  for (Module* child : children_) child->commit_statistics();
}

void Module::discard_statistics() {
  for (Module* child : children_) child->discard_statistics();
}

}  // namespace tandem::nn
