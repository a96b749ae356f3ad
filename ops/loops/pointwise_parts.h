// The functors f(x), g f'(x) and g f''(x) of a pointwise function F: named types, so that host and device
// instantiate the same kernels.
#pragma once

namespace tandem::detail {

template <class F, class C> struct ValueOf {
  F f;
  constexpr C operator()(C x) const { return static_cast<C>(f.value(x)); }
};
// A derivative of 0 or 1 (kGate) lets through or does not: where it does not, infinity is stopped, too.
template <class F> inline constexpr bool is_gate = requires { F::kGate; };

template <class F, class C> constexpr C times_derivative(const F& f, C g, C x) {
  if constexpr (is_gate<F>) return f.derivative(x) == 0 ? C(0) : g;
  return static_cast<C>(g * f.derivative(x));
}
template <class F, class C> struct TimesDerivative {
  F f;
  constexpr C operator()(C g, C x) const { return times_derivative(f, g, x); }
};
template <class F, class C> struct TimesSecond {
  F f;
  constexpr C operator()(C g, C x) const { return is_gate<F> ? C(0) : static_cast<C>(g * f.second(x)); }
};

}  // namespace tandem::detail
