// Optimizer: parameter groups, the state of each parameter, and one parallel sweep over all of them.
//
//   nn::AdamW optimizer{model.parameters(), {.lr = 1e-3}};
//   nn::AdamW optimizer{{{matrices, {.weight_decay = 0.05}}, {biases, {.weight_decay = 0}}}, {.lr = 1e-3}};
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "autograd/tensor.h"
#include "nn/module.h"
#include "nn/optim/tensor_table.h"

namespace tandem::nn {

// What a group has in place of the optimizer's own.
struct GroupOptions {
  std::optional<double> lr = {};            // learning rate
  std::optional<double> weight_decay = {};  // as the optimizer's option of this name
};
// Parameters that are updated alike.
struct ParameterGroup {
  Tensors parameters;         // leaves; none is in two groups
  GroupOptions options = {};  // theirs alone
};

class Optimizer {
 public:
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // One update from the gradients; a parameter whose gradient is undefined is skipped, with its state. With a
  // norm of the gradients, f64 [1], nothing changes unless that is finite; with a factor beside it, f64 [2]
  // (GradientNorm), it is from the gradients times that. ShapeError, DTypeError or DeviceError, before
  // anything changes, for a gradient or a state that does not fit its parameter. On a device the update of
  // all parameters is one launch. While a step is being recorded (StepScalars) nothing is updated yet, and
  // each replay reads its rate and number from the device: call replayed() after each that changed the
  // parameters. AutogradError then for a parameter that was never updated before: every replay would make its
  // state anew.
  void step(const Tensor& norm = {});
  void replayed();
  // The last step changed nothing, as its norm was not finite: it does not count.
  void take_back();
  void zero_grad();                             // gradients become undefined
  int64_t updates() const { return updates_; }  // so far, of whichever parameters

  double lr() const { return lr_; }  // before a schedule's factor, which Step::lr() has in it
  // Sets the learning rate; one that a group has of its own keeps its proportion. ConfigError unless finite
  // and >= 0.
  void set_lr(double lr);

  Tensors parameters() const;  // of all groups, in order

  // The learning rate and the state of each parameter, for a resume that is exact to the last bit. The
  // tensors of the state are the optimizer's own memory.
  StateDict state_dict() const;
  // ConfigError: an unknown, missing or repeated name; ShapeError or DTypeError: state of other parameters.
  // Nothing has been changed then.
  void load_state_dict(const StateDict& state);

 protected:
  struct Slot {  // a parameter and what the optimizer remembers of it
    Tensor parameter;
    double lr_ratio = 1;      // of its learning rate to the optimizer's
    double weight_decay = 0;  // its own
    int64_t steps = 0;        // updates so far, the current one included
    Tensors state;            // one for each state name, once there was an update
    bool recorded = false;    // updated by the step that was recorded last
    bool counted = false;     // `steps` has the last step
    // Before an update.
    void count() { ++steps, counted = true; }
  };
  // `name` opens error messages; state_names are the tensors kept for each parameter. ConfigError for rates
  // that are negative or not finite and for a parameter that is listed twice; AutogradError for a tensor
  // that is not a contiguous leaf. Frozen ones have no gradient, and stay as they are.
  Optimizer(std::string name, std::vector<std::string> state_names, const std::vector<ParameterGroup>& groups,
            double lr, double weight_decay);
  // Raises a ConfigError naming the option unless low <= value < high.
  void check_option(const char* option, double value, double low, double high) const;

 private:
  friend class Step;
  // Updates the elements [begin, end) of a slot; runs on several threads.
  virtual void update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin,
                      int64_t end) const = 0;
  // The same for all elements of the tensors of an update on a device: nn/optim/run_rule.h.
  virtual void update_on_device(const DeviceUpdate& update) const;
  struct Active {
    Slot* slot;
    Tensor gradient;
  };
  void check_slot(size_t i) const;
  void step_on_cpu(const std::vector<Active>& active);
  void count_step();
  void step_on_device(const std::vector<Active>& active, TensorTable& table, const Tensor& norm);

  std::string name_;
  std::vector<std::string> state_names_;
  std::vector<Slot> slots_;
  int64_t updates_ = 0;
  bool counted_ = false;  // `updates_` has the last step, as some slot has
  double lr_;
  double lr_factor_ = 1;                          // by the schedule of the open Step
  TensorTable tables_[2];                         // of f32 and f64
  std::function<void(const Tensor&)> on_update_;  // of the open Step: called at the end of step()
  bool left_ = false;                             // the last Step ended without an update
};

}  // namespace tandem::nn
