// Arguments of the dropout and drop_path kernels, compiled by host and device: x is read once, and a copy is
// written for each of a few passes, in its dtype or in another one.
#pragma once

#include <algorithm>

#include "autograd/dtype.h"
#include "ops/loops/device_noise.h"

namespace tandem::detail {

template <class T, class O = T> struct DropRows {
  const T* x;
  O* y;
  const O* onto;                      // what is added to; null: nothing. Not of drop_path
  int64_t x_pass, y_pass, onto_pass;  // from one pass to the next; 0 where all of them read the same
  int64_t samples, row;               // of so many elements
};

inline constexpr int kPassesAtOnce = 8;

template <class T, class O = T> struct DropoutPasses : DropRows<T, O> {  // keeps or drops every element
  DeviceNoise noise;                                                     // of the first of these passes
  int passes;                                                            // at most kPassesAtOnce
  uint32_t threshold[kPassesAtOnce];
  compute_t<T> scale[kPassesAtOnce];
};

template <class T> struct DropPathPasses : DropoutPasses<T> {};  // keeps or drops every sample

// Calls run(args) for all passes of tandem::Noise, a few at a time.
template <class Args, class T, class O, class Noise, class Run>
void for_passes(const Noise& noise, const DropRows<T, O>& rows, Run run) {
  for (int first = 0; first < noise.passes(); first += kPassesAtOnce) {
    Args args;
    static_cast<DropRows<T, O>&>(args) = rows;
    args.x += first * rows.x_pass, args.y += first * rows.y_pass;
    if (rows.onto) args.onto += first * rows.onto_pass;
    args.noise = device_noise(noise, rows.samples);
    args.noise.first_pass += static_cast<uint32_t>(first);
    args.passes = std::min(kPassesAtOnce, noise.passes() - first);
    for (int i = 0; i < args.passes; ++i) {
      args.threshold[i] = drop_threshold(noise.rates[first + i]);
      args.scale[i] = static_cast<compute_t<T>>(kept_scale(noise.rates[first + i]));
    }
    run(args);
  }
}

}  // namespace tandem::detail
