// Greedy decoding, beam search and sampling: milliseconds of CPU time of one thread, and where they go.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include "autograd/grad_mode.h"
#include "autograd/profiler.h"
#include "models/transformer/decoding.h"
#include "ops/ops.h"
#include "tools/bench/workloads.h"

using namespace tandem;

namespace {
double now() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}
template <class F> double best_ms(F f, int runs) {
  f();
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const double start = now();
    f();
    best = std::min(best, now() - start);
  }
  return best;
}
}  // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 5;
  const bool profile = argc > 2;
  const int64_t sentences = 64, steps = 64;
  models::Transformer model(bench::kTransformer);
  model.eval();
  std::vector<models::Ids> sources;
  SampleMaker make(1, DType::f32, kCpu);
  const auto flat = make.integers({sentences, 31}, 4, 10000).to_vector<int64_t>();
  for (int64_t i = 0; i < sentences; ++i) sources.emplace_back(flat.begin() + i * 31, flat.begin() + (i + 1) * 31);
  for (int64_t beam : {1, 4}) {
    const int64_t count = beam == 1 ? sentences : sentences / 4;
    const std::vector<models::Ids> some(sources.begin(), sources.begin() + count);
    size_t tokens = 0;
    double sum = 0;
    const auto run = [&] {
      tokens = 0, sum = 0;
      for (const auto& h : models::beam_search(model, some, {.beam = beam, .max_length = steps}))
        tokens += h.ids.size() + 1, sum += h.score;
    };
    const double ms = best_ms(run, runs);
    fmt::print("beam {} of {} sentences: {:.1f} ms, {:.3f} a step; {} tokens, scores {:.9g}\n", beam, count, ms,
               ms / steps, tokens, sum);
    if (profile && beam == 1) {
      const Profiler p;
      run();
      fmt::print("{}\n", p.table());
    }
  }
  {
    const NoGradGuard no_grad;
    models::Ids ids;
    for (auto& s : sources) ids.insert(ids.end(), s.begin(), s.end()), ids.push_back(3);
    const Tensor x = from_values(ids, {sentences, 32}), next = from_values(models::Ids(64, 7), {64});
    fmt::print("begin {:.1f} ms\n", best_ms([&] { model.begin(x); }, runs));
    fmt::print("begin and 64 steps {:.3f} ms each\n", best_ms([&] { auto s = model.begin(x); for (int i = 0; i < 64; ++i) model.step(s, next); }, runs) / 64);
    const auto product = [&](int64_t m, int64_t n, int64_t k) {
      const Tensor a = bench::normal({m, k}, 1), w = bench::normal({n, k}, 2), b = bench::normal({n}, 3);
      const double ms = best_ms([&] { for (int i = 0; i < 20; ++i) linear(a, w, b); }, 2 * runs) / 20;
      fmt::print("linear {} x {} -> {}: {:.3f} ms, {:.0f} GFLOP/s\n", m, k, n, ms, 2e-6 * m * n * k / ms);
      return ms;
    };
    const double a = product(64, 256, 256), b = product(64, 1024, 256), c = product(64, 256, 1024), d = product(64, 10000, 256);
    product(64, 768, 256);
    fmt::print("products of a step: {:.3f} ms\n", 3 * (6 * a + b + c) + d);
  }
  models::LanguageModel lm({.vocab = 10000, .dim = 256, .mlp_dim = 1024, .layers = 4});
  lm.eval();
  for (int64_t count : {1, 16}) {
    const double ms = best_ms([&] { models::sample(lm, {5, 6, 7}, count, {.length = 64, .top_k = 50}); }, runs);
    fmt::print("sample {}: {:.3f} ms a step\n", count, ms / 66);
  }
}
