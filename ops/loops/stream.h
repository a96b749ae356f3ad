// Writes of more than the caches hold.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace tandem::detail {

// Outputs from here on are worth writing past the caches.
inline constexpr int64_t kStreamBytes = int64_t{8} << 20;

// A cache line to `to`, where one begins, without reading it before. Other threads may read it after
// stream_end().
inline void stream_line(void* to, const void* from) {
#ifdef __SSE2__
  for (int k = 0; k < 4; ++k)
    _mm_stream_si128(static_cast<__m128i*>(to) + k, _mm_loadu_si128(static_cast<const __m128i*>(from) + k));
#else
  std::memcpy(to, from, 64);
#endif
}
inline void stream_end() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

}  // namespace tandem::detail
