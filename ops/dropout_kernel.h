// Dropout and drop_path as a device's kernels are told of them: x is read once and a copy is written for each
// of a few passes.
#pragma once

#include <algorithm>

#include "autograd/dtype.h"
#include "ops/loops/device_noise.h"

namespace tandem::detail {

inline constexpr int kPassesAtOnce = 8;

template <class T>
struct DropoutPasses {  // keeps or drops every element
  DeviceNoise noise;    // of the first of these passes
  int passes;           // at most kPassesAtOnce
  uint32_t threshold[kPassesAtOnce];
  compute_t<T> scale[kPassesAtOnce];
  const T* x;
  T* y;
  int64_t x_pass, y_pass;  // from one pass to the next; x_pass is 0 where x is the same in all of them
  int64_t samples, row;    // of so many elements
};

template <class T>
struct DropPathPasses : DropoutPasses<T> {};  // keeps or drops every sample

// Calls run(args) for all passes, a few at a time. Noise is tandem::Noise.
template <class Args, class T, class Noise, class Run>
void for_passes(const Noise& noise, const T* x, T* y, int64_t x_pass, int64_t y_pass, int64_t samples,
                int64_t row, Run run) {
  for (int first = 0; first < noise.passes(); first += kPassesAtOnce) {
    Args args;
    args.noise = device_noise(noise, samples);
    args.noise.first_pass += static_cast<uint32_t>(first);
    args.passes = std::min(kPassesAtOnce, noise.passes() - first);
    for (int i = 0; i < args.passes; ++i) {
      args.threshold[i] = drop_threshold(noise.rates[first + i]);
      args.scale[i] = static_cast<compute_t<T>>(1 / (1 - noise.rates[first + i]));
    }
    args.x = x + first * x_pass, args.y = y + first * y_pass;
    args.x_pass = x_pass, args.y_pass = y_pass;
    args.samples = samples, args.row = row;
    run(args);
  }
}

}  // namespace tandem::detail
