#include "nn/init.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/error.h"
#include "autograd/parallel.h"
#include "autograd/thread_scope.h"

namespace tandem::nn {
namespace {

const InitOptions kDefaults;
thread_local InitScope* current_scope = nullptr;

}  // namespace

InitScope::InitScope(InitOptions options) : options_(options), outer_(current_scope) {
  check<DTypeError>(options.dtype == DType::f32 || options.dtype == DType::f64,
                    "InitScope: parameters are f32 or f64, got {}", name_of(options.dtype));
  current_scope = this;
}
InitScope::~InitScope() { close_scope(current_scope, this, &InitScope::outer_, "InitScope"); }
const InitOptions& InitScope::current() { return current_scope ? current_scope->options_ : kDefaults; }

namespace init {
namespace {

// fill(data, numel, key) on the parameter's memory.
template <class Fill> Initializer filler(Fill fill) {
  return [fill](const Tensor& parameter, NoiseKey key) {
    if (parameter.dtype() == DType::f64)
      fill(parameter.data<double>(), parameter.numel(), key);
    else
      fill(parameter.data<float>(), parameter.numel(), key);
  };
}

void check_positive(const char* name, const char* what, double value) {
  check<ConfigError>(std::isfinite(value) && value >= 0, "{}: {} is {}, expected a finite number >= 0", name,
                     what, value);
}

double xavier_stddev(const Shape& shape, double gain) {
  const Fans fan = fans(shape);
  return gain * std::sqrt(2.0 / static_cast<double>(std::max<int64_t>(1, fan.in + fan.out)));
}
double kaiming_stddev(const Shape& shape, double a) {
  const double fan_in = static_cast<double>(std::max<int64_t>(1, fans(shape).in));
  return std::sqrt(2 / (1 + a * a)) / std::sqrt(fan_in);
}

// Around 0, of the standard deviation that a weight's shape and `option` give.
template <class Stddev>
Initializer normal_of(const char* name, const char* what, double option, Stddev stddev) {
  check_positive(name, what, option);
  return [=](const Tensor& parameter, NoiseKey key) {
    normal(0, stddev(parameter.shape(), option))(parameter, key);
  };
}
template <class Stddev>
Initializer uniform_of(const char* name, const char* what, double option, Stddev stddev) {
  check_positive(name, what, option);
  return [=](const Tensor& parameter, NoiseKey key) {
    const double bound = std::sqrt(3.0) * stddev(parameter.shape(), option);
    uniform(-bound, bound)(parameter, key);
  };
}

}  // namespace

Initializer constant(double value) {
  return filler([value](auto* data, int64_t n, NoiseKey) { std::fill_n(data, n, value); });
}
Initializer zeros() { return constant(0); }
Initializer ones() { return constant(1); }

Initializer uniform(double low, double high) {
  return filler([=](auto* data, int64_t n, NoiseKey key) { fill_uniform(key, low, high, data, n); });
}
Initializer normal(double mean, double stddev) {
  return filler([=](auto* data, int64_t n, NoiseKey key) { fill_normal(key, mean, stddev, data, n); });
}

Initializer trunc_normal(double stddev, double cut) {
  check_positive("trunc_normal", "stddev", stddev);
  check<ConfigError>(std::isfinite(cut) && cut >= 0.5, "trunc_normal: cut is {}, expected at least 0.5", cut);
  return filler([=]<class T>(T* data, int64_t n, NoiseKey key) {
    parallel_for(n, 4096, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        // Try t of element i draws its own pair, as sample t: nothing depends on the tries of another
        // element.
        double z = cut + 1;
        for (uint64_t t = 0; std::abs(z) > cut; ++t) {
          const auto at = 2 * static_cast<uint64_t>(i);
          const double u = tandem::uniform(key, t, at), v = tandem::uniform(key, t, at + 1);
          z = std::sqrt(-2 * std::log1p(-u)) * std::cos(2 * std::numbers::pi * v);
        }
        data[i] = static_cast<T>(stddev * z);
      }
    });
  });
}

Initializer xavier_uniform(double gain) { return uniform_of("xavier_uniform", "gain", gain, xavier_stddev); }
Initializer xavier_normal(double gain) { return normal_of("xavier_normal", "gain", gain, xavier_stddev); }
Initializer kaiming_uniform(double a) { return uniform_of("kaiming_uniform", "a", a, kaiming_stddev); }
Initializer kaiming_normal(double a) { return normal_of("kaiming_normal", "a", a, kaiming_stddev); }

Fans fans(const Shape& weight) {
  check<ShapeError>(weight.size() >= 2, "fans: expected a weight [out, in, ...], got {}", to_string(weight));
  int64_t kernel = 1;
  for (int i = 2; i < weight.size(); ++i) kernel *= weight[i];
  return {weight[1] * kernel, weight[0] * kernel};
}

}  // namespace init
}  // namespace tandem::nn
