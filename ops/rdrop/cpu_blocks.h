// The inner loops of the R-Drop cross-entropy on the CPU, over blocks of classes; and the formulas, which the
// device's kernels (unit.cuh, gradient.cuh) share. Of pass i, at each class:
//   P_i = e_i * scale_i,  e_i = exp(z_i - max_i)
//   t_i = log P_i - log P_0 = (z_i - z_0) - offset_i,   d_i = t_i - mean_j t_j,   inner_i = <P_i, d_i>
//   mean_{i != j} KL(P_i || P_j) = sum_c sum_i (P_i - mean P) d_i / (m - 1)
//   its gradient at z_i = [ P_i (d_i - inner_i) + P_i - mean P ] / (m - 1)
// max_i is that of the block, so that one read of the logits gives both max_i and e_i; scale_i makes up for
// the blocks' different maxima. Everything is C = float or double.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ops/loops/math.h"
#include "ops/rdrop/kernel.h"

namespace tandem::rdrop {

inline constexpr int64_t kBlockSize = 512;  // sums run in C within a block, in double across blocks

// exp(x) for x <= 0; in f32 e^-80 from there on down, which no sum of f32 notices, and which keeps products
// of probabilities clear of subnormal numbers.
inline float exp_nonpositive(float x) { return math::detail::exp_normal(math::detail::at_least(x, -80.0f)); }
inline double exp_nonpositive(double x) { return std::exp(x); }

// A value in a form whose maxima vectorise, and back. clang only does so for integers: there, the bits as an
// integer of the same order.
#ifdef __clang__
template <class I> I flip_negative(I bits) {
  return bits ^ ((bits >> (8 * sizeof(I) - 1)) & std::numeric_limits<I>::max());
}
inline int32_t to_ordered(float value) { return flip_negative(std::bit_cast<int32_t>(value)); }
inline int64_t to_ordered(double value) { return flip_negative(std::bit_cast<int64_t>(value)); }
inline float from_ordered(int32_t value) { return std::bit_cast<float>(flip_negative(value)); }
inline double from_ordered(int64_t value) { return std::bit_cast<double>(flip_negative(value)); }
#else
template <class C> C to_ordered(C value) { return value; }
template <class C> C from_ordered(C value) { return value; }
#endif

// Largest value of a block; adds its sum to `total`, which is not finite then if any value is not (or if it
// overflows). Rows of 16-bit values are widened into `wide` on the way; otherwise `wide` is not touched.
// A function of its own, since g++ vectorises its loop in some of the places where it is inlined only, and
// the bits of the sum are those of the vectorised one.
template <class T, class C> [[gnu::noinline]] C scan_block(const T* row, C* wide, int64_t n, double& total) {
  const C* z;
  if constexpr (std::is_same_v<T, C>) {
    z = row;
  } else {
    for (int64_t c = 0; c < n; ++c) wide[c] = row[c];
    z = wide;
  }
  auto top = to_ordered(std::numeric_limits<C>::lowest());
  C sum = 0;
#pragma omp simd reduction(max : top) reduction(+ : sum)
  for (int64_t c = 0; c < n; ++c) {
    const auto value = to_ordered(z[c]);
    top = value > top ? value : top;
    sum += z[c];
  }
  total += sum;
  return from_ordered(top);
}

// A block of classes of all passes. Pointers: one for each pass.
template <class C> struct ClassBlock {
  int64_t passes, n;  // n: classes
  const C* const* z;  // logits
  C* const* e;        // exponentials
  C* const* g;        // gradient; may be z's or e's rows
  int64_t begin;      // the block's first class in these rows
  const C* max;       // largest logit of the block
  C* sum;             // sum of e = exp(z - max)
  C* inner;           // sum of e_i (x_i - mean_j x_j), x = z - max
  const C* scale;     // P = e * scale
  const C* offset;
  const C* p_weight;  // of P_i: 1 of the cross-entropy and 1 - inner_i of the KL, both weighted
  C kl_weight;        // of P_i d_i and of mean P
  C smoothing;        // subtracted from every class
  C* scratch;         // passes > 4: room for 2 * passes * kBlockSize
};

// Exponentials, their sums and the inner products: two passes in one loop.
template <class C> void exponentials_pair(const ClassBlock<C>& b) {
  const C *z0 = b.z[0] + b.begin, *z1 = b.z[1] + b.begin;
  C *e0 = b.e[0] + b.begin, *e1 = b.e[1] + b.begin;
  const C max0 = b.max[0], max1 = b.max[1];
  C sum0 = 0, sum1 = 0, inner0 = 0, inner1 = 0;
#pragma omp simd reduction(+ : sum0, sum1, inner0, inner1)
  for (int64_t c = 0; c < b.n; ++c) {
    const C x0 = z0[c] - max0, x1 = z1[c] - max1, t = x0 - x1;
    const C y0 = exp_nonpositive(x0), y1 = exp_nonpositive(x1);
    e0[c] = y0, e1[c] = y1;
    sum0 += y0, sum1 += y1;
    inner0 += y0 * t, inner1 += y1 * t;
  }
  b.sum[0] = sum0, b.sum[1] = sum1;
  b.inner[0] = inner0 / 2, b.inner[1] = -inner1 / 2;
}

// The same for any number of passes.
template <class C> void exponentials_any(const ClassBlock<C>& b) {
  C mean[kBlockSize] = {};
  const C share = C(1) / C(b.passes);
  for (int64_t i = 0; i < b.passes; ++i) {
    const C* z = b.z[i] + b.begin;
    const C max = b.max[i];
#pragma omp simd
    for (int64_t c = 0; c < b.n; ++c) mean[c] += (z[c] - max) * share;
  }
  for (int64_t i = 0; i < b.passes; ++i) {
    const C* z = b.z[i] + b.begin;
    C* e = b.e[i] + b.begin;
    const C max = b.max[i];
    C sum = 0, inner = 0;
#pragma omp simd reduction(+ : sum, inner)
    for (int64_t c = 0; c < b.n; ++c) {
      const C x = z[c] - max, y = exp_nonpositive(x);
      e[c] = y;
      sum += y;
      inner += y * (x - mean[c]);
    }
    b.sum[i] = sum, b.inner[i] = inner;
  }
}

// The block's part of sum_c sum_i (P_i - mean P) d_i; and, if asked, the loss's gradient but for what is
// subtracted at the target's class.
template <int M, bool kGradient, class C> double kl_of_block(const ClassBlock<C>& b) {
  const C *z[M], *e[M];
  C *g[M], scale[M], offset[M], p_weight[M];
  for (int i = 0; i < M; ++i) {
    z[i] = b.z[i] + b.begin, e[i] = b.e[i] + b.begin, g[i] = kGradient ? b.g[i] + b.begin : nullptr;
    scale[i] = b.scale[i], offset[i] = b.offset[i], p_weight[i] = b.p_weight[i];
  }
  const C weight = b.kl_weight, smoothing = b.smoothing, share = C(1) / M;
  C total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < b.n; ++c) {
    C p[M], t[M], difference[M], mean_t = 0, mean_difference = 0, mean_p = 0;
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      p[i] = e[i][c] * scale[i];
      t[i] = i == 0 ? C(0) : (z[i][c] - z[0][c]) - offset[i];
      difference[i] = i == 0 ? C(0) : probability_difference(p[i], p[0], t[i]);
      mean_t += t[i] * share, mean_difference += difference[i] * share, mean_p += p[i] * share;
    }
    if constexpr (M == 2) {
      total += difference[1] * t[1] * share;  // what the sum below comes to
    } else {
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) total += (difference[i] - mean_difference) * (t[i] - mean_t);
    }
    if constexpr (kGradient) {
      const C common = weight * mean_p + smoothing;
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) g[i][c] = p[i] * (p_weight[i] + weight * (t[i] - mean_t)) - common;
    }
  }
  return total;
}

