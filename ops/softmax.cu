// A team of threads holds a row, so that memory is read and written once; see cuda/rows.cuh. The loops are
// those of softmax.cpp.
#include "ops/softmax_kernel.h"

#include <cmath>
#include <limits>

#include "cuda/rows.cuh"

namespace tandem {
namespace {

using namespace detail;
using cuda::each_vector;
using cuda::HeldRow;
using cuda::store_row;
using cuda::sum_row;

template <class C> struct MaxSum {
  C max, sum;  // sum of e^(x - max)
};

template <class C> __device__ bool infinite(C x) { return fabs(x) == std::numeric_limits<C>::infinity(); }

// What exponents are relative to: the largest value, or 0 where all of a row are -inf.
template <class C> __device__ C shift_of(C largest) {
  return largest == -std::numeric_limits<C>::infinity() ? C(0) : largest;
}

// The largest value of a row, and the sum of e^(x - shift(largest)). Those powers take the place of the
// values in registers, if asked.
template <class Form, class C, bool powers, class Row, class Shift>
__device__ MaxSum<C> max_and_sum(Row& x, int64_t n, Shift shift) {
  using Team = typename Form::Team;
  MaxSum<C> result{-std::numeric_limits<C>::infinity(), 0};
  if constexpr (Form::kRegisters) {
    each_vector<Form>(
        n,
        [&](int64_t, const auto& v) {
#pragma unroll
          for (C value : v.at) result.max = cuda::Larger{}(result.max, value);
        },
        x);
    result.max = Team::max(result.max);
    const C by = shift(result.max);
    each_vector<Form>(
        n,
        [&](int64_t, auto& v) {
#pragma unroll
          for (int l = 0; l < Form::V; ++l) {
            const C power = exp(v.at[l] - by);
            result.sum += power;
            if constexpr (powers) v.at[l] = power;
          }
        },
        x);
    result.sum = Team::sum(result.sum);
  } else {
    // In one sweep: what was summed is scaled where a larger value comes.
    const auto finite = [](C largest) { return infinite(largest) ? C(0) : largest; };
    each_vector<Form>(
        n,
        [&](int64_t, const auto& v) {
          C largest = result.max;
          for (C value : v.at) largest = cuda::Larger{}(largest, value);
          const C by = finite(largest);
          if (largest != result.max && result.sum != 0) result.sum *= exp(finite(result.max) - by);
          for (C value : v.at) result.sum += exp(value - by);
          result.max = largest;
        },
        x);
    const C own = result.max;
    result.max = Team::max(own);
    if (result.sum != 0) result.sum *= exp(finite(own) - finite(result.max));
    result.sum = Team::sum(result.sum);
    if (infinite(result.max)) result.sum *= exp(finite(result.max) - shift(result.max));
  }
  return result;
}

// out = f(x...) for the values of held rows.
template <class Form, class T, class F, class... Row>
__device__ void write_row(T* out, int64_t n, F f, Row&... x) {
  each_vector<Form>(
      n,
      [&](int64_t i, auto v, const auto&... more) {
#pragma unroll
        for (int l = 0; l < Form::V; ++l) v.at[l] = f(v.at[l], more.at[l]...);
        store_row<T, Form::V>(out, i, v);
      },
      x...);
}

// A row of the output, from n values of each input, written where it is live; the team's shared memory.
template <class T> struct RowTask {
  int64_t n;
  bool live;
  T* out;
  char* room;
  int room_bytes;
};

template <class Form, class T>
__device__ void make_row(SoftmaxOfRow, const T* in, const T*, const RowTask<T>& row) {
  using C = compute_t<T>;
  HeldRow<Form, T> x(in, row.n, row.room, cuda::values_in<Form, T>(row.n, row.room_bytes));
  const MaxSum<C> total = max_and_sum<Form, C, true>(x, row.n, shift_of<C>);
  if (!row.live) return;
  const C shift = shift_of(total.max), scale = total.sum == 0 ? C(0) : 1 / total.sum;
  write_row<Form>(
      row.out, row.n, [&](C v) { return (Form::kRegisters ? v : exp(v - shift)) * scale; }, x);
}

template <class Form, class T>
__device__ void make_row(LogSoftmaxOfRow, const T* in, const T*, const RowTask<T>& row) {
  using C = compute_t<T>;
  HeldRow<Form, T> x(in, row.n, row.room, cuda::values_in<Form, T>(row.n, row.room_bytes));
  const MaxSum<C> total = max_and_sum<Form, C, false>(x, row.n, shift_of<C>);
  if (!row.live) return;
  const C shift = shift_of(total.max), log_sum = total.sum == 0 ? C(0) : log(total.sum);
  write_row<Form>(
      row.out, row.n, [&](C v) { return (v - shift) - log_sum; }, x);
}

template <class Form, class T>
__device__ void make_row(LogSumExpOfRow, const T* in, const T*, const RowTask<T>& row) {
  using C = compute_t<T>;
  HeldRow<Form, T> x(in, row.n, row.room, cuda::values_in<Form, T>(row.n, row.room_bytes));
  const auto shift = [](C largest) { return infinite(largest) ? C(0) : largest; };
  const MaxSum<C> total = max_and_sum<Form, C, false>(x, row.n, shift);
  if (row.live && Form::Team::rank() == 0) *row.out = log(total.sum) + shift(total.max);
}

template <class Form, class T>
__device__ void make_row(SoftmaxGradOfRow, const T* in, const T* outputs, const RowTask<T>& row) {
  using C = compute_t<T>;
  const int half = row.room_bytes / 2;
  const auto held = cuda::values_in<Form, T>(row.n, half);
  HeldRow<Form, T> g(in, row.n, row.room, held), y(outputs, row.n, row.room + half, held);
  const C dot = sum_row<Form, C>(
      row.n, [](C gi, C yi) { return gi * yi; }, g, y);
  if (!row.live) return;
  write_row<Form>(
      row.out, row.n, [&](C gi, C yi) { return yi * (gi - dot); }, g, y);
}

template <class Form, class T>
__device__ void make_row(LogSoftmaxGradOfRow, const T* in, const T* outputs, const RowTask<T>& row) {
  using C = compute_t<T>;
  HeldRow<Form, T> g(in, row.n, row.room, cuda::values_in<Form, T>(row.n, row.room_bytes));
  HeldRow<Form, T> y(outputs, row.n, nullptr, 0);  // y is looked at once
  const C total = sum_row<Form, C>(
      row.n, [](C gi) { return gi; }, g);
  if (!row.live) return;
  write_row<Form>(
      row.out, row.n, [&](C gi, C yi) { return gi - exp(yi) * total; }, g, y);
}

template <class F, class T, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock, cuda::kLeastBlocks<Form, T>)
    softmax_kernel(SoftmaxRows<F, T> args, int room_bytes) {
  const int64_t width = std::is_same_v<F, LogSumExpOfRow> ? 1 : args.n;
  char* room = cuda::team_room<typename Form::Team>(room_bytes);
  Form::Team::for_each_row(args.rows, [&](int64_t row, bool live) {
    make_row<Form, T>(F{}, args.in[0] + row * args.n, args.in[1] ? args.in[1] + row * args.n : nullptr,
                      {args.n, live, args.out + row * width, room, room_bytes});
  });
}

template <class F, class T> void launch_softmax(const SoftmaxRows<F, T>& args) {
  constexpr int V = 16 / sizeof(T);
  const bool vectors = cuda::takes_row_vectors<V>(args.n, args.in[0], args.in[1]) &&
                       (std::is_same_v<F, LogSumExpOfRow> || cuda::takes_row_vectors<V>(args.n, args.out));
  const int held = std::is_same_v<F, SoftmaxGradOfRow> ? 2 : 1;
  cuda::with_row_form<T>(args.n, vectors, [&]<class Form>() {
    cuda::launch_rows<softmax_kernel<F, T, Form>, Form>(
        "softmax", args, args.rows, held * args.n * static_cast<int64_t>(sizeof(T)), true);
  });
}

template <class... F> void register_softmax() {
  cuda::for_floats([]<class T>() { (register_kernel(launch_softmax<F, T>), ...); });
}

const RegisterKernels registered{[] {
  register_softmax<SoftmaxOfRow, SoftmaxGradOfRow, LogSoftmaxOfRow, LogSoftmaxGradOfRow, LogSumExpOfRow>();
}};

}  // namespace
}  // namespace tandem
