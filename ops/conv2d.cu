// Convolutions by cuDNN; where it has nothing, by kernels that follow the formula, one thread an output (a
// block for an element of the weights' gradient, which is a sum over all outputs).
#include "autograd/dispatch.h"
#include "cuda/divisor.cuh"
#include "cuda/dnn.h"
#include "cuda/pointwise.cuh"
#include "cuda/reduce.cuh"
#include "ops/conv2d_kernel.h"

namespace tandem {
namespace {

using namespace detail;
using cuda::Divisor;
using cuda::kThreads;

// Quotients that the kernels need to find their way.
struct ConvWalk {
  Divisor rows = {}, columns = {}, channels = {};  // of the map that is written, or summed over
  Divisor inputs = {}, outputs = {};               // of a group
  Divisor stride_h = {}, stride_w = {}, kernel_h = {}, kernel_w = {};
};

template <class T, class Body>
__device__ void each_output(int64_t count, const ConvWalk& walk, T* out, Body body) {
  cuda::grid_stride_loop(count, [&](int64_t i) {
    int64_t n = i;
    const int64_t column = walk.columns.divide(n), row = walk.rows.divide(n),
                  channel = walk.channels.divide(n);
    out[i] = body(n, channel, row, column);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_kernel(ConvShape s, ConvWalk walk, const T* x, const T* weight, const T* bias, T* y) {
  using A = accumulate_t<T>;
  const int64_t inputs = s.c > 0 ? walk.inputs.size : 0;
  each_output(s.n * s.o * s.out_h() * s.out_w(), walk, y, [&](int64_t n, int64_t o, int64_t p, int64_t q) {
    A sum = bias ? static_cast<A>(bias[o]) : A(0);
    const T* w = weight + o * inputs * s.kh * s.kw;
    int64_t group = o;
    walk.outputs.divide(group);
    const T* maps = x + (n * s.c + group * inputs) * s.h * s.w;
    for (int64_t c = 0; c < inputs; ++c) {
      for (int64_t i = 0; i < s.kh; ++i) {
        const int64_t row = p * s.stride_h - s.pad_h + i * s.dilation_h;
        for (int64_t j = 0; j < s.kw; ++j, ++w) {
          const int64_t column = q * s.stride_w - s.pad_w + j * s.dilation_w;
          if (row >= 0 && row < s.h && column >= 0 && column < s.w)
            sum += static_cast<A>(maps[(c * s.h + row) * s.w + column]) * static_cast<A>(*w);
        }
      }
    }
    return sum;
  });
}

// Element (row, column) of x goes into output (p, q) by the weight (i, j) where p stride = row + pad - i
// dilation, and likewise for columns.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    conv_data_kernel(ConvShape s, ConvWalk walk, const T* dy, const T* weight, T* dx) {
  using A = accumulate_t<T>;
  const int64_t inputs = walk.inputs.size, outputs = s.o > 0 ? walk.outputs.size : 0, out_h = s.out_h(),
                out_w = s.out_w();
  each_output(s.n * s.c * s.h * s.w, walk, dx, [&](int64_t n, int64_t c, int64_t row, int64_t column) {
    A sum = 0;
    int64_t group = c;
    const int64_t input = walk.inputs.divide(group), first = group * outputs;
    for (int64_t i = 0; i < s.kh; ++i) {
      int64_t p = row + s.pad_h - i * s.dilation_h;
      if (p < 0 || walk.stride_h.divide(p) != 0 || p >= out_h) continue;
      for (int64_t j = 0; j < s.kw; ++j) {
        int64_t q = column + s.pad_w - j * s.dilation_w;
        if (q < 0 || walk.stride_w.divide(q) != 0 || q >= out_w) continue;
        for (int64_t o = first; o < first + outputs; ++o) {
          sum += static_cast<A>(dy[((n * s.o + o) * out_h + p) * out_w + q]) *
                 static_cast<A>(weight[((o * inputs + input) * s.kh + i) * s.kw + j]);
        }
      }
    }
    return sum;
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    conv_weights_kernel(ConvShape s, ConvWalk walk, const T* x, const T* dy, T* dweight) {
  const int64_t inputs = walk.inputs.size, out_h = walk.rows.size, out_w = walk.columns.size;
  const int64_t weights = s.o * inputs * s.kh * s.kw;
  for (int64_t at = blockIdx.x; at < weights; at += gridDim.x) {
    int64_t o = at;
    const int64_t j = walk.kernel_w.divide(o), i = walk.kernel_h.divide(o), c = walk.inputs.divide(o);
    int64_t group = o;
    walk.outputs.divide(group);
    T sum = 0;
    for (int64_t k = threadIdx.x; k < s.n * out_h * out_w; k += kThreads) {
      int64_t n = k;
      const int64_t q = walk.columns.divide(n), p = walk.rows.divide(n);
      const int64_t row = p * s.stride_h - s.pad_h + i * s.dilation_h,
                    column = q * s.stride_w - s.pad_w + j * s.dilation_w;
      if (row >= 0 && row < s.h && column >= 0 && column < s.w)
        sum += x[((n * s.c + group * inputs + c) * s.h + row) * s.w + column] *
               dy[((n * s.o + o) * out_h + p) * out_w + q];
    }
    sum = cuda::block_sum(sum);
    if (threadIdx.x == 0) dweight[at] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    add_bias_kernel(int64_t count, Divisor positions, Divisor channels, const T* bias, T* y) {
  cuda::grid_stride_loop(count, [&](int64_t i) {
    int64_t rest = i;
    positions.divide(rest);
    const int64_t channel = channels.divide(rest);
    y[i] = static_cast<compute_t<T>>(y[i]) + static_cast<compute_t<T>>(bias[channel]);
  });
}

// A group without channels is never divided by.
ConvWalk walk_over_outputs(const ConvShape& s) {
  const auto by = [](int64_t size) { return Divisor(size > 0 ? size : 1); };
  return {.rows = by(s.out_h()),
          .columns = by(s.out_w()),
          .channels = by(s.o),
          .inputs = by(s.c / s.groups),
          .outputs = by(s.o / s.groups),
          .stride_h = by(s.stride_h),
          .stride_w = by(s.stride_w),
          .kernel_h = by(s.kh),
          .kernel_w = by(s.kw)};
}

template <class T> void launch_conv(const Conv2dArgs& args) {
  const ConvShape& s = args.shape;
  const int64_t count = s.n * s.o * s.out_h() * s.out_w();
  const T *x = static_cast<const T*>(args.x), *weight = static_cast<const T*>(args.weight),
          *bias = static_cast<const T*>(args.bias);
  T* y = static_cast<T*>(args.y);
  if (count == 0) return;
  if (s.c > 0) {
    if (cuda::dnn_conv_forward(s, args.dtype, x, weight, bias, y)) return;
    if (bias && cuda::dnn_conv_forward(s, args.dtype, x, weight, nullptr, y)) {
      return cuda::launch<add_bias_kernel<T>>("conv2d: bias", cuda::threads_for(count), count,
                                              Divisor(s.out_h() * s.out_w()), Divisor(s.o), bias, y);
    }
  }
  cuda::launch<conv_kernel<T>>("conv2d", cuda::threads_for(count), s, walk_over_outputs(s), x, weight, bias,
                               y);
}

template <class T> void launch_conv_data(const Conv2dDataArgs& args) {
  const ConvShape& s = args.shape;
  const int64_t count = s.n * s.c * s.h * s.w;
  const T *dy = static_cast<const T*>(args.dy), *weight = static_cast<const T*>(args.weight);
  T* dx = static_cast<T*>(args.dx);
  if (count == 0) return;
  if (s.o > 0 && cuda::dnn_conv_data(s, args.dtype, dy, weight, dx)) return;
  ConvWalk walk = walk_over_outputs(s);
  walk.rows = Divisor(s.h), walk.columns = Divisor(s.w), walk.channels = Divisor(s.c);
  cuda::launch<conv_data_kernel<T>>("conv2d: data gradient", cuda::threads_for(count), s, walk, dy, weight,
                                    dx);
}

template <class T> void launch_conv_weights(const Conv2dWeightsArgs& args) {
  const ConvShape& s = args.shape;
  const int64_t count = s.o * (s.c / s.groups) * s.kh * s.kw;
  const T *x = static_cast<const T*>(args.x), *dy = static_cast<const T*>(args.dy);
  T* dweight = static_cast<T*>(args.dweight);
  if (count == 0) return;
  if (s.n > 0 && cuda::dnn_conv_weights(s, args.dtype, x, dy, dweight, args.exact)) return;
  cuda::launch<conv_weights_kernel<T>>("conv2d: weight gradient", cuda::blocks_for(count), s,
                                       walk_over_outputs(s), x, dy, dweight);
}

void conv(const Conv2dArgs& args) {
  dispatch_floating("conv2d", args.dtype, [&]<class T>() { launch_conv<T>(args); });
}
void conv_data(const Conv2dDataArgs& args) {
  dispatch_floating("conv2d", args.dtype, [&]<class T>() { launch_conv_data<T>(args); });
}
void conv_weights(const Conv2dWeightsArgs& args) {
  args.dtype == DType::f64 ? launch_conv_weights<double>(args) : launch_conv_weights<float>(args);
}

const RegisterKernels registered{[] {
  register_kernel(conv);
  register_kernel(conv_data);
  register_kernel(conv_weights);
}};

}  // namespace
}  // namespace tandem
