// Stochastic gradient descent with momentum, as in PyTorch (no dampening).
#pragma once

#include "nn/optim/optimizer.h"

namespace tandem::nn {

// The options of SGD.
struct SGDOptions {
  double lr = 1e-3;         // the learning rate
  double momentum = 0;      // in [0, 1)
  double weight_decay = 0;  // added to the gradient: g + weight_decay * parameter
  bool nesterov = false;    // ConfigError without momentum
};

//   b <- momentum * b + g;   parameter <- parameter - lr * b      (Nesterov: lr * (g + momentum * b))
// Momentum: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
class SGD final : public Optimizer {
 public:
  explicit SGD(const Tensors& parameters, SGDOptions options = {})
      : SGD(std::vector<ParameterGroup>{{parameters}}, options) {}
  explicit SGD(const std::vector<ParameterGroup>& groups, SGDOptions options = {});

 private:
  void update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin, int64_t end) const override;
  void update_on_device(const DeviceUpdate& update) const override;
  template <class F> void with_rule(F f) const;
  SGDOptions options_;
};

}  // namespace tandem::nn
