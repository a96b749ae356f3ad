#include "nn/layers/options.h"

#include "autograd/error.h"

namespace tandem::nn {

void check_sizes(const Module& module, const char* layer, std::initializer_list<int64_t> sizes) {
  const Scope scope(module.path());
  for (const int64_t size : sizes)
    check<ConfigError>(size >= 1, "{}: expected sizes of at least 1, got {}", layer, to_string(Shape(sizes)));
}

void check_rate(const Module& module, const char* layer, double p) {
  const Scope scope(module.path());
  check<ConfigError>(p >= 0 && p < 1, "{}: expected a rate in [0, 1), got {}", layer, p);
}

}  // namespace tandem::nn
