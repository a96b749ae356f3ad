// Arguments of the softmax kernels, which work on dense rows; compiled by host and device.
#pragma once

#include <cstdint>

namespace tandem::detail {

// F says what a row of `out` is:
struct SoftmaxOfRow {};         // softmax(in[0])
struct SoftmaxGradOfRow {};     // y (g - g.y) of g = in[0], y = in[1]
struct LogSoftmaxOfRow {};      // log_softmax(in[0])
struct LogSoftmaxGradOfRow {};  // g - e^y sum(g) of g = in[0], y = in[1]
struct LogSumExpOfRow {};       // one number: log(sum(e^in[0]))

template <class F, class T> struct SoftmaxRows {
  int64_t rows, n;
  T* out;
  const T* in[2];
};

}  // namespace tandem::detail
