// The exponential moving average of a model's weights, by which a model is judged in place of the last ones
// (Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992).
//
//   nn::Ema ema(model, 0.999);
//   optimizer.step(), ema.update();                     // each time
//   { const nn::Ema::Weights average(ema); ... }        // the model has the averages within
#pragma once

#include "nn/module.h"
#include "nn/optim/tensor_table.h"

namespace tandem::nn {

class Ema {
 public:
  // Of all parameters of the module, which must outlive this, from their present values on; of their dtype,
  // where they are. ConfigError unless 0 < decay < 1.
  Ema(const Module& module, double decay);

  // After update number t of the weights, from 1: average <- d average + (1 - d) weight, where d is the
  // smaller of decay and (1 + t) / (10 + t), so that a short training is not ruled by its first weights.
  // With a norm of the gradients nothing changes unless that is finite; replayed() and take_back() as of
  // Optimizer. On a device it is one launch.
  void update(const Tensor& norm = {});
  void replayed();
  void take_back();
  void restart();  // from the model's present weights

  // The averages under the names of the parameters, and "updates": for a resume that is exact to the last
  // bit. Buffers are the model's own. Loading: errors as of Module::load_state_dict, before anything changes.
  StateDict state_dict() const;
  void load_state_dict(const StateDict& state);

  // Within its scope the model's parameters have the values of the averages.
  class Weights {
   public:
    explicit Weights(const Ema& ema);
    ~Weights();
    Weights(const Weights&) = delete;
    Weights& operator=(const Weights&) = delete;

   private:
    const Ema& ema_;
    Tensors own_;  // the model's own, meanwhile
  };

 private:
  void update_on_cpu(const std::vector<size_t>& which);
  void update_on_device(const std::vector<size_t>& which, const Tensor& norm);

  double decay_;
  NamedTensors weights_;     // the model's
  Tensors averages_;         // of each
  std::vector<char> moves_;  // of each weight: whether it has, perhaps, moved from its average
  int64_t updates_ = 0;      // so far
  bool counted_ = false;     // `updates_` has the last one
  TensorTable tables_[2];    // of f32 and f64
};

}  // namespace tandem::nn
