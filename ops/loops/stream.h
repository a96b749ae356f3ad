// Writes of more than the caches hold.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace tandem::detail {

// Outputs of so many bytes are worth writing past the caches.
inline constexpr int64_t kStreamBytes = int64_t{8} << 20;

// A cache line to `to`, where one begins, without reading it first. In one instruction where there is one for
// a whole line: parts of lines wait for each other, and reads of others take their places. Other threads may
// read it after stream_end().
inline void stream_line(void* to, const void* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
#elif defined(__AVX__)
  for (int k = 0; k < 2; ++k)
    _mm256_stream_si256(static_cast<__m256i*>(to) + k,
                        _mm256_loadu_si256(static_cast<const __m256i*>(from) + k));
#elif defined(__SSE2__)
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

// memcpy by such lines.
inline void stream_copy(void* to, const void* from, int64_t bytes) {
  auto* out = static_cast<char*>(to);
  const auto* in = static_cast<const char*>(from);
  int64_t at = std::min(bytes, static_cast<int64_t>(-reinterpret_cast<uintptr_t>(out) % 64));
  std::memcpy(out, in, at);
  for (; at + 64 <= bytes; at += 64) stream_line(out + at, in + at);
  std::memcpy(out + at, in + at, bytes - at);
}

}  // namespace tandem::detail
