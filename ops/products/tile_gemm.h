// Small matrix products inside one thread, on tiles that are in cache: the parts of fused kernels
// (attention).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace tandem::detail {

#if defined(__AVX512F__)
inline constexpr int64_t kTileBytes = 64, kTileVectors = 4;
#elif defined(__AVX__)
inline constexpr int64_t kTileBytes = 32, kTileVectors = 2;
#else
inline constexpr int64_t kTileBytes = 16, kTileVectors = 2;
#endif
inline constexpr int64_t kTileRows = 6;  // 6 x 4 (6 x 2) vectors of sums fill the registers

template <class C> inline constexpr int64_t kTileLanes = kTileBytes / static_cast<int64_t>(sizeof(C));

// `n` rounded up to whole vectors: the row stride, and the width, of a tile of n columns.
template <class C> constexpr int64_t tile_width(int64_t n) {
  return (n + kTileLanes<C> - 1) / kTileLanes<C> * kTileLanes<C>;
}

// c[R, V vectors] = (base +) a[R, depth] @ b[depth, V vectors], where base may be c, or one row for all (of
// stride 0); with Fetch, `depth` times `step` elements from `ahead` on, step at most a line of 64 bytes, are
// fetched into the cache meanwhile.
template <class C, int R, int V, bool Fetch = false>
void tile_kernel(int64_t depth, const C* a, int64_t a_row, int64_t a_col, const C* b, int64_t b_row, C* c,
                 int64_t c_row, const C* base, int64_t base_row, const C* ahead = nullptr, int64_t step = 0) {
  typedef C Vector __attribute__((vector_size(kTileBytes), aligned(alignof(C)), may_alias));
  Vector sums[R][V] = {};
  for (int64_t p = 0; p < depth; ++p, a += a_col, b += b_row) {
    const Vector* row = reinterpret_cast<const Vector*>(b);
    if constexpr (Fetch) __builtin_prefetch(ahead + p * step);
#pragma GCC unroll 6
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) sums[i][j] += a[i * a_row] * row[j];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < R; ++i) {
    Vector* row = reinterpret_cast<Vector*>(c + i * c_row);
    const Vector* from = base ? reinterpret_cast<const Vector*>(base + i * base_row) : nullptr;
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) row[j] = base ? from[j] + sums[i][j] : sums[i][j];
  }
}

// c = (base +) a @ b: a [rows, depth] with any strides; b [depth, cols] and c [rows, cols] with dense rows of
// stride b_row, c_row, readable and written up to tile_width(cols). Sums over depth are made in order.
template <class C>
void tile_gemm(int64_t rows, int64_t cols, int64_t depth, const C* a, int64_t a_row, int64_t a_col,
               const C* b, int64_t b_row, C* c, int64_t c_row, const C* base = nullptr,
               int64_t base_row = 0) {
  using Kernel = void (*)(int64_t, const C*, int64_t, int64_t, const C*, int64_t, C*, int64_t, const C*,
                          int64_t, const C*, int64_t);
  static constexpr auto kernels = []<size_t... I>(std::index_sequence<I...>) {
    return std::array<Kernel, sizeof...(I)>{
        tile_kernel<C, static_cast<int>(I) % kTileRows + 1, static_cast<int>(I) / kTileRows + 1>...};
  }
  (std::make_index_sequence<kTileRows * kTileVectors>());
  const int64_t vectors = tile_width<C>(cols) / kTileLanes<C>;
  const int64_t blocks = (vectors + kTileVectors - 1) / kTileVectors;
  for (int64_t block = 0, v = 0; block < blocks; ++block) {
    const int64_t width = (vectors - v + blocks - block - 1) / (blocks - block), at = v * kTileLanes<C>;
    for (int64_t i = 0; i < rows; i += kTileRows) {
      kernels[(width - 1) * kTileRows + std::min(kTileRows, rows - i) - 1](
          depth, a + i * a_row, a_row, a_col, b + at, b_row, c + i * c_row + at, c_row,
          base ? base + i * base_row + at : nullptr, base_row, nullptr, 0);
    }
    v += width;
  }
}

// out[j, i] = factor * x[i, j]: [rows, cols] with dense rows becomes [cols, rows], zeros up to out_row >=
// rows.
template <class C>
void tile_transpose(int64_t rows, int64_t cols, const C* x, int64_t x_row, C factor, C* out,
                    int64_t out_row) {
  int64_t i = 0;
  if constexpr (sizeof(C) == 4) {  // 4 x 4 at a time, in vectors of 16 bytes
    typedef C Quad __attribute__((vector_size(16), aligned(4), may_alias));
    for (; i + 4 <= rows; i += 4) {
      int64_t j = 0;
      for (; j + 4 <= cols; j += 4) {
        const C* from = x + i * x_row + j;
        const auto load = [&](int k) { return *reinterpret_cast<const Quad*>(from + k * x_row) * factor; };
        const Quad a = load(0), b = load(1), c = load(2), d = load(3);
        const Quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                   ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const Quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5),
                   cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        const auto store = [&](int k, Quad q) { *reinterpret_cast<Quad*>(out + (j + k) * out_row + i) = q; };
        store(0, __builtin_shufflevector(ab, cd, 0, 1, 4, 5));
        store(1, __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
        store(2, __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5));
        store(3, __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7));
      }
      for (; j < cols; ++j)
        for (int64_t k = i; k < i + 4; ++k) out[j * out_row + k] = x[k * x_row + j] * factor;
    }
  }
  for (; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) out[j * out_row + i] = x[i * x_row + j] * factor;
  for (int64_t j = 0; j < cols; ++j) std::fill(out + j * out_row + rows, out + (j + 1) * out_row, C(0));
}

}  // namespace tandem::detail
