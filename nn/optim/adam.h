// Adam and AdamW, as in PyTorch.
#pragma once

#include <array>

#include "nn/optim/optimizer.h"
#include "nn/optim/rules.h"

namespace tandem::nn {

// The options of Adam.
struct AdamOptions {
  double lr = 1e-3;                            // the learning rate
  std::array<double, 2> betas = {0.9, 0.999};  // of the running means of gradients and of their squares
  double eps = 1e-8;                           // added to the root of the latter
  double weight_decay = 0;                     // added to the gradient: g + weight_decay * parameter
};
// The options of AdamW.
struct AdamWOptions {
  double lr = 1e-3;                            // the learning rate
  std::array<double, 2> betas = {0.9, 0.999};  // as of Adam
  double eps = 1e-8;                           // as of Adam
  double weight_decay = 0.01;                  // decoupled: parameter * (1 - lr * weight_decay) first
};

// With t counted from 1:
//   m <- beta1 * m + (1 - beta1) * g;   v <- beta2 * v + (1 - beta2) * g^2
//   parameter <- parameter - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
// Kingma, Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980; decoupled weight decay:
// Loshchilov, Hutter, arXiv 1711.05101.
class AdamBase : public Optimizer {
 protected:
  AdamBase(const char* name, const std::vector<ParameterGroup>& groups, const AdamWOptions& options,
           bool decoupled);

 private:
  void update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin, int64_t end) const override;
  void update_on_device(const DeviceUpdate& update) const override;
  AdamRule rule() const;
  AdamWOptions options_;
  bool decoupled_;
};

class Adam final : public AdamBase {
 public:
  explicit Adam(const Tensors& parameters, AdamOptions options = {})
      : Adam(std::vector<ParameterGroup>{{parameters}}, options) {}
  explicit Adam(const std::vector<ParameterGroup>& groups, AdamOptions options = {})
      : AdamBase("Adam", groups, {options.lr, options.betas, options.eps, options.weight_decay}, false) {}
};

// Adam with decoupled weight decay. Example:
//
//   nn::AdamW all{model.parameters(), {.lr = 1e-3, .weight_decay = 0.05}};
//   nn::AdamW groups{{{{model.hidden.weight}}, {{model.hidden.bias}, {.weight_decay = 0}}}, {.lr = 1e-3}};
class AdamW final : public AdamBase {
 public:
  explicit AdamW(const Tensors& parameters, AdamWOptions options = {})
      : AdamW(std::vector<ParameterGroup>{{parameters}}, options) {}
  explicit AdamW(const std::vector<ParameterGroup>& groups, AdamWOptions options = {})
      : AdamBase("AdamW", groups, options, true) {}
};

}  // namespace tandem::nn
