// The scalar functions of copies and in-place writes.
#pragma once

#include "ops/loops/math.h"

namespace tandem::detail {

template <class O, class I> struct Cast {
  constexpr O operator()(I x) const { return static_cast<O>(x); }
};
template <class C> struct Constant {
  C value;
  constexpr C operator()() const { return value; }
};
template <class C> struct Plus {
  constexpr C operator()(C a, C b) const { return math::plus(a, b); }
};
template <class C> struct PlusScaled {
  C scale;
  constexpr C operator()(C a, C b) const { return math::plus(a, math::times(scale, b)); }
};
template <class C> struct Times {
  C factor;
  constexpr C operator()(C a) const { return math::times(a, factor); }
};

}  // namespace tandem::detail
