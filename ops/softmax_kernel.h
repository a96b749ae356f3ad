// The softmaxes' work on dense rows, as a device's kernel is told of it.
#pragma once

#include <cstdint>

namespace tandem::detail {

// F tells what is made of the rows:
struct SoftmaxOfRow {};     // softmax(in[0])
struct SoftmaxSlope {};     // y (g - g.y) of g = in[0], y = in[1]
struct LogSoftmaxOfRow {};  // log_softmax(in[0])
struct LogSoftmaxSlope {};  // g - e^y sum(g) of g = in[0], y = in[1]
struct LogSumExpOfRow {};   // one number for each row: log(sum(e^in[0]))

template <class F, class T>
struct SoftmaxRows {
  int64_t rows, n;
  T* out;
  const T* in[2];
};

}  // namespace tandem::detail
