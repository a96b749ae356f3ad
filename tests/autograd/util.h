// What the core's tests share.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "autograd/error.h"
#include "autograd/tensor.h"

namespace tandem::testing {

// CHECKs that call() throws an E (and so an Error) whose message contains `message`.
template <class E, class F>
void check_throws(const std::string& message, F&& call) {
  try {
    call();
    FAIL_CHECK("nothing was thrown; expected: " << message);
  } catch (const E& error) {
    const Error& base = error;
    CHECK_MESSAGE(std::string(base.what()).find(message) != std::string::npos,
                  std::string(base.what()) << "; expected: " << message);
  } catch (const std::exception& error) {
    FAIL_CHECK("another type was thrown: " << error.what());
  }
}

inline std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

inline bool same_bits(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = values(a), y = values(b);
  return a.shape() == b.shape() && a.passes() == b.passes() && x.size() == y.size() &&
         (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(double)) == 0);
}

// f64 leaf.
inline Tensor leaf(const std::vector<double>& values) {
  return from_values(values, {static_cast<int64_t>(values.size())}).requires_grad_();
}

}  // namespace tandem::testing
