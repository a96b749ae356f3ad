// The functors f(x), g f'(x) and g f''(x) of a pointwise function F: named types, so that host and device
// instantiate the same kernels.
#pragma once

namespace tandem::detail {

template <class F, class C> struct ValueOf {
  F f;
  constexpr C operator()(C x) const { return static_cast<C>(f.value(x)); }
};
template <class F, class C> struct TimesDerivative {
  F f;
  constexpr C operator()(C g, C x) const { return static_cast<C>(g * f.derivative(x)); }
};
template <class F, class C> struct TimesSecond {
  F f;
  constexpr C operator()(C g, C x) const { return static_cast<C>(g * f.second(x)); }
};

}  // namespace tandem::detail
