#pragma once

namespace tandem {

inline constexpr int kMaxDims = 8;  // of a tensor; a kernel sees the passes of one as a ninth dimension

}  // namespace tandem
