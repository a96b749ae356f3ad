#include "nn/optim/sgd.h"

#include "autograd/error.h"

namespace tandem::nn {

SGD::SGD(const std::vector<ParameterGroup>& groups, SGDOptions options)
    : Optimizer("SGD",
                options.momentum == 0 ? std::vector<std::string>{} : std::vector<std::string>{"momentum"},
                groups, options.lr, options.weight_decay),
      options_(options) {
  check_option("momentum", options.momentum, 0, 1);
  check<ConfigError>(!options.nesterov || options.momentum > 0, "SGD: nesterov needs a momentum above 0");
}

void SGD::update(const Slot& slot, const Tensor& gradient, double lr, int64_t begin, int64_t end) const {
  dispatch_floating("SGD", slot.parameter.dtype(), [&]<class T>() {
    using C = compute_t<T>;
    T* const p = slot.parameter.data<T>();
    const T* const g = gradient.data<T>();
    const C rate = static_cast<C>(lr), decay = static_cast<C>(slot.weight_decay);
    if (options_.momentum == 0) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) p[i] = p[i] - rate * (g[i] + decay * p[i]);
      return;
    }
    T* const b = slot.state[0].data<T>();
    const C momentum = static_cast<C>(options_.momentum);
    // The step is a mix of the gradient and the buffer: all buffer, or with Nesterov's momentum g + momentum
    // * b.
    const C of_gradient = options_.nesterov ? 1 : 0, of_buffer = options_.nesterov ? momentum : 1;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const C slope = g[i] + decay * p[i], buffer = momentum * b[i] + slope;
      b[i] = buffer;
      p[i] = p[i] - rate * (of_gradient * slope + of_buffer * buffer);
    }
  });
}

}  // namespace tandem::nn
