#include "nn/layers/norm.h"

#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/pass_context.h"
#include "nn/layers/options.h"

namespace tandem::nn {

LayerNorm::LayerNorm(Module& parent, std::string name, const Shape& normalized_shape,
                     LayerNormOptions options)
    : Layer(parent, std::move(name)), normalized_shape(normalized_shape), eps(options.eps) {
  for (const int64_t size : normalized_shape) check_sizes(*this, "LayerNorm", {size});
  weight = register_parameter("weight", normalized_shape, init::ones());
  if (options.bias) bias = register_parameter("bias", normalized_shape, init::zeros());
}
Tensor LayerNorm::forward(const Tensor& x, std::optional<DType> dtype) {
  return layer_norm(x, normalized_shape, weight, bias, eps, dtype);
}

RMSNorm::RMSNorm(Module& parent, std::string name, int64_t size, double eps)
    : Layer(parent, std::move(name)), eps(eps) {
  check_sizes(*this, "RMSNorm", {size});
  weight = register_parameter("weight", {size}, init::ones());
}
Tensor RMSNorm::forward(const Tensor& x, std::optional<DType> dtype) {
  return rms_norm(x, weight, eps, dtype);
}

BatchNorm2d::BatchNorm2d(Module& parent, std::string name, int64_t channels, BatchNormOptions options)
    : Layer(parent, std::move(name)), options(options) {
  check_sizes(*this, "BatchNorm2d", {channels});
  const Scope scope(path());
  check<ConfigError>(options.momentum >= 0 && options.momentum <= 1,
                     "BatchNorm2d: momentum is {}, expected 0 <= momentum <= 1", options.momentum);
  weight = register_parameter("weight", {channels}, init::ones());
  bias = register_parameter("bias", {channels}, init::zeros());
  const TensorOptions made{InitScope::current().dtype, InitScope::current().device};
  running_mean = register_buffer("running_mean", zeros({channels}, made));
  running_var = register_buffer("running_var", ones({channels}, made));
}

Tensor BatchNorm2d::forward(const Tensor& x) {
  check<ShapeError>(x.dim() == 4, "BatchNorm2d: expected [N, C, H, W], got {}", describe(x));
  check<AutogradError>(
      is_training() || pending_count_ == 0,
      "BatchNorm2d: the running statistics lack those of the forwards in training mode: nn::Step "
      "folds them in when the optimizer updates; by hand, call model.commit_statistics() then");
  if (!is_training())
    return batch_norm(x, {running_mean, running_var}, weight, bias, false, options.eps, options.relu);
  const auto [y, batch] = batch_norm_training(x, weight, bias, options.eps, options.relu);
  const PassContext* context = PassContext::current();
  if (context && !context->options().updates_statistics) return y;
  if (pending_count_ == 0) pending_ = {zeros_like(running_mean), zeros_like(running_var)};
  const NoGradGuard no_grad;
  for (int i = 0; i < batch.mean.passes(); ++i) {
    pending_.mean.add_(batch.mean.pass(i));
    pending_.var.add_(batch.var.pass(i));
    ++pending_count_;
  }
  return y;
}

void BatchNorm2d::commit_statistics() {
  if (pending_count_ == 0) return;
  pending_.mean.mul_(1.0 / pending_count_);
  pending_.var.mul_(1.0 / pending_count_);
  update_running({running_mean, running_var}, pending_, options.momentum);
  pending_count_ = 0;
}

}  // namespace tandem::nn
