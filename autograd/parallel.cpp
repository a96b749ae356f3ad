#include "autograd/parallel.h"

#include <omp.h>

#include <mutex>

#include "autograd/error.h"
#include "autograd/scope.h"

namespace tandem {

int num_threads() { return omp_get_max_threads(); }

void set_num_threads(int n) {
  check<ConfigError>(n >= 1, "threads: expected a number >= 1, got {}", n);
  omp_set_num_threads(n);
}

namespace detail {

void run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  if (omp_in_parallel() || omp_get_max_threads() == 1) {
    for (int64_t i = 0; i < chunks; ++i) body(context, i);
    return;
  }
  std::exception_ptr error;
  std::mutex mutex;
  const std::string& path = Scope::current();
#pragma omp parallel
  {
    Scope scope(path);  // so that errors of every thread name the module
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < chunks; ++i) {
      try {
        body(context, i);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace detail
}  // namespace tandem