// The same for any number of passes.
template <bool kGradient, class C> double kl_of_any(const ClassBlock<C>& b) {
  C mean_t[kBlockSize] = {}, mean_difference[kBlockSize] = {}, mean_p[kBlockSize] = {};
  const C share = C(1) / C(b.passes);
  const C *z0 = b.z[0] + b.begin, *e0 = b.e[0] + b.begin;
  const C scale0 = b.scale[0];
  for (int64_t i = 0; i < b.passes; ++i) {
    const C *z = b.z[i] + b.begin, *e = b.e[i] + b.begin;
    C *t = b.scratch + 2 * i * kBlockSize, *difference = t + kBlockSize;
    const C scale = b.scale[i], offset = b.offset[i];
#pragma omp simd
    for (int64_t c = 0; c < b.n; ++c) {
      const C p = e[c] * scale;
      t[c] = (z[c] - z0[c]) - offset;
      difference[c] = probability_difference(p, e0[c] * scale0, t[c]);
      mean_t[c] += t[c] * share, mean_difference[c] += difference[c] * share, mean_p[c] += p * share;
    }
  }
  double total = 0;
  for (int64_t i = 0; i < b.passes; ++i) {
    const C *t = b.scratch + 2 * i * kBlockSize, *difference = t + kBlockSize;
    C part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t c = 0; c < b.n; ++c) part += (difference[c] - mean_difference[c]) * (t[c] - mean_t[c]);
    total += part;
    if constexpr (kGradient) {
      const C* e = b.e[i] + b.begin;
      C* g = b.g[i] + b.begin;
      const C scale = b.scale[i], p_weight = b.p_weight[i], weight = b.kl_weight, smoothing = b.smoothing;
#pragma omp simd
      for (int64_t c = 0; c < b.n; ++c)
        g[c] = e[c] * scale * (p_weight + weight * (t[c] - mean_t[c])) - (weight * mean_p[c] + smoothing);
    }
  }
  return total;
}

template <bool kGradient, class C> double kl_of_block(const ClassBlock<C>& b) {
  switch (b.passes) {
    case 1:
      return kl_of_block<1, kGradient>(b);
    case 2:
      return kl_of_block<2, kGradient>(b);
    case 3:
      return kl_of_block<3, kGradient>(b);
    case 4:
      return kl_of_block<4, kGradient>(b);
    case 5:
      return kl_of_block<5, kGradient>(b);
    case 6:
      return kl_of_block<6, kGradient>(b);
    case 7:
      return kl_of_block<7, kGradient>(b);
    case 8:
      return kl_of_block<8, kGradient>(b);
    default:
      return kl_of_any<kGradient>(b);
  }
}

}  // namespace tandem::rdrop
