#include "ops/products/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "autograd/inference.h"
#include "autograd/parallel.h"
#include "autograd/tensor_impl.h"
#include "ops/linear_kernel.h"
#include "ops/loops/scratch.h"
#include "ops/products/tile_gemm.h"

namespace tandem::detail {
namespace {

constexpr int64_t kBlockRows = 192;   // of x, that stay in cache beside a strip
constexpr int64_t kReadingCosts = 8;  // of a strip, in rows
constexpr int64_t kStrip = kTileVectors * kTileLanes<float>;
constexpr int64_t kLine = 64 / sizeof(float);
constexpr int64_t kFetchingTiles = 4 * kStrip / kLine;  // share a strip: few lines at a time are on their way
constexpr int64_t kChunkProducts = int64_t{1} << 20;

int64_t strips_of(int64_t rows) { return (rows + kStrip - 1) / kStrip; }

// Strips of kStrip rows of the weight, each transposed: [strips, inputs, kStrip], zeros behind the last row.
std::shared_ptr<Storage> pack(const Tensor& weight) {
  const int64_t outputs = weight.shape()[0], inputs = weight.shape()[1], row = weight.strides()[0];
  const int64_t strips = strips_of(outputs);
  auto packed = std::make_shared<Storage>(strips * inputs * kStrip * int64_t{sizeof(float)}, kCpu);
  const float* from = weight.data<float>();
  float* to = reinterpret_cast<float*>(packed->data);
  const int64_t grain = kChunkProducts / (kReadingCosts * inputs * kStrip);
  parallel_for(strips, grain, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      tile_transpose(std::min(kStrip, outputs - s * kStrip), inputs, from + s * kStrip * row, row, 1.0f,
                     to + s * inputs * kStrip, kStrip);
  });
  return packed;
}

std::shared_ptr<Storage> packed(const Tensor& weight) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const TensorImpl& view = *weight.impl();
  Storage& storage = *view.storage;
  for (Storage::Packed& p : storage.packed) {
    if (p.offset != view.offset || p.shape != view.shape || p.strides != view.strides) continue;
    if (p.version != storage.version) p.storage = pack(weight), p.version = storage.version;
    return p.storage;
  }
  storage.packed.push_back({pack(weight), view.offset, view.shape, view.strides, storage.version});
  return storage.packed.back().storage;
}

// c[rows, cols] = act(a strip + bias), rows c_row apart, where cols is a number of whole vectors, or c has
// room for them. Tile by tile: c's lines come while a tile is multiplied, and are in cache for act.
void run_strip(const MatrixBatch& a, const float* strip, const float* bias, Activation f, int64_t cols,
               float* c, int64_t c_row) {
  float start[kStrip] = {};
  if (bias) std::copy_n(bias, cols, start);
  // The next strip is fetched by the first tiles.
  const int64_t fetching = cols == kStrip ? std::min(a.rows / kTileRows, kFetchingTiles) : 0,
                step = fetching > 0 ? std::min(kLine, (kStrip + fetching - 1) / fetching) : 0;
  const float* next = strip + a.cols * kStrip;
  const auto* x = static_cast<const float*>(a.data);
  for (int64_t i = 0; i < a.rows; i += kTileRows, x += kTileRows * a.row_stride, c += kTileRows * c_row) {
    const int64_t rows = std::min(kTileRows, a.rows - i);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t j = 0; j < cols; j += kLine) __builtin_prefetch(c + row * c_row + j, 1);
    if (i < fetching * kTileRows) {
      tile_kernel<float, kTileRows, kTileVectors, true>(a.cols, x, a.row_stride, a.col_stride, strip, kStrip,
                                                        c, c_row, start, 0, next, step);
      next += a.cols * step;
    } else {
      tile_gemm(rows, cols, a.cols, x, a.row_stride, a.col_stride, strip, kStrip, c, c_row, start);
    }
    with_activation(f, [&]<class F>() {
      if constexpr (!std::is_same_v<F, NoActivation>) {
        for (int64_t row = 0; row < rows; ++row) {
#pragma omp simd
          for (int64_t j = 0; j < cols; ++j) c[row * c_row + j] = F::value(c[row * c_row + j]);
        }
      }
    });
  }
}

bool fits(const Tensor& weight, const MatmulArgs& args) {
  const auto all_f32 = args.a.dtype == DType::f32 && args.b.dtype == DType::f32 &&
                       args.c.dtype == DType::f32 && (!args.bias || args.bias_dtype == DType::f32);
  return all_f32 && weight.device() == kCpu && weight.dtype() == DType::f32 && weight.strides()[1] == 1 &&
         args.batch == 1 && args.c.col_stride == 1 && args.a.cols > 0 && !args.accumulate &&
         !args.preactivation && !args.row_sums;
}

}  // namespace

bool packed_product(const Tensor& weight, const MatmulArgs& args) {
  if (!inference_enabled() || !fits(weight, args)) return false;
  const std::shared_ptr<Storage> held = packed(weight);
  const auto* strips = reinterpret_cast<const float*>(held->data);
  const auto* bias = static_cast<const float*>(args.bias);
  auto* c = static_cast<float*>(const_cast<void*>(args.c.data));
  const int64_t cols = args.c.cols, depth = args.a.cols, c_row = args.c.row_stride;
  const int64_t all_strips = strips_of(cols), blocks = (args.c.rows + kBlockRows - 1) / kBlockRows;
  const int64_t block = std::clamp(args.c.rows, kReadingCosts, kBlockRows);
  const int64_t grain = kChunkProducts / (block * depth * kStrip);
  parallel_for(blocks * all_strips, grain, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t row = part / all_strips * kBlockRows, s = part % all_strips, col = s * kStrip;
      const int64_t width = std::min(kStrip, cols - col);
      MatrixBatch a = args.a;
      a.data = static_cast<const float*>(a.data) + row * a.row_stride;
      a.rows = std::min(kBlockRows, args.a.rows - row);
      const float *strip = strips + s * depth * kStrip, *shift = bias ? bias + col : nullptr;
      float* to = c + row * c_row + col;
      if (width % kTileLanes<float> == 0) {
        run_strip(a, strip, shift, args.epilogue, width, to, c_row);
        continue;
      }
      float* room = scratch_of<float>(Slot::tile, a.rows * kStrip);
      run_strip(a, strip, shift, args.epilogue, width, room, kStrip);
      for (int64_t i = 0; i < a.rows; ++i) std::copy_n(room + i * kStrip, width, to + i * c_row);
    }
  });
  return true;
}

}  // namespace tandem::detail
