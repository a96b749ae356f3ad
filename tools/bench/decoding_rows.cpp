// Decoding: milliseconds a step of greedy and beam search and of sampling, beside the products that a step
// of so many rows consists of. The time is the process's on the CPU: another program's does not count.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "autograd/grad_mode.h"
#include "models/transformer/decoding.h"
#include "ops/ops.h"
#include "tools/bench/workloads.h"

using namespace tandem;

namespace {

constexpr int64_t kDecoded = 64, kSteps = 64;  // sentences of kTokens each, target tokens

double milliseconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}
// The least of several runs.
template <class F> double time_of(int runs, F run) {
  run();
  double least = 1e30;
  for (int i = 0; i < runs; ++i) {
    const double start = milliseconds();
    run();
    least = std::min(least, milliseconds() - start);
  }
  return least;
}

double product(int runs, int64_t rows, int64_t in, int64_t out) {
  const Tensor x = bench::normal({rows, in}, 1), weight = bench::normal({out, in}, 2),
               bias = bench::normal({out}, 3);
  return time_of(runs,
                 [&] {
                   for (int i = 0; i < 20; ++i) linear(x, weight, bias);
                 }) /
         20;
}

// Of one step of a decoder, or of a language model, whose layers have no attention to a source.
double products(int runs, int64_t rows, int64_t layers, int64_t attentions_products) {
  const auto& c = bench::kTransformer;
  return layers * (attentions_products * product(runs, rows, c.dim, c.dim) +
                   product(runs, rows, c.dim, c.mlp_dim) + product(runs, rows, c.mlp_dim, c.dim)) +
         product(runs, rows, c.dim, c.vocab);
}

void row(const std::string& name, double ms, double floor) {
  fmt::print("{:<40} {:>8.3f} {:>8.3f} {:>6.2f}\n", name, ms, floor, ms / floor);
}

}  // namespace

// bench_decoding [RUNS [greedy|beam|sample]]
int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 5;
  const auto wanted = [&](std::string_view what) { return argc <= 2 || what == argv[2]; };
  const NoGradGuard no_grad;
  const auto& c = bench::kTransformer;
  fmt::print("{:<40} {:>8} {:>8} {:>6}\n", "", "ms/step", "products", "ratio");
  if (wanted("greedy") || wanted("beam")) {
    models::Transformer model(c);
    model.eval();
    const Tensor source = bench::integers({kDecoded, bench::kTokens}, 1, 4, c.vocab);
    const auto flat = source.slice(1, 1, bench::kTokens).to_vector<int64_t>();
    std::vector<models::Ids> sources;
    for (auto at = flat.begin(); at != flat.end(); at += bench::kTokens - 1)
      sources.emplace_back(at, at + bench::kTokens - 1);
    const double before = time_of(runs, [&] { model.begin(source); });
    fmt::print("{:<40} {:>8.3f}\n", fmt::format("{} sources read, {} steps' share", kDecoded, kSteps),
               before / kSteps);
    for (const int64_t beam : {1, 4}) {
      if (!wanted(beam == 1 ? "greedy" : "beam")) continue;
      for (const int64_t count : {kDecoded, kDecoded / 4, int64_t{1}}) {
        const std::vector<models::Ids> some(sources.begin(), sources.begin() + count);
        double scores = 0;
        const double ms = time_of(runs, [&] {
          scores = 0;
          for (const auto& h : models::beam_search(model, some, {.beam = beam, .max_length = kSteps}))
            scores += h.score;
        });
        row(fmt::format("beam {}, {} sentences (score {:.7g})", beam, count, scores), ms / kSteps,
            products(runs, count * beam, c.decoder_layers, 6));
      }
    }
  }
  if (wanted("sample")) {
    models::LanguageModel model(
        {.vocab = c.vocab, .dim = c.dim, .heads = c.heads, .mlp_dim = c.mlp_dim, .layers = 4});
    model.eval();
    for (const int64_t count : {16, 1}) {
      for (const int64_t top : {50, 0}) {
        const double ms = time_of(runs, [&] {
          models::sample(model, {5, 6, 7}, count, {.length = kSteps, .top_k = top});
        });
        row(fmt::format("sample {} texts, top {}", count, top), ms / kSteps, products(runs, count, 4, 4));
      }
    }
  }
}
