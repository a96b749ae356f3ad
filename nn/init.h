// Initialisers of parameters, with PyTorch's names and formulas. A value is a pure function of (seed, path of
// the parameter, index): what one layer draws does not depend on the layers made before it.
//
//   nn::InitScope init{{.seed = 7}};   // the seed of every module that is made in this scope
//   Classifier model;
#pragma once

#include <cstdint>
#include <functional>

#include "autograd/noise.h"
#include "autograd/tensor.h"

namespace tandem::nn {

// How the parameters of a module under construction are made.
struct InitOptions {
  uint64_t seed = 0;         // of the noise
  DType dtype = DType::f32;  // f64 for gradient checks
  Device device = kCpu;      // where they are
};

// Scoped and thread-local; the innermost counts.
class InitScope {
 public:
  [[nodiscard("it acts while it lives: give it a name")]] explicit InitScope(
      InitOptions options);  // DTypeError unless f32 or f64
  ~InitScope();
  InitScope(const InitScope&) = delete;
  InitScope& operator=(const InitScope&) = delete;

  static const InitOptions& current();  // the defaults outside of every scope

 private:
  InitOptions options_;
  InitScope* outer_;
};

// Fills a parameter (f32 or f64, contiguous, on the CPU) with noise of `key`.
using Initializer = std::function<void(const Tensor& parameter, NoiseKey key)>;

namespace init {

// Constants and independent draws: from U[low, high), or N(mean, stddev^2).
Initializer zeros();
Initializer ones();
Initializer constant(double value);
Initializer uniform(double low = 0, double high = 1);
Initializer normal(double mean = 0, double stddev = 1);
// N(0, stddev) given |x| <= cut * stddev.
Initializer trunc_normal(double stddev = 0.02, double cut = 2);

// Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010:
// U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)), or N(0, gain * sqrt(2 / (fan_in + fan_out))).
Initializer xavier_uniform(double gain = 1);
Initializer xavier_normal(double gain = 1);
// He et al., "Delving deep into rectifiers", ICCV 2015, with fan_in and the gain of a leaky ReLU of slope a,
// g = sqrt(2 / (1 + a^2)): U(-b, b) with b = g * sqrt(3 / fan_in), or N(0, g / sqrt(fan_in)).
Initializer kaiming_uniform(double a = 0);
Initializer kaiming_normal(double a = 0);

// Of a weight [out, in, kernel...]: inputs and outputs of one unit, times the kernel's elements.
// ShapeError below two dimensions.
struct Fans {
  int64_t in, out;
};
Fans fans(const Shape& weight);

}  // namespace init
}  // namespace tandem::nn
