#include <algorithm>
#include <cstring>
#include <type_traits>

#include "autograd/parallel.h"
#include "ops/products/matmul_kernel.h"

namespace tandem::detail {
namespace {

template <class From, class To> void copy(const MatrixBatch& from, const MatrixBatch& to, int64_t batch) {
  const From* x = static_cast<const From*>(from.data);
  To* y = static_cast<To*>(const_cast<void*>(to.data));
  const int64_t rows = from.rows, cols = from.cols;
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(cols, 1));
  parallel_for(batch * rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t i = r / rows, row = r % rows;
      const From* source = x + i * from.batch_stride + row * from.row_stride;
      To* target = y + i * to.batch_stride + row * to.row_stride;
      if (from.col_stride == 1 && to.col_stride == 1) {
        if constexpr (std::is_same_v<From, To>) {
          std::memcpy(target, source, static_cast<size_t>(cols) * sizeof(To));
        } else {
          for (int64_t col = 0; col < cols; ++col)
            target[col] = static_cast<To>(static_cast<float>(source[col]));
        }
      } else {
        for (int64_t col = 0; col < cols; ++col)
          target[col * to.col_stride] = static_cast<To>(source[col * from.col_stride]);
      }
    }
  });
}

}  // namespace

void copy_matrices(const MatrixBatch& from, const MatrixBatch& to, int64_t batch) {
  if (batch <= 0 || from.rows <= 0 || from.cols <= 0) return;
  if (from.dtype == DType::bf16)
    return to.dtype == DType::bf16 ? copy<bf16, bf16>(from, to, batch) : copy<bf16, float>(from, to, batch);
  return to.dtype == DType::bf16 ? copy<float, bf16>(from, to, batch) : copy<float, float>(from, to, batch);
}

}  // namespace tandem::detail
