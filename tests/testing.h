// What the suites share: where they run, messages of errors, random tensors, and how far tensors are apart.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

#include "autograd/error.h"
#include "autograd/tensor.h"
#include "tests/device.h"

namespace tandem::testing {

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline const std::string kNothingThrown = "nothing was thrown";

// The message of the E that call() throws, or kNothingThrown. An exception of another type ends the test
// case.
template <class E, class F> std::string message_of(F&& call) {
  static_assert(std::is_base_of_v<Error, E>);
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return kNothingThrown;
}

// CHECKs that call() throws an E whose message contains `part`.
template <class E, class F> void check_throws(const std::string& part, F&& call) {
  const std::string message = message_of<E>(call);
  CHECK_MESSAGE((message != kNothingThrown && contains(message, part)), message, "; expected: ", part);
}

inline std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

// A leaf of f64 in one dimension.
Tensor leaf(const std::vector<double>& values);

// Normal numbers, drawn in f64, on the CPU.
Tensor normal(const Shape& shape, uint64_t seed, DType dtype = DType::f32, int passes = 1);
// The same in the shape, passes, type and place of x: a cotangent.
Tensor cotangent_like(const Tensor& x, uint64_t seed);

// Equal types, shapes, passes and bits, NaNs included.
bool same_bits(const Tensor& a, const Tensor& b);

// ‖a − b‖ ≤ tolerance · max(‖b‖, floor), over all passes; the message says how far apart they are otherwise.
struct Closeness {
  bool close;
  std::string message;
};
Closeness close(const Tensor& a, const Tensor& b, double tolerance, double floor = 1e-3);

// The largest difference of two elements, relative to `scale` or, if that is more, to the largest magnitude
// in `expected`; infinite where one is NaN.
double difference(const Tensor& got, const Tensor& expected, double scale = 0);

}  // namespace tandem::testing
