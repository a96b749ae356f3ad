// Rows in chunks, where the sums of columns are made apart for each.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/loops/column_sums.h"

namespace tandem::cuda {

// Of kernels with `columns` blocks across and `down` threads of a block down: enough chunks to fill a large
// device, of at least 32 rows each; and that no thread adds up more than a stretch of rows.
struct RowChunks {
  int64_t rows, count;  // of a chunk; chunks. At least 1 each
  RowChunks(int64_t all, int64_t columns, int down) {
    const int64_t most = std::max<int64_t>(std::max<int64_t>(1, 2048 / columns), all / (kStretch * down));
    const int64_t wanted = std::clamp<int64_t>((all + 31) / 32, 1, std::min<int64_t>(most, 65535));
    rows = std::max<int64_t>(1, (all + wanted - 1) / wanted);
    count = std::max<int64_t>(1, (all + rows - 1) / rows);
  }
};

}  // namespace tandem::cuda
