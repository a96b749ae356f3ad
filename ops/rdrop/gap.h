// The one formula of the R-Drop loss that rounding could spoil, for the loops of all devices.
#pragma once

#include <cmath>

namespace tandem::detail {

// p - q for t = log p - log q. Near equality p - q is lost to rounding, but p - q = (p + q) tanh(t / 2) is
// not, and has t's sign, so that every class adds a KL term >= 0.
template <class C>
constexpr C probability_gap(C p, C q, C t) {
  const C x = t * C(0.5), y = x * x;
  const C tanh = x * (1 - y * (C(1) / 3 - y * (C(2) / 15 - y * (C(17) / 315 - y * (C(62) / 2835)))));
  return std::abs(x) < C(1) / 16 ? (p + q) * tanh : p - q;
}

}  // namespace tandem::detail
