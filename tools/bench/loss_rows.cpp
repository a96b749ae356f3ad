// The R-Drop loss over rows (value and gradient) beside a plain copy of the same logits.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <vector>

#include "autograd/parallel.h"
#include "ops/rdrop/cpu.h"

using namespace tandem;
using namespace tandem::rdrop;

namespace {

template <class F> double seconds(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class T>
void measure(const char* dtype, int64_t passes, int64_t units, int64_t classes, int64_t repeats) {
  const int64_t total = passes * units * classes;
  const auto logits = std::make_unique<T[]>(total), grad = std::make_unique<T[]>(total);
  std::vector<int64_t> target(units);
  uint64_t state = 1;
  for (int64_t i = 0; i < total; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    logits[i] = T(float(state >> 40) * 0x1p-22f - 2.0f);
  }
  for (int64_t u = 0; u < units; ++u) target[u] = u * 7919 % classes;
  CrossEntropyUnits<T> value_only{.problem = {.passes = passes,
                                              .units = units,
                                              .classes = classes,
                                              .alpha = 5,
                                              .divisor = double(units),
                                              .label_smoothing = 0.1},
                                  .x = {logits.get(), units * classes, classes},
                                  .grad = {},
                                  .target = target.data(),
                                  .valid = nullptr};
  CrossEntropyUnits<T> with_gradient = value_only, overwriting = value_only;
  with_gradient.grad = {grad.get(), units * classes, classes};
  overwriting.grad = {logits.get(), units * classes, classes};

  double copy = 1e9, loss = 1e9, value = 1e9, in_place = 1e9;
  for (int64_t r = 0; r < repeats; ++r) {
    copy = std::min(copy, seconds([&] {
                      parallel_for(total, 1 << 18, [&](int64_t begin, int64_t end) {
                        for (int64_t i = begin; i < end; ++i) grad[i] = T(float(logits[i]) * 1.5f);
                      });
                    }));
    loss = std::min(loss, seconds([&] { cross_entropy_on_cpu(with_gradient); }));
    value = std::min(value, seconds([&] { cross_entropy_on_cpu(value_only); }));
  }
  for (int64_t r = 0; r < 3; ++r)
    in_place = std::min(in_place, seconds([&] { cross_entropy_on_cpu(overwriting); }));
  const double bytes = 2.0 * double(total) * sizeof(T);
  fmt::print(
      "{:5} m = {} {:6} units x {:6} classes  copy {:7.2f} ms ({:5.1f} GB/s)  loss {:7.2f} ms = {:.2f}x copy "
      " "
      "in place {:.2f}x  value only {:.2f}x\n",
      dtype, passes, units, classes, copy * 1e3, bytes / copy / 1e9, loss * 1e3, loss / copy, in_place / copy,
      value / copy);
}

}  // namespace

int main() {
  fmt::print("threads: {}\n", num_threads());
  measure<float>("f32", 2, 2048, 10152, 15);
  measure<float>("f32", 2, 1024, 32768, 15);
  measure<bf16>("bf16", 2, 2048, 10152, 15);
  for (const int64_t passes : {2, 3, 4, 5, 8}) {
    measure<float>("f32", passes, 4096, 1000, 15);
    measure<float>("f32", passes, 512, 50257, 5);
    measure<float>("f32", passes, 64, 10, 1000);
  }
}
