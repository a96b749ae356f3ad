// The one thread pool (OpenMP's). Work is cut into chunks whose size does not depend on the number of
// threads, so that a kernel which reduces per chunk gives the same bits for any number of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

namespace tandem {

int num_threads();            // threads that parallel_for may use
void set_num_threads(int n);  // n >= 1; ConfigError otherwise

namespace detail {
void run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context);
}

// Calls body(begin, end) over [0, n) in chunks of `grain`; on the calling thread when there is one chunk.
// Exceptions thrown by a body are rethrown here.
template <class Body> void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t chunks = (n + grain - 1) / grain;
  if (chunks == 1) return body(int64_t{0}, n);
  struct Context {
    Body& body;
    int64_t n, grain;
  } context{body, n, grain};
  detail::run_chunks(
      chunks,
      [](void* p, int64_t chunk) {
        auto& c = *static_cast<Context*>(p);
        c.body(chunk * c.grain, std::min(c.n, (chunk + 1) * c.grain));
      },
      &context);
}

}  // namespace tandem
