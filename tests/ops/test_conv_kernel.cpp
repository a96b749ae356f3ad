#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "autograd/dispatch.h"
#include "autograd/parallel.h"
#include "ops/products/conv_kernel.h"

using namespace tandem;
using namespace tandem::detail;

namespace {

// Numbers as doubles (already rounded to `dtype`) and as the bytes a kernel reads.
struct Array {
  DType dtype;
  std::vector<double> value;
  std::vector<std::byte> memory;

  Array(DType type, int64_t count)
      : dtype(type),
        value(static_cast<size_t>(count)),
        memory(static_cast<size_t>(count * size_of(type)) + 64, std::byte{0x7b}) {}
  Array(std::mt19937& random, DType type, int64_t count) : Array(type, count) {
    std::normal_distribution<double> normal;
    dispatch_floating("test", type, [&]<class T>() {
      for (size_t i = 0; i < value.size(); ++i) {
        const T x = static_cast<T>(static_cast<compute_t<T>>(normal(random)));
        std::memcpy(memory.data() + i * sizeof(T), &x, sizeof(T));
        value[i] = static_cast<double>(x);
      }
    });
  }
  double read(size_t i) const {
    return dispatch_floating("test", dtype, [&]<class T>() {
      T x;
      std::memcpy(&x, memory.data() + i * sizeof(T), sizeof(T));
      return static_cast<double>(x);
    });
  }
};

// Calls f(x index, weight index, y index, output channel) for every product of the convolution.
template <class F> void for_each_product(const ConvShape& s, F&& f) {
  const int64_t in = s.c / s.groups, out = s.o / s.groups;
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t o = 0; o < s.o; ++o)
      for (int64_t row = 0; row < s.out_h(); ++row)
        for (int64_t col = 0; col < s.out_w(); ++col)
          for (int64_t c = 0; c < in; ++c)
            for (int64_t i = 0; i < s.kh; ++i)
              for (int64_t j = 0; j < s.kw; ++j) {
                const int64_t y = row * s.stride_h - s.pad_h + i * s.dilation_h;
                const int64_t x = col * s.stride_w - s.pad_w + j * s.dilation_w;
                if (y < 0 || y >= s.h || x < 0 || x >= s.w) continue;
                f(static_cast<size_t>(((n * s.c + o / out * in + c) * s.h + y) * s.w + x),
                  static_cast<size_t>(((o * in + c) * s.kh + i) * s.kw + j),
                  static_cast<size_t>(((n * s.o + o) * s.out_h() + row) * s.out_w() + col));
              }
}

// The largest error over what rounding of sums of the given absolute size allows.
double worst_error(const Array& got, const std::vector<double>& expected, const std::vector<double>& size) {
  const double unit = got.dtype == DType::f64 ? 1e-15 : 5e-7;
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double allowed = unit * (size[i] + std::abs(expected[i]) + 1) +
                           (got.dtype == DType::bf16 ? std::abs(expected[i]) / 128 : 0.0);
    const double error = std::abs(got.read(i) - expected[i]) / allowed;
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

void check_conv(std::mt19937& random, DType dtype, const ConvShape& s, bool with_bias) {
  CAPTURE(name_of(dtype));
  CAPTURE(s.n);
  CAPTURE(s.c);
  CAPTURE(s.h);
  CAPTURE(s.w);
  CAPTURE(s.o);
  CAPTURE(s.kh);
  CAPTURE(s.kw);
  CAPTURE(s.stride_h);
  CAPTURE(s.pad_w);
  CAPTURE(s.dilation_h);
  CAPTURE(s.groups);
  CAPTURE(with_bias);
  const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  const int64_t x_count = s.n * s.c * s.h * s.w, weights = s.o * (s.c / s.groups) * s.kh * s.kw;
  const int64_t pixels = s.out_h() * s.out_w(), y_count = s.n * s.o * pixels;
  const Array x(random, dtype, x_count), weight(random, dtype, weights), bias(random, wide, s.o);
  const Array dy(random, dtype, y_count);
  Array y(dtype, y_count), dx(dtype, x_count), dweight(wide, weights), dbias(wide, s.o);
  using Sums = std::vector<double>;
  Sums ys(y.value.size()), y_size(ys.size()), dxs(dx.value.size()), dx_size(dxs.size());
  Sums dws(dweight.value.size()), dw_size(dws.size()), dbs(dbias.value.size()), db_size(dbs.size());
  for (int64_t i = 0; i < y_count; ++i) {
    const auto o = static_cast<size_t>(i / pixels % s.o), at = static_cast<size_t>(i);
    if (with_bias) ys[at] = bias.value[o];
    dbs[o] += dy.value[at];
    db_size[o] += std::abs(dy.value[at]);
  }
  for_each_product(s, [&](size_t xi, size_t wi, size_t yi) {
    const double forward = x.value[xi] * weight.value[wi], data = dy.value[yi] * weight.value[wi];
    const double weight_part = dy.value[yi] * x.value[xi];
    ys[yi] += forward, y_size[yi] += std::abs(forward);
    dxs[xi] += data, dx_size[xi] += std::abs(data);
    dws[wi] += weight_part, dw_size[wi] += std::abs(weight_part);
  });
  conv2d_forward(s, dtype, x.memory.data(), weight.memory.data(), with_bias ? bias.memory.data() : nullptr,
                 y.memory.data());
  conv2d_backward_data(s, dtype, dy.memory.data(), weight.memory.data(), dx.memory.data());
  conv2d_backward_weights(s, dtype, x.memory.data(), dy.memory.data(), dweight.memory.data(),
                          with_bias ? dbias.memory.data() : nullptr);
  CHECK(worst_error(y, ys, y_size) <= 1.0);
  CHECK(worst_error(dx, dxs, dx_size) <= 1.0);
  CHECK(worst_error(dweight, dws, dw_size) <= 1.0);
  if (with_bias) CHECK(worst_error(dbias, dbs, db_size) <= 1.0);
  for (const Array* out : {&y, &dx, &dweight, &dbias})
    CHECK(out->memory.back() == std::byte{0x7b});  // nothing written past the end
}

}  // namespace

