// Module: a tree of named parameters, buffers and child modules, and the base of every layer and model.
// Example:
//
//   struct Block : nn::Layer<Block> {
//     nn::Linear fc{*this, "fc", 64, 64};
//     nn::Dropout drop{*this, "drop", 0.1};
//     using Layer::Layer;                                     // (parent, name)
//     Tensor forward(const Tensor& x) { return x + drop(fc(x)); }
//   };
//   struct Model : nn::Module {                               // a root: no parent, no name
//     Block first{*this, "first"}, second{*this, "second"};
//     Tensor forward(const Tensor& x) { return second(first(x)); }
//   };
//   Model model;
//   model.named_parameters();                                 // "first.fc.weight", "first.fc.bias", ...
//
// A child is a member that names its parent and itself, and so registers itself; a module's path ("first.fc")
// is known from its construction on. Errors name it, and noise is keyed by it, hence modules are neither
// copied nor moved. Calling a layer (Layer::operator()) runs its forward with that path as the current Scope.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <deque>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/scope.h"
#include "autograd/tensor.h"
#include "nn/init.h"

namespace tandem::nn {

// A tensor of a model, and its path there.
struct NamedTensor {
  std::string name;  // "encoder.3.attn.q_proj.weight"
  Tensor tensor;
};
using NamedTensors = std::vector<NamedTensor>;  // ordered
using StateDict = NamedTensors;                 // what a module or an optimizer has to keep

// The tensor of that name; null when there is none.
const Tensor* find(const NamedTensors& tensors, std::string_view name);
// A deep copy: later changes of the model do not reach it.
StateDict clone(const StateDict& state);
// The mean of each floating tensor; other tensors are those of the last state. ConfigError for no state or
// different names, ShapeError for different shapes.
StateDict average(const std::vector<StateDict>& states);

class Module;

// What register_parameter() returns, for members of layers. Its module keeps it, so that assigning another
// tensor to it is an AutogradError: tie() makes two parameters one.
class Parameter : public Tensor {
 public:
  Parameter() = default;
  Parameter(const Parameter&) = default;
  Parameter& operator=(const Parameter& other);  // of a member that has none yet

 private:
  friend class Module;
  friend void tie(Parameter& own, const Parameter& other);
  Parameter(Tensor value, Module* module) : Tensor(std::move(value)), module_(module) {}
  Module* module_ = nullptr;
};

// `own` is `other` from now on, one parameter under both names: nn::tie(head.weight, embedding.weight).
// Before the optimizer is made. AutogradError where one of them is undefined, ShapeError or DTypeError where
// they differ.
void tie(Parameter& own, const Parameter& other);

class Module {
 public:
  Module() = default;                        // a root; its path is ""
  Module(Module& parent, std::string name);  // ConfigError: name taken, empty, or with a '.'
  virtual ~Module();
  Module(const Module&) = delete;  // several: nn::ModuleList, or std::unique_ptr; weights: load_state_dict
  Module& operator=(const Module&) = delete;

  template <class... Args> void operator()(Args&&...) = delete;  // model.forward(x), or derive from nn::Layer

  const std::string& name() const { return name_; }
  const std::string& path() const { return path_; }                   // "blocks.3.attn.q_proj"; "" for a root
  const std::vector<Module*>& children() const { return children_; }  // in order of construction

  // In order of registration, a module's own before its children's; names are relative to this module.
  // A tensor that is registered twice (tied weights) is listed once, under its first name.
  NamedTensors named_parameters() const;
  Tensors parameters() const;
  NamedTensors named_buffers() const;
  int64_t num_parameters() const;  // their elements
  Device device() const;           // of the first parameter; the CPU where there is none
  // Moves parameters, their gradients and buffers, in place. Make optimizers afterwards: their state does not
  // move. DeviceError for a device that load_device has not made ready.
  void to(Device device);
  // Converts floating parameters, their gradients and buffers to f32 or f64, in place. DTypeError for others.
  void to(DType dtype);

