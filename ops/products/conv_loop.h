// Convolution by im2col and our own matrix product: f64, and f32 where oneDNN has nothing optimised.
// The same bits for any number of threads.
#pragma once

#include "ops/products/conv_kernel.h"

namespace tandem::detail {

template <class T>
void conv_loop_forward(const ConvShape& shape, const T* x, const T* weight, const T* bias, T* y);
template <class T> void conv_loop_backward_data(const ConvShape& shape, const T* dy, const T* weight, T* dx);
template <class T>
void conv_loop_backward_weights(const ConvShape& shape, const T* x, const T* dy, T* dweight, T* dbias);

}  // namespace tandem::detail
