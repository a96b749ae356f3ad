// The inner loops of the R-Drop cross-entropy on the CPU, over blocks of classes; and the formulas, which the
// device's kernels (unit.cuh, gradient.cuh) share. Of pass i, at each class:
//   P_i = e_i * scale_i,  e_i = exp(z_i - max_i)
//   t_i = log P_i - log P_0 = (z_i - z_0) - offset_i,   d_i = t_i - mean_j t_j,   inner_i = <P_i, d_i>
//   mean_{i != j} KL(P_i || P_j) = sum_c sum_i (P_i - mean P) d_i / (m - 1)
//   its gradient at z_i = [ P_i (d_i - inner_i) + P_i - mean P ] / (m - 1)
// Since sum_i d_i = 0, the second line is sum_c sum_i (P_i - P_0) d_i / (m - 1), too.
// max_i is that of the block, so that one read of the logits gives both max_i and e_i; scale_i makes up for
// the blocks' different maxima. What is kept of a block is dense, e_i and t_i: the rows of the passes are
// often a power of two apart, and would push each other out of the caches. Everything is C = float or double.
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

// From this sum of a unit's inner_i on their rounding in f32 does not show: it is the KL. A smaller one is
// made of P_i - P_0, which is exact where passes are nearly equal.
inline constexpr double kClearKl = 1.0 / 16;

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
// overflows). Like those below a function of its own, since g++ vectorises its loop in some of the places
// where it is inlined only, and the bits of the sum are those of the vectorised one.
template <class C, class T> [[gnu::noinline]] C largest(const T* z, int64_t n, double& total) {
  auto top = to_ordered(std::numeric_limits<C>::lowest());
  C sum = 0;
#pragma omp simd reduction(max : top) reduction(+ : sum)
  for (int64_t c = 0; c < n; ++c) {
    const C value = z[c];
    const auto ordered = to_ordered(value);
    top = ordered > top ? ordered : top;
    sum += value;
  }
  total += sum;
  return from_ordered(top);
}

// Whether the first of a row's largest values, `max`, is the label's: then the prediction is right.
template <class C, class T> bool is_first(const T* z, int64_t label, C max) {
  return C(z[label]) == max && std::find(z, z + label, z[label]) == z + label;
}

// A block of classes of all passes: rows of kBlockSize, one after the other, of which `n` classes are used.
template <class C> struct ClassBlock {
  int64_t passes, n;
  C* e_rows;        // of each pass e; then the mean over passes of t; then of each pass but the first t
  C* const* g;      // of each pass the gradient; may be the rows of e
  const C* scale;   // P = e * scale
  const C* offset;  // subtracted from t
  C mean_offset;
  const C* p_weight;  // of P_i: 1 of the cross-entropy and 1 - inner_i of the KL, both weighted
  C kl_weight;        // of P_i d_i and of mean P
  C smoothing;        // subtracted from every class

  static int64_t rows(int64_t passes) { return 2 * passes; }
  C* e(int64_t pass) const { return e_rows + pass * kBlockSize; }
  C* mean() const { return e(passes); }
  C* t(int64_t pass) const { return e(passes + pass); }  // pass >= 1
};

// Exponentials of the first pass; their sum.
template <class T, class C> [[gnu::noinline]] C exponentials(const T* z, C max, int64_t n, C* e) {
  C sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < n; ++c) {
    const C y = exp_nonpositive(C(z[c]) - max);
    e[c] = y;
    sum += y;
  }
  return sum;
}

// The same of another pass, and its t, whose share is added to the mean. `shift` keeps t small where a pass's
// logits lie higher than the first's.
template <class T, class C>
[[gnu::noinline]] C exponentials(const T* z, const T* z0, C max, C shift, C share, int64_t n, C* e, C* t,
                                 C* mean) {
  C sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < n; ++c) {
    const C x = z[c], y = exp_nonpositive(x - max), from_first = (x - C(z0[c])) - shift;
    e[c] = y;
    t[c] = from_first;
    mean[c] += from_first * share;
    sum += y;
  }
  return sum;
}

// Both passes of two in one loop; the mean of t is not written.
template <class T, class C>
[[gnu::noinline]] void exponentials_pair(const T* z0, const T* z1, int64_t n, const C* max, C shift, C* e0,
                                         C* e1, C* t, C* sum, C* inner) {
  const C max0 = max[0], max1 = max[1];
  C sum0 = 0, sum1 = 0, inner0 = 0, inner1 = 0;
#pragma omp simd reduction(+ : sum0, sum1, inner0, inner1)
  for (int64_t c = 0; c < n; ++c) {
    const C x0 = z0[c], x1 = z1[c], from_first = (x1 - x0) - shift;
    const C y0 = exp_nonpositive(x0 - max0), y1 = exp_nonpositive(x1 - max1);
    e0[c] = y0, e1[c] = y1, t[c] = from_first;
    sum0 += y0, sum1 += y1;
    inner0 += y0 * from_first, inner1 += y1 * from_first;
  }
  sum[0] = sum0, sum[1] = sum1;
  inner[0] = -inner0 / 2, inner[1] = inner1 / 2;
}

