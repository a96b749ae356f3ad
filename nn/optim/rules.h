// Update rules of the optimizers and of averaged weights, element by element, shared by CPU and CUDA: the
// number of state tensors, the factors of one step (computed once, in f64), and the update.
#pragma once

#include <cmath>

namespace tandem::nn {

struct AdamRule {
  static constexpr int kStates = 2;
  double beta1, beta2, eps;
  bool decoupled;

  template <class C> struct Factors { C b1, b2, a1, a2, eps, rate, scale, keep, decay; };
  // Of update number t, counted from 1.
  template <class C> constexpr Factors<C> factors(double lr, double weight_decay, double t) const {
    const double rate = lr / (1 - std::pow(beta1, t)), scale = 1 / std::sqrt(1 - std::pow(beta2, t));
    return {static_cast<C>(beta1),
            static_cast<C>(beta2),
            static_cast<C>(1 - beta1),
            static_cast<C>(1 - beta2),
            static_cast<C>(eps),
            static_cast<C>(rate),
            static_cast<C>(scale),
            static_cast<C>(decoupled ? 1 - lr * weight_decay : 1),
            static_cast<C>(decoupled ? 0 : weight_decay)};
  }
  template <class C> static constexpr void apply(const Factors<C>& f, C g, C& p, C& m, C& v) {
    const C gradient = g + f.decay * p;
    m = f.b1 * m + f.a1 * gradient;
    v = f.b2 * v + f.a2 * gradient * gradient;
    p = f.keep * p - f.rate * m / (f.scale * std::sqrt(v) + f.eps);
  }
};

struct SgdRule {
  static constexpr int kStates = 0;
  template <class C> struct Factors { C rate, decay; };
  template <class C> constexpr Factors<C> factors(double lr, double weight_decay, double) const {
    return {static_cast<C>(lr), static_cast<C>(weight_decay)};
  }
  template <class C> static constexpr void apply(const Factors<C>& f, C g, C& p) {
    p = p - f.rate * (g + f.decay * p);
  }
};

struct MomentumRule {
  static constexpr int kStates = 1;
  double momentum;
  bool nesterov;

  // The step is a mix of the gradient and the buffer: all buffer, or with Nesterov's momentum
  // g + momentum * b.
  template <class C> struct Factors { C rate, decay, momentum, of_gradient, of_buffer; };
  template <class C> constexpr Factors<C> factors(double lr, double weight_decay, double) const {
    return {static_cast<C>(lr), static_cast<C>(weight_decay), static_cast<C>(momentum),
            static_cast<C>(nesterov ? 1 : 0), static_cast<C>(nesterov ? momentum : 1)};
  }
  template <class C> static constexpr void apply(const Factors<C>& f, C g, C& p, C& b) {
    const C gradient = g + f.decay * p;
    b = f.momentum * b + gradient;
    p = p - f.rate * (f.of_gradient * gradient + f.of_buffer * b);
  }
};

// The average of a weight, which stands in the place of a parameter: the weight in that of its gradient.
struct EmaRule {
  static constexpr int kStates = 0;
  double decay;

  template <class C> struct Factors { C share; };  // of the weight
  template <class C> constexpr Factors<C> factors(double, double, double t) const {
    const double start = (1 + t) / (10 + t);
    return {static_cast<C>(1 - (start < decay ? start : decay))};
  }
  template <class C> static constexpr void apply(const Factors<C>& f, C weight, C& average) {
    average = average + f.share * (weight - average);
  }
};

}  // namespace tandem::nn