TEST_CASE("conv_kernel: stride, padding, dilation and groups in every combination") {
  std::mt19937 random(1);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const int64_t kernel : {1, 2, 3})
      for (const int64_t stride : {1, 2, 3})
        for (const int64_t pad : {0, 1, 2})
          for (const int64_t dilation : {1, 2})
            for (const int64_t groups : {1, 2, 4})
              check_conv(
                  random, dtype,
                  {2, 4, 7, 8, 8, kernel, kernel, stride, stride, pad, pad, dilation, dilation, groups},
                  (stride + pad) % 2 == 0);
}

TEST_CASE("conv_kernel: sizes that differ by axis, patches, depthwise, many channels") {
  std::mt19937 random(2);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
    for (const bool bias : {false, true}) {
      check_conv(random, dtype, {3, 6, 9, 5, 9, 3, 2, 2, 1, 1, 0, 1, 3, 3}, bias);
      check_conv(random, dtype, {2, 1, 28, 28, 24, 7, 7, 7, 7}, bias);  // a ViT's patches
      check_conv(random, dtype, {2, 3, 10, 10, 5, 3, 3, 4, 4}, bias);   // a rest is left unread
      check_conv(random, dtype, {2, 32, 9, 9, 32, 3, 3, 1, 1, 1, 1, 1, 1, 32}, bias);  // depthwise
      check_conv(random, dtype, {2, 32, 12, 12, 48, 3, 3, 1, 1, 1, 1}, bias);          // blocked layouts
      check_conv(random, dtype, {1, 5, 1, 1, 3, 1, 1}, bias);
      check_conv(random, dtype, {2, 3, 2, 2, 4, 3, 3, 1, 1, 3, 3}, bias);  // padding beyond the kernel
      check_conv(random, dtype, {0, 4, 5, 5, 6, 3, 3}, bias);              // no images: zero gradients
      check_conv(random, dtype, {2, 0, 5, 5, 6, 3, 3}, bias);              // no channels: the bias alone
    }
}

TEST_CASE("conv_kernel: f64 gives the same bits for any number of threads") {
  const ConvShape s{2, 16, 20, 20, 24, 3, 3, 1, 1, 1, 1};
  const int outer = num_threads();
  std::vector<std::vector<std::byte>> results;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    std::mt19937 random(3);
    const Array x(random, DType::f64, 2 * 16 * 400), weight(random, DType::f64, 24 * 16 * 9);
    const Array dy(random, DType::f64, 2 * 24 * 400);
    Array y(DType::f64, 2 * 24 * 400), dx(DType::f64, 2 * 16 * 400), dweight(DType::f64, 24 * 16 * 9);
    conv2d_forward(s, DType::f64, x.memory.data(), weight.memory.data(), nullptr, y.memory.data());
    conv2d_backward_data(s, DType::f64, dy.memory.data(), weight.memory.data(), dx.memory.data());
    conv2d_backward_weights(s, DType::f64, x.memory.data(), dy.memory.data(), dweight.memory.data(), nullptr);
    std::vector<std::byte> all = y.memory;
    all.insert(all.end(), dx.memory.begin(), dx.memory.end());
    all.insert(all.end(), dweight.memory.begin(), dweight.memory.end());
    results.push_back(std::move(all));
  }
  set_num_threads(outer);
  for (const auto& result : results) CHECK(result == results.front());
}

TEST_CASE("conv_kernel: errors name the values") {
  float x[64] = {};
  CHECK_THROWS_WITH_AS(
      conv2d_forward({1, 3, 4, 4, 4, 3, 3, 1, 1, 0, 0, 1, 1, 2}, DType::f32, x, x, nullptr, x),
      "conv2d: channels are not divisible by groups: x [1,3,4,4], weight [4,1,3,3], stride (1,1), "
      "padding (0,0), dilation (1,1), groups 2",
      ShapeError);
  CHECK_THROWS_AS(conv2d_forward({1, 1, 2, 2, 1, 3, 3}, DType::f32, x, x, nullptr, x), ShapeError);
  CHECK_THROWS_AS(conv2d_forward({1, 1, 4, 4, 1, 3, 3, 0, 1}, DType::f32, x, x, nullptr, x), ShapeError);
  CHECK_THROWS_AS(conv2d_forward({1, 1, 4, 4, 1, 3, 3}, DType::i32, x, x, nullptr, x), DTypeError);
}
