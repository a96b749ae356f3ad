// Kernels of elementwise work (ops/loops/map.h): the functors of the CPU's loops over any strides. Where the
// innermost dimension is dense, or one value, in every operand, a thread takes 16 bytes at a time.
#pragma once

#include <bit>
#include <utility>

#include "autograd/device_kernel.h"
#include "cuda/launch.cuh"
#include "cuda/walk.cuh"
#include "ops/loops/map.h"

namespace tandem::cuda {

// V values of T that are read and written at once.
template <class T, int V> struct alignas(sizeof(T) * V) Vector { T at[V]; };

// Words of the machine that a vector is made of.
template <int bytes> struct WordOf {
  struct type {
    uint4 at[bytes / 16];
  };
};
template <> struct WordOf<16> { using type = uint4; };
template <> struct WordOf<8> { using type = uint2; };
template <> struct WordOf<4> { using type = uint32_t; };
template <> struct WordOf<2> { using type = uint16_t; };
template <> struct WordOf<1> { using type = uint8_t; };

// The vector at an aligned address, in as few accesses as there can be. (A plain copy of a struct is split
// into its elements wherever nvcc does not see that the address is aligned.)
template <int V, class T> __device__ Vector<T, V> load_vector(const T* p) {
  return std::bit_cast<Vector<T, V>>(*reinterpret_cast<const typename WordOf<sizeof(T) * V>::type*>(p));
}

// Words to an aligned address of global memory: nvcc may split a store of uint4 all the same.
__device__ inline void store_words(void* p, const uint4& words) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(words.x),
               "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
}
__device__ inline void store_words(void* p, const uint2& words) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(p)), "r"(words.x),
               "r"(words.y)
               : "memory");
}
__device__ inline void store_words(void* p, uint32_t word) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "r"(word) : "memory");
}

// The same to an address of global memory.
template <int V, class T> __device__ void store_vector(T* p, const Vector<T, V>& values) {
  using Word = typename WordOf<sizeof(T) * V>::type;
  const Word words = std::bit_cast<Word>(values);
  if constexpr (V == 1) {
    *p = values.at[0];
  } else if constexpr (sizeof(Word) > 16) {
#pragma unroll
    for (size_t i = 0; i < sizeof(Word) / 16; ++i)
      store_words(reinterpret_cast<char*>(p) + 16 * i, words.at[i]);
  } else if constexpr (sizeof(Word) >= 4) {
    store_words(p, words);
  } else {
    *reinterpret_cast<Word*>(p) = words;
  }
}

template <class T, int V> __device__ Vector<T, V> load(const void* base, int64_t offset, bool dense) {
  const T* p = static_cast<const T*>(base) + offset;
  if constexpr (V > 1) {
    if (dense) return load_vector<V>(p);
  }
  Vector<T, V> result;
  const T value = *p;
#pragma unroll
  for (int v = 0; v < V; ++v) result.at[v] = value;
  return result;
}

// Whether V elements at a time are aligned in every operand, and never cross the end of a row.
template <int N>
bool takes_vectors(const detail::Walk<N>& walk, const void* const (&data)[N], const int64_t (&sizes)[N],
                   int64_t V) {
  const int last = walk.dims - 1;
  if (walk.sizes[last] % V != 0 || walk.strides[0][last] != 1) return false;
  for (int k = 0; k < N; ++k) {
    const int64_t stride = walk.strides[k][last];
    if (stride != 0 && stride != 1) return false;
    if (stride == 0) continue;
    if (reinterpret_cast<uintptr_t>(data[k]) % (V * sizes[k]) != 0) return false;
    for (int d = 0; d < last; ++d)
      if (walk.strides[k][d] % V != 0) return false;
  }
  return true;
}

// The operands of a Map, the output first, in groups of elements along the innermost dimension: one, or as
// many as are read and written at once.
template <int N> struct MapOperands {
  Walker<N> walk;
  void* data[N];
  bool repeats[N];  // one element for all of a group
  bool in_vectors;  // groups are vectors
};

// In vectors of V elements where that can be.
template <int N>
[[gnu::noinline]] MapOperands<N> map_operands(const detail::Walk<N>& walk, const void* const (&data)[N],
                                              const int64_t (&sizes)[N], int V) {
  const bool in_vectors = V > 1 && takes_vectors(walk, data, sizes, V);
  MapOperands<N> result{
      .walk = Walker(walk, in_vectors ? V : 1), .data = {}, .repeats = {}, .in_vectors = in_vectors};
  for (int k = 0; k < N; ++k) {
    result.data[k] = const_cast<void*>(data[k]);
    result.repeats[k] = walk.strides[k][walk.dims - 1] == 0;
  }
  return result;
}

template <int V, class F, class O, class... I, size_t... K>
__device__ void map_group(const MapOperands<sizeof...(I) + 1>& operands, const F& f, int64_t i,
                          std::index_sequence<K...>) {
  const auto at = operands.walk.at(i);
  const auto values = [&](auto... in) {
    Vector<O, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out.at[v] = f(static_cast<compute_t<I>>(in.at[v])...);
    return out;
  };
  store_vector<V>(static_cast<O*>(operands.data[0]) + at.of[0],
                  values(load<I, V>(operands.data[K + 1], at.of[K + 1], !operands.repeats[K + 1])...));
}

template <int V, class F, class O, class... I>
__global__ void __launch_bounds__(kThreads)
    map_kernel(const __grid_constant__ MapOperands<sizeof...(I) + 1> operands, F f) {
  grid_stride_loop(operands.walk.numel, [&](int64_t i) {
    map_group<V, F, O, I...>(operands, f, i, std::index_sequence_for<I...>{});
  });
}

template <class F, class O, class... I, size_t... K>
void launch_map_of(const detail::Map<F, O, I...>& map, std::index_sequence<K...>) {
  constexpr int V = static_cast<int>(16 / std::max({sizeof(O), sizeof(I)...}));
  const auto operands =
      map_operands<sizeof...(I) + 1>(map.walk, {map.out, map.in[K]...}, {sizeof(O), sizeof(I)...}, V);
  const auto groups = threads_for(operands.walk.numel);
  if (operands.in_vectors) {
    launch<map_kernel<V, F, O, I...>>("map", groups, operands, map.f);
  } else {
    launch<map_kernel<1, F, O, I...>>("map", groups, operands, map.f);
  }
}
template <class F, class O, class... I> void launch_map(const detail::Map<F, O, I...>& map) {
  if (map.walk.numel > 0) launch_map_of(map, std::index_sequence_for<I...>{});
}

template <class F, class O, class... I> void register_map() { register_kernel(launch_map<F, O, I...>); }

// Calls f.operator()<T>() for each of some types: registers a kernel for every dtype.
template <class... T, class F> void for_types(F f) { (f.template operator()<T>(), ...); }
template <class F> void for_floats(F f) { for_types<bf16, float, double>(f); }
template <class F> void for_numbers(F f) { for_types<uint8_t, int32_t, int64_t, bf16, float, double>(f); }
template <class F> void for_all_types(F f) {
  for_types<bool, uint8_t, int32_t, int64_t, bf16, float, double>(f);
}

}  // namespace tandem::cuda
