// Arguments of the dropout and drop_path kernels, compiled by host and device: x is read once, and a copy is
// written for each of a few passes.
#pragma once

#include <algorithm>

#include "autograd/dtype.h"
#include "ops/loops/device_noise.h"

namespace tandem::detail {

template <class T> struct DropRows {
  const T* x;
  T* y;
  int64_t x_pass, y_pass;  // from one pass to the next; x_pass is 0 where x is the same in all of them
  int64_t samples, row;    // of so many elements
};

inline constexpr int kPassesAtOnce = 8;

template <class T> struct DropoutPasses : DropRows<T> {  // keeps or drops every element
  DeviceNoise noise;                                     // of the first of these passes
  int passes;                                            // at most kPassesAtOnce
  uint32_t threshold[kPassesAtOnce];
  compute_t<T> scale[kPassesAtOnce];
};

template <class T> struct DropPathPasses : DropoutPasses<T> {};  // keeps or drops every sample

// Calls run(args) for all passes of tandem::Noise, a few at a time.
template <class Args, class T, class Noise, class Run>
void for_passes(const Noise& noise, const DropRows<T>& rows, Run run) {
  for (int first = 0; first < noise.passes(); first += kPassesAtOnce) {
    Args args;
    static_cast<DropRows<T>&>(args) = rows;
    args.x += first * rows.x_pass, args.y += first * rows.y_pass;
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
