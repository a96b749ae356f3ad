// Elementwise loops over strided, broadcast tensors of any number of passes. An op gives a scalar functor;
// here it meets memory. Operand 0 is the output.
#pragma once

#include <array>
#include <cmath>
#include <tuple>

#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"

namespace tandem::detail {

inline constexpr int64_t kGrain = 32768;  // elements below which a second thread costs more than it saves

// N operands walked together: dimensions of size 1 dropped, neighbours merged where all strides allow.
template <int N>
struct Walk {
  int dims = 0;
  int64_t numel = 1;
  int64_t sizes[kMaxDims + 1];
  int64_t strides[N][kMaxDims + 1];  // elements
};

template <int N>
Walk<N> make_walk(const Tensor& output, const std::array<const Tensor*, N - 1>& inputs) {
  const int m = output.passes(), dims = output.dim();
  Walk<N> walk;
  auto stride_at = [&](int operand, int d) -> int64_t {  // d = -1 is the pass dimension
    const Tensor& x = operand == 0 ? output : *inputs[operand - 1];
    if (d < 0) return x.pass_stride();
    const int own = d - (dims - x.dim());
    return own < 0 || x.shape()[own] == 1 ? 0 : x.strides()[own];
  };
  for (int d = m > 1 ? -1 : 0; d < dims; ++d) {
    const int64_t size = d < 0 ? m : output.shape()[d];
    walk.numel *= size;
    if (size == 1) continue;
    bool merges = walk.dims > 0;
    for (int k = 0; k < N && merges; ++k) merges = walk.strides[k][walk.dims - 1] == stride_at(k, d) * size;
    const int at = merges ? walk.dims - 1 : walk.dims++;
    walk.sizes[at] = merges ? walk.sizes[at] * size : size;
    for (int k = 0; k < N; ++k) walk.strides[k][at] = stride_at(k, d);
  }
  if (walk.dims == 0) {
    walk.dims = 1;
    walk.sizes[0] = 1;
    for (int k = 0; k < N; ++k) walk.strides[k][0] = 0;
  }
  return walk;
}

// Calls run(offsets, n) for every innermost stretch, cut for the threads into about `grain` elements; offsets
// are in elements.
template <int N, class Run>
void for_each_run(const Walk<N>& walk, Run&& run, int64_t grain = kGrain) {
  if (walk.numel == 0) return;
  const int last = walk.dims - 1;
  if (walk.dims == 1) {
    return parallel_for(walk.numel, grain, [&](int64_t begin, int64_t end) {
      std::array<int64_t, N> offsets;
      for (int k = 0; k < N; ++k) offsets[k] = begin * walk.strides[k][0];
      run(offsets, end - begin);
    });
  }
  const int64_t inner = walk.sizes[last], outer = walk.numel / inner;
  parallel_for(outer, std::max<int64_t>(1, grain / inner), [&](int64_t begin, int64_t end) {
    int64_t index[kMaxDims + 1];
    std::array<int64_t, N> offsets{};
    for (int64_t d = last - 1, rest = begin; d >= 0; --d) {
      index[d] = rest % walk.sizes[d];
      rest /= walk.sizes[d];
      for (int k = 0; k < N; ++k) offsets[k] += index[d] * walk.strides[k][d];
    }
    for (int64_t row = begin; row < end; ++row) {
      run(offsets, inner);
      for (int d = last - 1; d >= 0; --d) {
        for (int k = 0; k < N; ++k) offsets[k] += walk.strides[k][d];
        if (++index[d] < walk.sizes[d]) break;
        for (int k = 0; k < N; ++k) offsets[k] -= walk.sizes[d] * walk.strides[k][d];
        index[d] = 0;
      }
    }
  });
}

// One input along a run: dense, one value for all of it, or strided.
template <class T>
struct Dense {
  const T* p;
  compute_t<T> operator[](int64_t i) const { return static_cast<compute_t<T>>(p[i]); }
};
template <class T>
struct Constant {
  compute_t<T> value;
  compute_t<T> operator[](int64_t) const { return value; }
};
template <class T>
struct Strided {
  const T* p;
  int64_t stride;
  compute_t<T> operator[](int64_t i) const { return static_cast<compute_t<T>>(p[i * stride]); }
};

// Assigned, not converted first: g++ 12 does not vectorise a store of a temporary bf16. Flat: a functor that
// is not inlined makes the loop scalar.
template <class O, class F, class... In>
[[gnu::noinline, gnu::flatten]] void run_dense(O* out, int64_t n, F f, In... in) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = f(in[i]...);
}
template <class O, class F, class... In>
void run_strided(O* out, int64_t out_stride, int64_t n, F f, In... in) {
  for (int64_t i = 0; i < n; ++i) out[i * out_stride] = f(in[i]...);
}

// out[...] = f(in[...]...): output elements O, input elements I..., at most three inputs.
template <class O, class... I, class F, class... X>
void map(const Tensor& out, F f, const X&... inputs) {
  constexpr int N = sizeof...(I) + 1;
  static_assert(sizeof...(I) == sizeof...(X) && N <= 4);
  const Walk<N> walk = make_walk<N>(out, {&inputs...});
  O* o = out.template data<O>();
  const std::tuple<const I*...> bases{inputs.template data<I>()...};
  const int last = walk.dims - 1;
  for_each_run<N>(walk, [&](const std::array<int64_t, N>& at, int64_t n) {
    const int64_t out_stride = walk.strides[0][last];
    [&]<size_t... K>(std::index_sequence<K...>) {
      const bool dense = ((walk.strides[K + 1][last] == 1) && ...) && out_stride == 1;
      if (dense) return run_dense(o + at[0], n, f, Dense<I>{std::get<K>(bases) + at[K + 1]}...);
      if constexpr (N == 3) {  // a bias or a per-row factor: one side constant along the run
        using A = std::tuple_element_t<0, std::tuple<I...>>;
        using B = std::tuple_element_t<1, std::tuple<I...>>;
        const A* a = std::get<0>(bases) + at[1];
        const B* b = std::get<1>(bases) + at[2];
        const int64_t sa = walk.strides[1][last], sb = walk.strides[2][last];
        if (out_stride == 1 && sa == 1 && sb == 0) {
          return run_dense(o + at[0], n, f, Dense<A>{a}, Constant<B>{static_cast<compute_t<B>>(*b)});
        }
        if (out_stride == 1 && sa == 0 && sb == 1) {
          return run_dense(o + at[0], n, f, Constant<A>{static_cast<compute_t<A>>(*a)}, Dense<B>{b});
        }
      }
      run_strided(o + at[0], out_stride, n, f,
                  Strided<I>{std::get<K>(bases) + at[K + 1], walk.strides[K + 1][last]}...);
    }
    (std::index_sequence_for<I...>{});
  });
}

// A number that meets tensors of `dtype`: integers take whole numbers only, rather than cut 0.5 to 0.
inline void check_factor(const char* op, DType dtype, double value) {
  if (is_floating(dtype) || (value == std::trunc(value) && std::abs(value) < 0x1p63)) return;
  raise<DTypeError>("{}: {} with a tensor of {}, which holds integers; convert it with to()", op, value,
                    name_of(dtype));
}
// That number in the type of computation; unsigned types wrap around.
template <class C>
C factor(double value) {
  if constexpr (std::is_floating_point_v<C>) {
    return static_cast<C>(value);
  } else {
    return static_cast<C>(static_cast<int64_t>(value));
  }
}

}  // namespace tandem::detail