  // Adds a tensor that the optimizer learns, and returns it: a leaf of f32 or f64, which gets requires_grad.
  // ConfigError as for a child's name; DTypeError, ShapeError (it differs between passes), AutogradError.
  Parameter register_parameter(const std::string& name, Tensor value);
  // A new parameter, filled as `init` says, of the current InitScope's dtype and device.
  Parameter register_parameter(const std::string& name, const Shape& shape, const Initializer& init);
  // A tensor that is not learned; in the state_dict if `persistent`.
  Tensor register_buffer(const std::string& name, Tensor value, bool persistent = true);
  // Fills a parameter of this module (not of a child) anew, with the current InitScope's seed.
  void initialize(std::string_view parameter, const Initializer& init);

  // Training mode, the default, or evaluation (no noise, running statistics), for all modules below.
  void train(bool on = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }

  void zero_grad();  // gradients become undefined

  // Whether the parameters whose name the pattern fits ("encoder.*": * is any text) learn: frozen ones get no
  // gradient, and optimizers leave them alone. ConfigError for a pattern that fits no name.
  void requires_grad_(bool on = true, const std::string& pattern = "*");

  // Parameters and persistent buffers. The tensors are the model's own memory (detached), not copies.
  StateDict state_dict() const;
  // Copies values in. ConfigError: a missing, unexpected or repeated name; ShapeError or DTypeError: a tensor
  // that does not fit. The message names the tensor, and nothing has been changed then.
  void load_state_dict(const StateDict& state);

  // Folds the statistics that forwards have gathered since the last call (batch norm) into the buffers: once
  // per optimizer step, so that passes and micro-batches count as one batch.
  virtual void commit_statistics();
  // Forgets them, for instance after a step that failed.
  virtual void discard_statistics();

 private:
  friend void tie(Parameter& own, const Parameter& other);
  friend std::string to_string(const Module& module);
  struct Entry {
    std::string name;
    Tensor tensor;
    bool persistent = true;
  };
  void check_name(const std::string& name) const;
  template <class To> void convert(To to);
  template <class Visit> void walk(Visit&& visit, const std::string& prefix = "") const;
  std::string path_of(std::string_view name) const;

  Module* parent_ = nullptr;
  std::string name_, path_;
  std::vector<Module*> children_;
  std::vector<Entry> parameters_, buffers_;
  bool training_ = true;
};

// A table of the tree: name, kind, shape, parameters, and which of them are frozen.
std::string to_string(const Module& module);
std::ostream& operator<<(std::ostream& out, const Module& module);

// Base of modules that others call: Self has `forward`. A root need not be one.
template <class Self> struct Layer : Module {
  using Module::Module;
  Layer() = default;
  Layer(const Layer&) = delete;  // the same layer: a reference, auto&; several: nn::ModuleList
  // Never compiles, and says so in one line: std::vector, which moves what it has, would take pages.
  Layer(Layer&&) : Module() {
    static_assert(
        !std::same_as<Self, Self>,
        "a layer is not moved: hold several in an nn::ModuleList, or in a std::vector of std::unique_ptr");
  }

  // forward(args...), with this module's path as the Scope.
  template <class... Args> auto operator()(Args&&... args) {
    const Scope scope(path());
    return static_cast<Self&>(*this).forward(std::forward<Args>(args)...);
  }
};

// Layers of one type, called "0", "1", ...: owns them, at addresses that never change. Example:
//
//   struct Deep : nn::Module {
//     nn::ModuleList<nn::Linear> layers{*this, "layers"};
//     Deep() {
//       for (int i = 0; i < 3; ++i) layers.emplace_back(8, 8);  // as nn::Linear, without parent and name
//     }
//     Tensor forward(Tensor x) {
//       for (nn::Linear& layer : layers) x = relu(layer(x));
//       return x;
//     }
//   };
//   Deep().forward(ones({2, 8}));
template <class T> class ModuleList : public Module {
 public:
  using Module::Module;

  // Makes a T(*this, number, args...), and returns it.
  template <class... Args> T& emplace_back(Args&&... args) {
    return items_.emplace_back(*this, std::to_string(items_.size()), std::forward<Args>(args)...);
  }
  // As a container has them; the index is not checked.
  size_t size() const { return items_.size(); }
  T& operator[](size_t i) { return items_[i]; }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }

 private:
  std::deque<T> items_;
};

}  // namespace tandem::nn

template <std::derived_from<tandem::nn::Module> M> struct fmt::formatter<M> {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  auto format(const tandem::nn::Module& module, fmt::format_context& context) const {
    return fmt::format_to(context.out(), "{}", tandem::nn::to_string(module));
  }
};
