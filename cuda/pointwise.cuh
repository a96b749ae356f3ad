// The kernels of pointwise functions F (ops/loops/pointwise_op.h), of all three orders.
#pragma once

#include "cuda/map.cuh"
#include "ops/loops/pointwise_parts.h"

namespace tandem::cuda {

template <class... F> void register_pointwise() {
  const auto one = []<class G>() {
    for_floats([]<class T>() {
      using C = compute_t<T>;
      register_map<detail::ValueOf<G, C>, T, T>();
      register_map<detail::TimesDerivative<G, C>, T, T, T>();
      register_map<detail::TimesSecond<G, C>, T, T, T>();
    });
  };
  (one.template operator()<F>(), ...);
}

}  // namespace tandem::cuda
