// What the sums of gradients over ranks take: mpirun -n N bench_rank_sums. A row a size: seconds of one sum
// (median of 15, of the slowest rank), and the rate at which a rank's bytes are summed.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "autograd/makers.h"
#include "autograd/tensor.h"
#include "nn/ranks/join.h"

int main() {
  using namespace tandem;
  const std::unique_ptr<Ranks> ranks = nn::join_ranks();
  if (!ranks) return std::fprintf(stderr, "usage: mpirun -n N bench_rank_sums\n"), 2;
  for (const int64_t kilobytes : {1, 64, 1024, 4096, 16384, 90000}) {
    const Tensor x = ones({kilobytes * 256});
    std::vector<double> seconds;
    for (int i = 0; i < 15; ++i) {
      double all = 0;
      ranks->sum({&all, 1});
      const auto start = std::chrono::steady_clock::now();
      for (int64_t begin = 0; begin < x.numel(); begin += 1 << 20)  // in buckets, as GradientSum does
        ranks->begin_sum(x.slice(0, begin, std::min<int64_t>(begin + (1 << 20), x.numel())));
      ranks->end_sums();
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(seconds.begin(), seconds.end());
    const std::string own = std::to_string(seconds[seconds.size() / 2]);
    double median = 0;
    for (const std::string& text : ranks->gather(own)) median = std::max(median, std::stod(text));
    if (ranks->first())
      std::printf("{\"ranks\": %d, \"kilobytes\": %lld, \"seconds\": %.6f}\n", ranks->size(),
                  static_cast<long long>(kilobytes), median);
  }
  return 0;
}
