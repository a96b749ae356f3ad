#include "tools/tandem/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "autograd/grad_mode.h"
#include "autograd/parallel.h"
#include "nn/init.h"

namespace tandem::command {
namespace {

void print(const Measurement& m) {
  const auto rate = [&](double amount) {
    return amount > 0 ? fmt::format("{:.1f}", amount / m.median / 1e9) : "-";
  };
  fmt::print("{:<46} {:>10.3f} {:>17} {:>8} {:>9} {:>9.1f} {:>7}\n", m.name, m.median * 1e3,
             fmt::format("{:.3f}-{:.3f}", m.low * 1e3, m.high * 1e3), rate(m.work.bytes), rate(m.work.flops),
             m.peak_bytes / 1e6, m.system_calls);
  std::fflush(stdout);
}

}  // namespace

Measurement Bench::time(const std::string& name, Work work, const std::function<void()>& prepare,
                        const std::function<void()>& run) const {
  Backend& b = backend(nn::InitScope::current().device);
  for (int i = 0; i < 2; ++i) prepare(), run();
  b.synchronize();
  const int64_t before = b.stats().in_use, calls = b.stats().system_calls;
  b.reset_peak();
  std::vector<double> seconds;
  for (int i = 0; i < repeat_; ++i) {
    prepare();
    const auto start = b.mark();
    run();
    seconds.push_back(b.mark()->seconds_since(*start));
  }
  std::sort(seconds.begin(), seconds.end());
  return {name,
          seconds[seconds.size() / 2],
          seconds.front(),
          seconds.back(),
          work,
          static_cast<double>(b.stats().peak - before),
          b.stats().system_calls - calls};
}

Measurement Bench::measure(const std::string& name, Work work, const std::function<void()>& run) {
  const Measurement m = time(
      name, work, [] {}, run);
  print(m);
  add({{"name", m.name},
       {"median_s", m.median},
       {"min_s", m.low},
       {"max_s", m.high},
       {"bytes", m.work.bytes},
       {"flops", m.work.flops},
       {"peak_bytes", m.peak_bytes},
       {"system_allocations", m.system_calls}});
  return m;
}

void Bench::header(const std::string& title) {
  fmt::print("\n{}\n{:<46} {:>10} {:>17} {:>8} {:>9} {:>9} {:>7}\n", title, "", "median ms", "range", "GB/s",
             "GFLOP/s", "peak MB", "allocs");
}

void plain_copy(const Tensor& from, const Tensor& to) {
  const NoGradGuard no_grad;
  if (from.device() != kCpu) {
    to.copy_(from);
    return;
  }
  const int64_t n = from.passes() * from.numel();
  parallel_for(n, 1 << 18, [&](int64_t b, int64_t e) {
    std::memcpy(to.data<float>() + b, from.data<float>() + b, (e - b) * sizeof(float));
  });
}

}  // namespace tandem::command
