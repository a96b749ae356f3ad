// Building blocks of row-wise kernels (softmax, norms, losses): reductions of one contiguous row of n values
// of T in {bf16, float, double}, computed and accumulated in accumulate_t<T>, for the CPU.
//
// Value i is always added to accumulator i mod kLanes, and the accumulators are added as a balanced tree: the
// result depends on the values and n alone, never on threads or alignment, and the loops over lanes become
// SIMD code without licence to reorder sums. Longer rows than kRowStretch are summed in stretches of it,
// whose sums are added in f64: for any n, the rounding error is at most (kStretch + 6) epsilon(A) / 2 times
// the sum of the terms' magnitudes, besides that of the terms.
#pragma once

#include <cstdint>
#include <limits>

#include "autograd/dtype.h"
#include "ops/loops/column_sums.h"
#include "ops/loops/math.h"

namespace tandem {

inline constexpr int kLanes = 32;
inline constexpr int64_t kRowStretch = kLanes * kStretch;

// Mean and biased variance (the sum of squared deviations divided by n) of a row.
template <class A> struct MeanVar {
  A mean;
  A var;
};

namespace detail {

template <class A> struct Block { alignas(64) A lane[kLanes]; };

// The first `count` < kLanes values, zeros behind.
template <class T> inline Block<accumulate_t<T>> load_part(const T* x, int count) {
  Block<accumulate_t<T>> block = {};
  for (int l = 0; l < count; ++l) block.lane[l] = static_cast<accumulate_t<T>>(x[l]);
  return block;
}

template <class A, class Combine> inline A fold(Block<A>& acc, Combine combine) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) acc.lane[l] = combine(acc.lane[l], acc.lane[l + width]);
  }
  return acc.lane[0];
}

// Folds term(x[i]...) over n values of one or more rows with `combine`, whose neutral element is `start`.
template <class A, class Combine, class Term, class... T>
inline A reduce_rows(int64_t n, A start, Combine combine, Term term, const T*... x) {
  Block<A> acc;
  for (int l = 0; l < kLanes; ++l) acc.lane[l] = start;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) acc.lane[l] = combine(acc.lane[l], term(static_cast<A>(x[i + l])...));
  }
  if (const int rest = static_cast<int>(n - i); rest > 0) {
    // All lanes, the ones behind the end masked: one SIMD loop instead of a scalar tail.
    [&](const auto&... block) {
      for (int l = 0; l < kLanes; ++l) {
        const A value = term(block.lane[l]...);
        acc.lane[l] = combine(acc.lane[l], l < rest ? value : start);
      }
    }(load_part(x + i, rest)...);
  }
  return fold(acc, combine);
}

// The larger of two values; NaN if one is.
inline constexpr auto larger = []<class A>(A a, A b) { return ((b > a) | (b != b)) ? b : a; };
inline constexpr auto plus = []<class A>(A a, A b) { return a + b; };

// Adds f(begin, count) over stretches of n values; one call, which is inlined, in f64 that changes nothing
// where there is one stretch.
template <class A, class F> [[gnu::always_inline]] inline A sum_stretches(int64_t n, F f) {
  double total = 0;
  int64_t begin = 0;
  do {
    total += f(begin, n - begin < kRowStretch ? n - begin : kRowStretch);
    begin += kRowStretch;
  } while (begin < n);
  return static_cast<A>(total);
}
// The sum of term(x[i]...).
template <class A, class Term, class... T>
[[gnu::always_inline]] inline A sum_terms(int64_t n, Term term, const T*... x) {
  return sum_stretches<A>(
      n, [&](int64_t begin, int64_t count)
             __attribute__((always_inline)) { return reduce_rows(count, A(0), plus, term, (x + begin)...); });
}

// exp(x[i] - shift) <= 1 to out[0..n), and their sum.
template <class T, class U> accumulate_t<T> store_exp(const T* x, int64_t n, accumulate_t<T> shift, U* out) {
  using A = accumulate_t<T>;
  Block<A> acc = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    // By way of a local block: SIMD code although out may overlap x.
    Block<A> e;
    for (int l = 0; l < kLanes; ++l) e.lane[l] = math::exp_nonpositive(static_cast<A>(x[i + l]) - shift);
    for (int l = 0; l < kLanes; ++l) acc.lane[l] += e.lane[l];
    for (int l = 0; l < kLanes; ++l) out[i + l] = static_cast<U>(e.lane[l]);
  }
  if (const int rest = static_cast<int>(n - i); rest > 0) {
    Block<A> e = load_part(x + i, rest);
    for (int l = 0; l < kLanes; ++l) e.lane[l] = math::exp_nonpositive(e.lane[l] - shift);
    for (int l = 0; l < kLanes; ++l) acc.lane[l] += l < rest ? e.lane[l] : A(0);
    for (int l = 0; l < rest; ++l) out[i + l] = static_cast<U>(e.lane[l]);
  }
  return fold(acc, plus);
}

}  // namespace detail

// The largest value; NaN if any value is NaN; -inf for an empty row.
template <class T> accumulate_t<T> row_max(const T* x, int64_t n) {
  using A = accumulate_t<T>;
  return detail::reduce_rows(
      n, -std::numeric_limits<A>::infinity(), detail::larger, [](A v) { return v; }, x);
}

// The sum; 0 for an empty row.
template <class T> accumulate_t<T> row_sum(const T* x, int64_t n) {
  using A = accumulate_t<T>;
  return detail::sum_terms<A>(
      n, [](A v) { return v; }, x);
}

// The sum of a[i] * b[i]; 0 for empty rows.
template <class T> accumulate_t<T> row_dot(const T* a, const T* b, int64_t n) {
  using A = accumulate_t<T>;
  return detail::sum_terms<A>(
      n, [](A u, A v) { return u * v; }, a, b);
}

// The sum of exp(x[i] - shift) of a shift that no value is above. Values of -inf add 0; NaN if one is NaN or
// if x[i] = shift is infinite.
template <class T> accumulate_t<T> row_sum_exp(const T* x, int64_t n, accumulate_t<T> shift) {
  using A = accumulate_t<T>;
  return detail::sum_terms<A>(
      n, [shift](A v) { return math::exp_nonpositive(v - shift); }, x);
}

// The same; also stores exp(x[i] - shift) to out[0..n), which may be x
// itself. The sum is of the values before they are rounded to U.
template <class T, class U>
accumulate_t<T> row_sum_exp(const T* x, int64_t n, accumulate_t<T> shift, U* out) {
  return detail::sum_stretches<accumulate_t<T>>(n, [=](int64_t begin, int64_t count) {
    return detail::store_exp(x + begin, count, shift, out + begin);
  });
}

// Two passes: the mean, then the mean of the squared deviations from it. NaN for an empty row.
template <class T> MeanVar<accumulate_t<T>> row_mean_var(const T* x, int64_t n) {
  using A = accumulate_t<T>;
  const A mean = row_sum(x, n) / static_cast<A>(n);
  const A squares = detail::sum_terms<A>(
      n, [mean](A v) { return (v - mean) * (v - mean); }, x);
  return {mean, squares / static_cast<A>(n)};
}

}  // namespace tandem
