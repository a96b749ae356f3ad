// Elementwise loops over strided, broadcast tensors of any number of passes. An op gives a scalar functor;
// here it meets memory. Operand 0 is the output.
#pragma once

#include <array>
#include <cmath>
#include <tuple>

#include "autograd/kernel.h"
#include "autograd/parallel.h"
#include "ops/loops/map.h"

namespace tandem::detail {

inline constexpr int64_t kGrain = 32768;  // elements below which a second thread costs more than it saves

template <int N> Walk<N> make_walk(const Tensor& output, const std::array<const Tensor*, N - 1>& inputs);

// Calls run(offsets, n) for every innermost stretch, cut for the threads by `grain` elements; offsets are in
// elements. The walk itself is compiled once for all kernels.
template <int N> using Run = void (*)(void* context, const std::array<int64_t, N>& offsets, int64_t n);
template <int N> void for_each_run(const Walk<N>& walk, Run<N> run, void* context, int64_t grain);
template <int N, class F> void for_each_run(const Walk<N>& walk, F&& run, int64_t grain = kGrain) {
  for_each_run<N>(
      walk,
      [](void* f, const std::array<int64_t, N>& offsets, int64_t n) {
        (*static_cast<std::remove_reference_t<F>*>(f))(offsets, n);
      },
      const_cast<std::remove_const_t<std::remove_reference_t<F>>*>(&run), grain);
}

// Elements along a run, dense or not, meet a functor in one loop over dense memory: what is not dense goes
// through a tile, which stays in the first level cache. So a functor is compiled as one loop, vectorised for
// every layout, and gives the same bits for all of them.
inline constexpr int64_t kTile = 256;

// The n elements at p, `stride` apart, densely: p itself, or `tile` filled with them. A single value (stride
// 0) is there from the run's first tile on.
template <class T> struct Tile {
  Tile() {}  // uninitialised
  T* data() { return reinterpret_cast<T*>(bytes); }
  alignas(64) char bytes[kTile * sizeof(T)];
};
template <class T> const T* gather_tile(const T* p, int64_t stride, int64_t n, bool first, T* tile) {
  if (stride == 1) return p;
  if (stride == 0) {
    if (first) std::fill_n(tile, n, *p);
  } else {
    for (int64_t i = 0; i < n; ++i) tile[i] = p[i * stride];
  }
  return tile;
}

// out[i] = f(in[i]...) for i < n, with the type of f erased.
template <class O, class... I> using DenseLoop = void (*)(const void* f, int64_t n, O* out, const I*... in);

// Assigned, not converted first: g++ 12 does not vectorise a store of a temporary bf16. Flat: a functor that
// is not inlined makes the loop scalar, and so does one whose numbers are read where it branches: a copy.
template <class F, class O, class... I>
[[gnu::flatten]] void dense_loop(const void* functor, int64_t n, O* out, const I*... in) {
  const F f = *static_cast<const F*>(functor);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = f(static_cast<compute_t<I>>(in[i])...);
}

// Runs a loop over all of a walk. Compiled once for all functors of these types.
template <class O, class... I>
[[gnu::noinline]] void for_each_dense(const Walk<sizeof...(I) + 1>& walk, DenseLoop<O, I...> loop,
                                      const void* f, O* out, const I*... in) {
  constexpr int N = sizeof...(I) + 1;
  std::array<int64_t, N> strides;
  bool dense = true;
  for (int k = 0; k < N; ++k) dense &= (strides[k] = walk.strides[k][walk.dims - 1]) == 1;
  const std::tuple<const I*...> bases{in...};
  auto run = [&]<size_t... K>(const std::array<int64_t, N>& at, int64_t n, std::index_sequence<K...>) {
    if (dense) return loop(f, n, out + at[0], (std::get<K>(bases) + at[K + 1])...);
    Tile<O> out_tile;
    std::tuple<Tile<I>...> tiles;
    for (int64_t begin = 0; begin < n; begin += kTile) {
      const int64_t count = std::min(kTile, n - begin);
      O* target = out + at[0] + begin * strides[0];
      loop(f, count, strides[0] == 1 ? target : out_tile.data(),
           gather_tile(std::get<K>(bases) + at[K + 1] + begin * strides[K + 1], strides[K + 1], count,
                       begin == 0, std::get<K>(tiles).data())...);
      if (strides[0] == 1) continue;
      for (int64_t i = 0; i < count; ++i) target[i * strides[0]] = out_tile.data()[i];
    }
  };
  for_each_run<N>(walk, [&](const std::array<int64_t, N>& at, int64_t n) {
    run(at, n, std::index_sequence_for<I...>{});
  });
}

// Elements as loops read them: g++ 12 does not vectorise loads of bools.
template <class T> using loaded_t = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;

// Whether x is large and its neighbours in memory are neighbours along a dimension that is not the last.
inline bool lies_across(const Tensor& x) {
  const int last = x.dim() - 1;
  if (last < 1 || x.strides()[last] <= 1 || x.shape()[last] < 8 || x.numel() < kTile * kTile) return false;
  bool across = false;
  for (int d = 0; d < last; ++d) {
    if (x.strides()[d] == 0 && x.shape()[d] > 1) return false;  // repeated
    across |= x.strides()[d] == 1 && x.shape()[d] >= 8;
  }
  return across;
}

// out[...] = f(in[...]...): output elements O, input elements I..., at most three inputs. F is a type that a
// header names, for the sake of device kernels.
template <class O, class... I, class F, class... X>
void map_as_it_lies(const Tensor& out, F f, const X&... inputs) {
  constexpr int N = sizeof...(I) + 1;
  static_assert(sizeof...(I) == sizeof...(X) && N <= 4);
  const Walk<N> walk = make_walk<N>(out, {&inputs...});
  if (out.device() != kCpu) [[unlikely]] {
    run_on_device(out, Map<F, O, I...>{walk, f, out.device_data<O>(), {inputs.template device_data<I>()...}});
    return;
  }
  for_each_dense<O, loaded_t<I>...>(walk, dense_loop<F, O, loaded_t<I>...>, &f, out.template data<O>(),
                                    reinterpret_cast<const loaded_t<I>*>(inputs.template data<I>())...);
}
// The same; what lies across is first copied, tile by tile, since a walk would fetch a cache line for each
// element.
template <class O, class... I, class F, class... X> void map(const Tensor& out, F f, const X&... inputs) {
  if (out.device() == kCpu && (lies_across(inputs) || ...)) [[unlikely]] {
    map_as_it_lies<O, I...>(out, f, lies_across(inputs) ? dense(inputs) : inputs...);
  } else {
    map_as_it_lies<O, I...>(out, f, inputs...);
  }
}

// A term or factor of a tensor of `dtype` is a number that it holds, or the negative of one, since x - 1 is x
// + (-1).
inline void check_factor(const char* op, DType dtype, double value) {
  if (dtype != DType::boolean && !holds(dtype, -value))
    check_holds(op, dtype, value);  // no arithmetic of bools
}
// That number in the type of computation; unsigned types wrap around.
template <class C> C factor(double value) {
  if constexpr (std::is_floating_point_v<C>) {
    return static_cast<C>(value);
  } else {
    return static_cast<C>(static_cast<int64_t>(value));
  }
}

// A number as a tensor beside x, of its dtype and on its device; DTypeError where the dtype does not have it.
inline Tensor beside(const char* op, double number, const Tensor& x) {
  check_holds(op, x.dtype(), number);
  return full({}, number, {x.dtype(), x.device()});
}

}  // namespace tandem::detail
