// Layer norm and RMS norm of a row that a team of threads holds (cuda/rows.cuh).
#pragma once

#include <limits>

#include "cuda/rows.cuh"
#include "ops/norms/row_norm_args.h"

namespace tandem::detail {

// Whether it holds of the row of any of the teams that have to reduce together, as those of a warp have.
template <class Team> __device__ bool any_row(bool holds) {
  return Team::kSize < cuda::kWarp ? __any_sync(cuda::kWholeWarp, holds) != 0 : holds;
}

template <class A> struct Statistics { A mean, rstd; };

// Of a row whose sum, or squares, overflow: relative to its largest value. NaN where that is not finite.
template <class Form, class A, class Row>
__device__ Statistics<A> huge_statistics(Row& x, int64_t n, bool centred, A eps) {
  A largest = 0;
  cuda::each_vector<Form>(
      n,
      [&](int64_t, const auto& v) {
#pragma unroll
        for (const A value : v.at) largest = cuda::Larger{}(largest, static_cast<A>(fabs(value)));
      },
      x);
  largest = Form::Team::max(largest);
  const A by = 1 / largest;
  A mean = 0;
  if (centred)
    mean = cuda::sum_row<Form, A>(
               n, [=](A value) { return value * by; }, x) /
           static_cast<A>(n);
  const A squares = cuda::sum_row<Form, A>(
      n, [=](A value) { return (value * by - mean) * (value * by - mean); }, x);
  return {mean * largest, rstd_of_huge(largest, squares / static_cast<A>(n), eps)};
}

// Writes the norm of the held row x, and its statistics where `live`; all threads of the team call it.
template <class Form, class T, class O>
__device__ void normalise(const NormRows<T, O>& args, int64_t row, bool live, cuda::HeldRow<Form, T>& x) {
  using A = accumulate_t<T>;
  using Team = typename Form::Team;
  constexpr int V = Form::V;
  const int64_t n = args.n;
  A mean = 0;
  if (args.centred)
    mean = cuda::sum_row<Form, A>(
               n, [](A value) { return value; }, x) /
           static_cast<A>(n);
  const A squares = cuda::sum_row<Form, A>(
      n, [=](A value) { return (value - mean) * (value - mean); }, x);
  A rstd = 1 / sqrt(squares / static_cast<A>(n) + args.eps);
  const bool huge = !(squares <= std::numeric_limits<A>::max());
  if (any_row<Team>(huge)) [[unlikely]] {
    const Statistics<A> found = huge_statistics<Form, A>(x, n, args.centred, args.eps);
    if (huge) mean = found.mean, rstd = found.rstd;
  }
  if (!live) return;
  const int64_t weights = args.weight_pass == 0 ? 0 : row / args.rows * args.weight_pass;
  const A *w = args.weight + weights, *b = args.bias ? args.bias + weights : nullptr;
  O* y = args.y + row * n;
  cuda::each_vector<Form>(
      n,
      [&](int64_t i, auto v) {
        const cuda::Vector<A, V> scale = cuda::load_vector<V>(w + i),
                                 shift = b ? cuda::load_vector<V>(b + i) : cuda::Vector<A, V>{};
#pragma unroll
        for (int l = 0; l < V; ++l) v.at[l] = (v.at[l] - mean) * rstd * scale.at[l] + shift.at[l];
        cuda::store_row<O, V>(y, i, v);
      },
      x);
  if (Team::rank() == 0) args.mean[row] = mean, args.rstd[row] = rstd;
}

}  // namespace tandem::detail
