#include "ops/loops/transpose.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "autograd/parallel.h"
#include "ops/loops/stream.h"

namespace tandem::detail {
namespace {

constexpr int64_t kSide = 16;    // of a tile: 4-byte elements of a cache line
constexpr int64_t kPanel = 256;  // of a task, along both dimensions: tiles whose lines are neighbours

// out[j * out_stride + i] = in[i * in_stride + j] for i < rows, j < columns.
template <class T>
void copy_tile(T* out, int64_t out_stride, const T* in, int64_t in_stride, int64_t rows, int64_t columns,
               bool streams) {
  if (rows < kSide || columns < kSide) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) out[j * out_stride + i] = in[i * in_stride + j];
    return;
  }
  T tile[kSide][kSide];
  for (int64_t i = 0; i < kSide; ++i)
    for (int64_t j = 0; j < kSide; ++j) tile[j][i] = in[i * in_stride + j];
  if constexpr (sizeof tile[0] == 64) {
    if (streams) {
      for (int64_t j = 0; j < kSide; ++j) stream_line(out + j * out_stride, tile[j]);
      return;
    }
  }
  for (int64_t j = 0; j < kSide; ++j) std::memcpy(out + j * out_stride, tile[j], sizeof tile[j]);
}

// Panels of the dimensions `row`, which is dense in `out`, and `column`, which is dense in `in`.
template <class T> void copy_panels(const Walk<2>& walk, int row, int column, T* out, const T* in) {
  const int64_t rows = walk.sizes[row], columns = walk.sizes[column];
  const int64_t row_panels = (rows + kPanel - 1) / kPanel, column_panels = (columns + kPanel - 1) / kPanel;
  const int64_t in_stride = walk.strides[1][row], out_stride = walk.strides[0][column];
  const int64_t tasks = walk.numel / (rows * columns) * row_panels * column_panels;
  // Lines that lie a power of two apart push each other out of the caches before they are complete.
  bool streams = walk.numel * static_cast<int64_t>(sizeof(T)) >= kStreamBytes &&
                 reinterpret_cast<uintptr_t>(out) % 64 == 0;
  for (int d = 0; d < walk.dims; ++d) streams &= d == row || walk.strides[0][d] % kSide == 0;
  parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first_row = task % row_panels * kPanel;
      const int64_t first_column = task / row_panels % column_panels * kPanel;
      int64_t rest = task / (row_panels * column_panels), out_at = 0, in_at = 0;
      for (int d = walk.dims - 1; d >= 0; --d) {
        if (d == row || d == column) continue;
        out_at += rest % walk.sizes[d] * walk.strides[0][d];
        in_at += rest % walk.sizes[d] * walk.strides[1][d];
        rest /= walk.sizes[d];
      }
      const int64_t rows_end = std::min(first_row + kPanel, rows);
      const int64_t columns_end = std::min(first_column + kPanel, columns);
      for (int64_t r = first_row; r < rows_end; r += kSide) {
        for (int64_t c = first_column; c < columns_end; c += kSide) {
          copy_tile(out + out_at + c * out_stride + r, out_stride, in + in_at + r * in_stride + c, in_stride,
                    std::min(kSide, rows_end - r), std::min(kSide, columns_end - c), streams);
        }
      }
    }
    if (streams) stream_end();
  });
}

}  // namespace

bool copy_transposed(const Walk<2>& walk, int64_t size, void* out, const void* in) {
  const auto dense_along = [&](int operand) {
    const int64_t* strides = walk.strides[operand];
    return static_cast<int>(std::find(strides, strides + walk.dims, 1) - strides);
  };
  const int row = dense_along(0), column = dense_along(1);
  if (row == walk.dims || column == walk.dims || row == column) return false;
  // Runs of a few elements have nothing to gain.
  if (walk.sizes[row] < kSide / 2 || walk.sizes[column] < kSide / 2) return false;
  const auto copy = [&]<class T>(T*) {
    copy_panels(walk, row, column, static_cast<T*>(out), static_cast<const T*>(in));
    return true;
  };
  switch (size) {
    case 1:
      return copy(static_cast<uint8_t*>(nullptr));
    case 2:
      return copy(static_cast<uint16_t*>(nullptr));
    case 4:
      return copy(static_cast<uint32_t*>(nullptr));
    default:
      return copy(static_cast<uint64_t*>(nullptr));
  }
}

}  // namespace tandem::detail
