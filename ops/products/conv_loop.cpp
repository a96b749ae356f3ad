#include "ops/products/conv_loop.h"

#include <algorithm>
#include <vector>

#include "autograd/parallel.h"
#include "ops/loops/row_reduce.h"
#include "ops/loops/scratch.h"
#include "ops/products/gemm_loop.h"

namespace tandem::detail {
namespace {

// Sizes of one group of one image: columns [depth, pixels], weight [outputs, depth], y [outputs, pixels].
struct GroupSizes {
  int64_t inputs, outputs, depth, pixels;
  explicit GroupSizes(const ConvShape& s)
      : inputs(s.c / s.groups),
        outputs(s.o / s.groups),
        depth(inputs * s.kh * s.kw),
        pixels(s.out_h() * s.out_w()) {}
};

int64_t grain_for(int64_t item_cost) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(item_cost, 1)); }

// columns[(channel, i, j), (row, col)] = image[channel, row*stride - pad + i*dilation, ...], 0 outside.
template <class T> void im2col(const ConvShape& s, const T* image, T* columns) {
  const GroupSizes g(s);
  const int64_t out_h = s.out_h(), out_w = s.out_w();
  parallel_for(g.depth, grain_for(g.pixels), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t j = r % s.kw, i = r / s.kw % s.kh;
      const T* plane = image + r / (s.kw * s.kh) * s.h * s.w;
      T* out = columns + r * g.pixels;
      for (int64_t row = 0; row < out_h; ++row) {
        const int64_t y = row * s.stride_h - s.pad_h + i * s.dilation_h;
        for (int64_t col = 0; col < out_w; ++col) {
          const int64_t x = col * s.stride_w - s.pad_w + j * s.dilation_w;
          *out++ = y >= 0 && y < s.h && x >= 0 && x < s.w ? plane[y * s.w + x] : T(0);
        }
      }
    }
  });
}

// The transpose of im2col: image = the sum of the columns over every place a pixel was copied to.
template <class T> void col2im(const ConvShape& s, const T* columns, T* image) {
  const GroupSizes g(s);
  const int64_t out_h = s.out_h(), out_w = s.out_w();
  parallel_for(g.inputs, grain_for(s.kh * s.kw * g.pixels), [&](int64_t begin, int64_t end) {
    std::fill(image + begin * s.h * s.w, image + end * s.h * s.w, T(0));
    for (int64_t channel = begin; channel < end; ++channel) {
      T* plane = image + channel * s.h * s.w;
      const T* in = columns + channel * s.kh * s.kw * g.pixels;
      for (int64_t i = 0; i < s.kh; ++i)
        for (int64_t j = 0; j < s.kw; ++j)
          for (int64_t row = 0; row < out_h; ++row) {
            const int64_t y = row * s.stride_h - s.pad_h + i * s.dilation_h;
            for (int64_t col = 0; col < out_w; ++col, ++in) {
              const int64_t x = col * s.stride_w - s.pad_w + j * s.dilation_w;
              if (y >= 0 && y < s.h && x >= 0 && x < s.w) plane[y * s.w + x] += *in;
            }
          }
    }
  });
}

}  // namespace

template <class T>
void conv_loop_forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  const GroupSizes g(s);
  T* columns = scratch_of<T>(Slot::columns, g.depth * g.pixels);
  for (int64_t image = 0; image < s.n; ++image)
    for (int64_t group = 0; group < s.groups; ++group) {
      T* out = y + (image * s.o + group * g.outputs) * g.pixels;
      im2col(s, x + (image * s.c + group * g.inputs) * s.h * s.w, columns);
      for (int64_t o = 0; o < g.outputs; ++o)
        std::fill(out + o * g.pixels, out + (o + 1) * g.pixels, bias ? bias[group * g.outputs + o] : T(0));
      gemm_loop<T>(1, g.outputs, g.pixels, g.depth, weight + group * g.outputs * g.depth, {g.depth, 1, 0},
                   columns, {g.pixels, 1, 0}, out, {g.pixels, 1, 0}, nullptr, Activation::none, true);
    }
}

template <class T> void conv_loop_backward_data(const ConvShape& s, const T* dy, const T* weight, T* dx) {
  const GroupSizes g(s);
  T* columns = scratch_of<T>(Slot::columns, g.depth * g.pixels);
  for (int64_t image = 0; image < s.n; ++image)
    for (int64_t group = 0; group < s.groups; ++group) {
      gemm_loop<T>(1, g.depth, g.pixels, g.outputs, weight + group * g.outputs * g.depth, {1, g.depth, 0},
                   dy + (image * s.o + group * g.outputs) * g.pixels, {g.pixels, 1, 0}, columns,
                   {g.pixels, 1, 0}, nullptr, Activation::none, false);
      col2im(s, columns, dx + (image * s.c + group * g.inputs) * s.h * s.w);
    }
}

template <class T>
void conv_loop_backward_weights(const ConvShape& s, const T* x, const T* dy, T* dweight, T* dbias) {
  const GroupSizes g(s);
  T* columns = scratch_of<T>(Slot::columns, g.depth * g.pixels);
  std::fill(dweight, dweight + s.o * g.depth, T(0));
  std::vector<double> bias_sums(dbias ? s.o : 0);
  for (int64_t image = 0; image < s.n; ++image)
    for (int64_t group = 0; group < s.groups; ++group) {
      const T* out = dy + (image * s.o + group * g.outputs) * g.pixels;
      im2col(s, x + (image * s.c + group * g.inputs) * s.h * s.w, columns);
      gemm_loop<T>(1, g.outputs, g.depth, g.pixels, out, {g.pixels, 1, 0}, columns, {1, g.pixels, 0},
                   dweight + group * g.outputs * g.depth, {g.depth, 1, 0}, nullptr, Activation::none, true);
      if (!dbias) continue;
      for (int64_t o = 0; o < g.outputs; ++o) {
        bias_sums[group * g.outputs + o] += row_sum(out + o * g.pixels, g.pixels);
      }
    }
  std::copy(bias_sums.begin(), bias_sums.end(), dbias);
}

template void conv_loop_forward<float>(const ConvShape&, const float*, const float*, const float*, float*);
template void conv_loop_forward<double>(const ConvShape&, const double*, const double*, const double*,
                                        double*);
template void conv_loop_backward_data<float>(const ConvShape&, const float*, const float*, float*);
template void conv_loop_backward_data<double>(const ConvShape&, const double*, const double*, double*);
template void conv_loop_backward_weights<float>(const ConvShape&, const float*, const float*, float*, float*);
template void conv_loop_backward_weights<double>(const ConvShape&, const double*, const double*, double*,
                                                 double*);

}  // namespace tandem::detail
