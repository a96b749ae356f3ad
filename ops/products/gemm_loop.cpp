#include "ops/products/gemm_loop.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "autograd/parallel.h"
#include "ops/loops/math.h"
#include "ops/loops/scratch.h"

namespace tandem::detail {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// A tile of kRows x (2 vectors) of c lives in 12 registers while k runs; kBlockM x kBlockN of c lives in L2
// while blocks of kBlockK are packed: A in strips of kRows rows, B in strips of kCols columns.
template <class T> struct Tiling {
  typedef T Vector __attribute__((vector_size(kVectorBytes), may_alias));
  static constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));
  static constexpr int64_t kRows = 6, kCols = 2 * kLanes;
  static constexpr int64_t kBlockM = 96, kBlockN = 128, kBlockK = 256;
};

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Packs x[i, p] (i < rows, p < depth) into strips of `unit` rows, p outermost in a strip, zeros past the end.
template <class T>
void pack_strips(const T* x, int64_t row_stride, int64_t depth_stride, int64_t rows, int64_t depth,
                 int64_t unit, T* out) {
  for (int64_t begin = 0; begin < rows; begin += unit, out += unit * depth) {
    const int64_t used = std::min(unit, rows - begin);
    const T* strip = x + begin * row_stride;
    if (row_stride == 1 && used == unit) {
      for (int64_t p = 0; p < depth; ++p)
        std::memcpy(out + p * unit, strip + p * depth_stride, static_cast<size_t>(unit) * sizeof(T));
      continue;
    }
    if (used < unit) std::fill(out, out + unit * depth, T(0));
    for (int64_t i = 0; i < used; ++i)
      for (int64_t p = 0; p < depth; ++p) out[p * unit + i] = strip[i * row_stride + p * depth_stride];
  }
}

// tile[i, j] += sum_p a[p, i] b[p, j] for one packed strip of each.
template <class T> void micro_kernel(int64_t depth, const T* a, const T* b, T* tile, int64_t tile_stride) {
  using K = Tiling<T>;
  using Vector = typename K::Vector;
  Vector sums[K::kRows][2] = {};
  for (int64_t p = 0; p < depth; ++p, a += K::kRows, b += K::kCols) {
    const Vector* row = reinterpret_cast<const Vector*>(b);
    const Vector left = row[0], right = row[1];
#pragma GCC unroll 6
    for (int i = 0; i < K::kRows; ++i) {
      sums[i][0] += a[i] * left;
      sums[i][1] += a[i] * right;
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < K::kRows; ++i) {
    Vector* row = reinterpret_cast<Vector*>(tile + i * tile_stride);
    row[0] += sums[i][0];
    row[1] += sums[i][1];
  }
}

template <class T> T activate(Activation f, T x) {
  switch (f) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < T(0) ? T(0) : x;  // NaN passes
    case Activation::gelu:
      return math::vanishing(T(0.5) * std::erfc(-x * T(std::numbers::sqrt2 / 2)), x);
    case Activation::gelu_tanh: {
      const T inner = T(std::numbers::sqrt2 * std::numbers::inv_sqrtpi) * (x + T(0.044715) * x * x * x);
      return math::vanishing(T(0.5) * (T(1) + std::tanh(inner)), x);
    }
  }
  return x;
}

}  // namespace

template <class T>
void gemm_loop(int64_t batch, int64_t m, int64_t n, int64_t k, const T* a, Strides as, const T* b, Strides bs,
               T* c, Strides cs, const T* bias, Activation epilogue, bool accumulate) {
  using K = Tiling<T>;
  if (batch <= 0 || m <= 0 || n <= 0) return;
  const int64_t blocks_m = (m + K::kBlockM - 1) / K::kBlockM, blocks_n = (n + K::kBlockN - 1) / K::kBlockN;
  const int64_t block_cost = std::min(m, K::kBlockM) * std::min(n, K::kBlockN) * std::max<int64_t>(k, 1);
  const int64_t grain =
      std::max<int64_t>(1, (int64_t{1} << 16) / block_cost);  // below 2^16 products a fork costs more
  parallel_for(batch * blocks_m * blocks_n, grain, [&](int64_t begin, int64_t end) {
    constexpr int64_t kPadM = round_up(K::kBlockM, K::kRows), kPadN = round_up(K::kBlockN, K::kCols);
    T* packed_a = scratch_of<T>(Slot::tile, (kPadM + kPadN) * K::kBlockK + kPadM * kPadN);
    T* packed_b = packed_a + kPadM * K::kBlockK;
    T* tile = packed_b + kPadN * K::kBlockK;
    for (int64_t block = begin; block < end; ++block) {
      const int64_t i = block / (blocks_m * blocks_n), rest = block % (blocks_m * blocks_n);
      const int64_t row = rest / blocks_n * K::kBlockM, col = rest % blocks_n * K::kBlockN;
      const int64_t rows = std::min(K::kBlockM, m - row), cols = std::min(K::kBlockN, n - col);
      const int64_t width = round_up(cols, K::kCols);
      std::fill(tile, tile + round_up(rows, K::kRows) * width, T(0));
      for (int64_t p = 0; p < k; p += K::kBlockK) {
        const int64_t depth = std::min(K::kBlockK, k - p);
        pack_strips(a + i * as.batch + row * as.row + p * as.col, as.row, as.col, rows, depth, K::kRows,
                    packed_a);
        pack_strips(b + i * bs.batch + p * bs.row + col * bs.col, bs.col, bs.row, cols, depth, K::kCols,
                    packed_b);
        for (int64_t x = 0; x < cols; x += K::kCols)
          for (int64_t y = 0; y < rows; y += K::kRows)
            micro_kernel(depth, packed_a + y * depth, packed_b + x * depth, tile + y * width + x, width);
      }
      T* out = c + i * cs.batch + row * cs.row + col * cs.col;
      for (int64_t y = 0; y < rows; ++y)
        for (int64_t x = 0; x < cols; ++x) {
          T& value = out[y * cs.row + x * cs.col];
          const T sum = tile[y * width + x] + (bias ? bias[col + x] : T(0));
          value = activate(epilogue, sum) + (accumulate ? value : T(0));
        }
    }
  });
}

template void gemm_loop<float>(int64_t, int64_t, int64_t, int64_t, const float*, Strides, const float*,
                               Strides, float*, Strides, const float*, Activation, bool);
template void gemm_loop<double>(int64_t, int64_t, int64_t, int64_t, const double*, Strides, const double*,
                                Strides, double*, Strides, const double*, Activation, bool);

}  // namespace tandem::detail
