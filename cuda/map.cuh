// Kernels of elementwise work (ops/loops/map.h): the functors of the CPU's loops over any strides. Where the
// innermost dimension is dense, or one value, in every operand, a thread takes 16 bytes at a time.
#pragma once

#include <bit>
#include <utility>

#include "autograd/device_kernel.h"
#include "cuda/launch.cuh"
#include "ops/loops/map.h"

namespace tandem::cuda {

// V values of T that are read and written at once.
template <class T, int V>
struct alignas(sizeof(T) * V) Vector {
  T at[V];
};

// Words of the machine that a vector is made of.
template <int bytes>
struct WordOf {
  struct type {
    uint4 at[bytes / 16];
  };
};
template <>
struct WordOf<16> {
  using type = uint4;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<4> {
  using type = uint32_t;
};
template <>
struct WordOf<2> {
  using type = uint16_t;
};
template <>
struct WordOf<1> {
  using type = uint8_t;
};

// The vector at an aligned address, in as few accesses as there can be. (A plain copy of a struct is split
// into its elements wherever nvcc does not see that the address is aligned.)
template <int V, class T>
__device__ Vector<T, V> load_vector(const T* p) {
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
template <int V, class T>
__device__ void store_vector(T* p, const Vector<T, V>& values) {
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

// i = quotient * size + rest; divisions of 64 bits are slow, and mostly not needed.
__device__ inline int64_t divide(int64_t& i, int64_t size) {
  int64_t quotient;
  if (((i | size) >> 32) == 0) {
    quotient = static_cast<uint32_t>(i) / static_cast<uint32_t>(size);
  } else {
    quotient = i / size;
  }
  const int64_t rest = i - quotient * size;
  i = quotient;
  return rest;
}

template <class T, int V>
__device__ Vector<T, V> load(const void* base, int64_t offset, bool dense) {
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

template <int V, class F, class O, class... I, size_t... K>
__device__ void map_one(const detail::Map<F, O, I...>& map, int64_t i, std::index_sequence<K...>) {
  constexpr int N = sizeof...(I) + 1;
  const auto& walk = map.walk;
  int64_t at[N] = {};
  int64_t rest = i * V;
  bool dense[N];
#pragma unroll
  for (int k = 0; k < N; ++k) dense[k] = false;
    // The innermost dimension first; constant indices keep the walk in the parameters' bank.
#pragma unroll
  for (int d = kMaxDims; d >= 0; --d) {
    if (d >= walk.dims) continue;
    const int64_t index = d == 0 ? rest : divide(rest, walk.sizes[d]);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      at[k] += index * walk.strides[k][d];
      if (d == walk.dims - 1) dense[k] = walk.strides[k][d] == 1;
    }
  }
  const auto values = [&](auto... in) {
    Vector<O, V> out;
#pragma unroll
    for (int v = 0; v < V; ++v) out.at[v] = map.f(static_cast<compute_t<I>>(in.at[v])...);
    return out;
  };
  store_vector<V>(map.out + at[0], values(load<I, V>(map.in[K], at[K + 1], dense[K + 1])...));
}

template <int V, class F, class O, class... I>
__global__ void __launch_bounds__(kThreads) map_kernel(detail::Map<F, O, I...> map) {
  grid_stride_loop(map.walk.numel / V,
                   [&](int64_t i) { map_one<V>(map, i, std::index_sequence_for<I...>{}); });
}

// Whether V elements at a time are aligned in every operand, and never cross the end of a row.
template <int V, int N>
bool takes_vectors(const detail::Walk<N>& walk, const void* const (&bases)[N], const int64_t (&sizes)[N]) {
  const int last = walk.dims - 1;
  if (walk.sizes[last] % V != 0 || walk.strides[0][last] != 1) return false;
  for (int k = 0; k < N; ++k) {
    const int64_t stride = walk.strides[k][last];
    if (stride != 0 && stride != 1) return false;
    if (stride == 0) continue;
    if (reinterpret_cast<uintptr_t>(bases[k]) % (V * sizes[k]) != 0) return false;
    for (int d = 0; d < last; ++d)
      if (walk.strides[k][d] % V != 0) return false;
  }
  return true;
}

template <class F, class O, class... I>
void launch_map(const detail::Map<F, O, I...>& map) {
  constexpr int N = sizeof...(I) + 1;
  constexpr int V = static_cast<int>(16 / std::max({sizeof(O), sizeof(I)...}));
  if (map.walk.numel == 0) return;
  int64_t sizes[N] = {sizeof(O), sizeof(I)...};
  const void* bases[N] = {map.out};
  for (int k = 1; k < N; ++k) bases[k] = map.in[k - 1];
  if (V > 1 && takes_vectors<V>(map.walk, bases, sizes)) {
    launch<map_kernel<V, F, O, I...>>("map", threads_for(map.walk.numel / V), map);
  } else {
    launch<map_kernel<1, F, O, I...>>("map", threads_for(map.walk.numel), map);
  }
}

template <class F, class O, class... I>
void register_map() {
  register_kernel(launch_map<F, O, I...>);
}

// Calls f.operator()<T>() for each of some types: registers a kernel for every dtype.
template <class... T, class F>
void for_types(F f) {
  (f.template operator()<T>(), ...);
}
template <class F>
void for_floats(F f) {
  for_types<bf16, float, double>(f);
}
template <class F>
void for_numbers(F f) {
  for_types<uint8_t, int32_t, int64_t, bf16, float, double>(f);
}
template <class F>
void for_all_types(F f) {
  for_types<bool, uint8_t, int32_t, int64_t, bf16, float, double>(f);
}
template <class F>  // to go
void ForFloats(F f) {
  for_floats(f);
}

}  // namespace tandem::cuda
