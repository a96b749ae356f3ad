// Tensors of random numbers, as pure functions of a seed (autograd/noise.h): the same bits on every device
// and for every number of threads. A seed is given, or follows from a scope:
//
//   Tensor a = rand({2, 3}, {.seed = 1});
//   const SeedScope seeds(42);
//   Tensor b = randn({2, 3}), c = randn({2, 3});  // the calls of a scope are numbered: b is not c
//
// What a model draws in its passes (dropout) has nothing to do with these: that is PassContext's.
#pragma once

#include <optional>

#include "autograd/tensor.h"

namespace tandem {

// While it lives, makers without a seed, on this thread, take the numbers 0, 1, 2, ... of its calls: the n-th
// call in a scope of a seed gives the same every time. An inner scope counts for itself.
class SeedScope {
 public:
  [[nodiscard("it acts while it lives: give it a name")]] explicit SeedScope(uint64_t seed);
  ~SeedScope();
  SeedScope(const SeedScope&) = delete;
  SeedScope& operator=(const SeedScope&) = delete;

 private:
  friend struct SeededCall;
  uint64_t seed_;
  uint32_t calls_ = 0;
  SeedScope* outer_;
};

// Of rand(), randn() and randint().
struct RandomOptions {
  std::optional<uint64_t> seed = {};  // a call of its own: what the first in a scope of this seed gives
  std::optional<DType> dtype = {};    // f32; of randint, i64
  Device device = kCpu;               // where the numbers are made: the same ones everywhere
  bool requires_grad = false;         // a leaf of the tape
};

// The same without a seed, in the order of TensorOptions: randn({2, 3}, {DType::f64, device}).
struct SeedlessOptions {
  SeedlessOptions(DType dtype, Device device = kCpu, bool requires_grad = false)
      : options{.dtype = dtype, .device = device, .requires_grad = requires_grad} {}
  RandomOptions options;  // with them
};

namespace detail {
Tensor randint(int64_t low, int64_t high, const Shape& shape, const RandomOptions& options);
}

// ConfigError where there is neither a seed nor a scope.
// Uniform in [0, 1), and normal with mean 0 and deviation 1. DTypeError for dtypes that are not floating.
Tensor rand(const Shape& shape, const RandomOptions& options = {});
Tensor randn(const Shape& shape, const RandomOptions& options = {});
inline Tensor rand(const Shape& shape, const SeedlessOptions& o) { return rand(shape, o.options); }
inline Tensor randn(const Shape& shape, const SeedlessOptions& o) { return randn(shape, o.options); }
// Whole numbers of [low, high), or [0, high), each as likely. ValueError unless low < high, DTypeError where
// the dtype does not have all of them.
template <WholeNumber A, WholeNumber B>
Tensor randint(A low, B high, const Shape& shape, const RandomOptions& options = {}) {
  return detail::randint(static_cast<int64_t>(low), static_cast<int64_t>(high), shape, options);
}
template <WholeNumber A> Tensor randint(A high, const Shape& shape, const RandomOptions& options = {}) {
  return detail::randint(0, static_cast<int64_t>(high), shape, options);
}
template <WholeNumber A, WholeNumber B>
Tensor randint(A low, B high, const Shape& shape, const SeedlessOptions& o) {
  return randint(low, high, shape, o.options);
}
template <WholeNumber A> Tensor randint(A high, const Shape& shape, const SeedlessOptions& o) {
  return randint(high, shape, o.options);
}

}  // namespace tandem