// The sum of e (t - mean t); t may be null, for 0.
template <class C> [[gnu::noinline]] C inner_product(const C* e, const C* t, const C* mean, int64_t n) {
  C inner = 0;
  if (t == nullptr) {
#pragma omp simd reduction(+ : inner)
    for (int64_t c = 0; c < n; ++c) inner -= e[c] * mean[c];
  } else {
#pragma omp simd reduction(+ : inner)
    for (int64_t c = 0; c < n; ++c) inner += e[c] * (t[c] - mean[c]);
  }
  return inner;
}

// The block's part of sum_c sum_i (P_i - P_0) d_i, if kKl; and, if kGradient, the loss's gradient but for
// what is subtracted at the target's class.
template <int M, bool kKl, bool kGradient, class C>
[[gnu::noinline]] double kl_of_block(const ClassBlock<C>& b) {
  const C* e = b.e_rows;
  C *g[M], scale[M], offset[M], p_weight[M];
  for (int i = 0; i < M; ++i) {
    g[i] = kGradient ? b.g[i] : nullptr;
    scale[i] = b.scale[i], offset[i] = b.offset[i], p_weight[i] = b.p_weight[i];
  }
  const C weight = b.kl_weight, smoothing = b.smoothing, mean_weight = weight / M,
          mean_offset = b.mean_offset;
  C total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < b.n; ++c) {
    C own[M], sum_p = 0, p0 = 0;
    C mean = 0;
    if constexpr (M == 2) mean = (e[3 * kBlockSize + c] - offset[1]) / 2;
    if constexpr (M > 2) mean = e[M * kBlockSize + c] - mean_offset;
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const C p = e[i * kBlockSize + c] * scale[i];
      const C t = i == 0 ? C(0) : e[(M + i) * kBlockSize + c] - offset[i], d = t - mean;
      if (i == 0) p0 = p;
      if (kKl && i > 0) total += probability_difference(p, p0, t) * d;
      sum_p += p;
      own[i] = p * (p_weight[i] + weight * d);
    }
    if constexpr (kGradient) {
      const C common = mean_weight * sum_p + smoothing;
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) g[i][c] = own[i] - common;
    }
  }
  return total;
}

// The same for any number of passes. Leaves P (p_weight + weight d) where e was.
template <bool kKl, bool kGradient, class C> [[gnu::noinline]] double kl_of_any(const ClassBlock<C>& b) {
  C p0[kBlockSize], mean[kBlockSize], common[kBlockSize] = {};
  const C mean_weight = b.kl_weight / C(b.passes), weight = b.kl_weight;
#pragma omp simd
  for (int64_t c = 0; c < b.n; ++c) {
    p0[c] = b.e(0)[c] * b.scale[0];
    mean[c] = b.mean()[c] - b.mean_offset;
    b.mean()[c] = 0;  // t of the first pass from here on
  }
  double total = 0;
  for (int64_t i = 0; i < b.passes; ++i) {
    C* e = b.e(i);
    const C* t_row = b.t(i);
    const C scale = b.scale[i], offset = b.offset[i], p_weight = b.p_weight[i];
    C part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t c = 0; c < b.n; ++c) {
      const C p = e[c] * scale, t = t_row[c] - offset, d = t - mean[c];
      if (kKl) part += probability_difference(p, p0[c], t) * d;
      common[c] += mean_weight * p;
      e[c] = p * (p_weight + weight * d);
    }
    total += part;
  }
  for (int64_t i = 0; kGradient && i < b.passes; ++i) {
    const C *e = b.e(i), smoothing = b.smoothing;
    C* g = b.g[i];
#pragma omp simd
    for (int64_t c = 0; c < b.n; ++c) g[c] = e[c] - (common[c] + smoothing);
  }
  return total;
}

template <bool kKl, bool kGradient, class C> double kl_of_block(const ClassBlock<C>& b) {
  switch (b.passes) {
    case 1:
      return kl_of_block<1, kKl, kGradient>(b);
    case 2:
      return kl_of_block<2, kKl, kGradient>(b);
    case 3:
      return kl_of_block<3, kKl, kGradient>(b);
    case 4:
      return kl_of_block<4, kKl, kGradient>(b);
    case 5:
      return kl_of_block<5, kKl, kGradient>(b);
    case 6:
      return kl_of_block<6, kKl, kGradient>(b);
    case 7:
      return kl_of_block<7, kKl, kGradient>(b);
    case 8:
      return kl_of_block<8, kKl, kGradient>(b);
    default:
      return kl_of_any<kKl, kGradient>(b);
  }
}

}  // namespace tandem::rdrop
