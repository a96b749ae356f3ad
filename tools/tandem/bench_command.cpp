// `tandem bench`: the loss, ops and whole training steps beside what this machine can do at all. Times are
// the median of several runs with their range; nothing is asserted.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "autograd/engine.h"
#include "autograd/parallel.h"
#include "autograd/registry.h"
#include "models/transformer/transformer.h"
#include "models/vit/vit.h"
#include "nn/data/files.h"
#include "nn/optim/adam.h"
#include "nn/train/step.h"
#include "ops/ops.h"
#include "tools/tandem/command.h"
#include "tools/tandem/options.h"

namespace tandem::command {
namespace {

struct Options {
  std::vector<std::string> what;
  int repeat = 7;
  std::string json;
};

// What one run moves and computes, where that is known.
struct Work {
  double bytes = 0, flops = 0;
};

struct Measurement {
  std::string name;
  double median = 0, low = 0, high = 0;  // seconds
  Work work;
  double peak_bytes = 0;  // of the CPU allocator, above what was there before
};

class Bench {
 public:
  explicit Bench(int repeat) : repeat_(repeat) {}

  // Times run() after two warm-up runs and prints its row.
  const Measurement& measure(const std::string& name, Work work, const std::function<void()>& run) {
    run(), run();
    Backend& memory = backend(kCpu);
    const int64_t before = memory.stats().in_use;
    memory.reset_peak();
    std::vector<double> seconds;
    for (int i = 0; i < repeat_; ++i) {
      const auto start = std::chrono::steady_clock::now();
      run();
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(seconds.begin(), seconds.end());
    rows_.push_back({name, seconds[seconds.size() / 2], seconds.front(), seconds.back(), work,
                     static_cast<double>(memory.stats().peak - before)});
    print(rows_.back());
    return rows_.back();
  }

  static void header(const std::string& title) {
    fmt::print("\n{}\n{:<46} {:>10} {:>17} {:>8} {:>9} {:>9}\n", title, "", "median ms", "range", "GB/s",
               "GFLOP/s", "peak MB");
  }

  nlohmann::json json() const {
    nlohmann::json all = nlohmann::json::array();
    for (const Measurement& m : rows_) {
      all.push_back({{"name", m.name},
                     {"median_s", m.median},
                     {"min_s", m.low},
                     {"max_s", m.high},
                     {"bytes", m.work.bytes},
                     {"flops", m.work.flops},
                     {"peak_bytes", m.peak_bytes}});
    }
    return all;
  }

 private:
  static void print(const Measurement& m) {
    auto rate = [&](double amount) {
      return amount > 0 ? fmt::format("{:.1f}", amount / m.median / 1e9) : "-";
    };
    fmt::print("{:<46} {:>10.3f} {:>17} {:>8} {:>9} {:>9.1f}\n", m.name, m.median * 1e3,
               fmt::format("{:.3f}-{:.3f}", m.low * 1e3, m.high * 1e3), rate(m.work.bytes),
               rate(m.work.flops), m.peak_bytes / 1e6);
    std::fflush(stdout);
  }

  int repeat_;
  std::vector<Measurement> rows_;
};

Tensor normal(const Shape& shape, uint64_t seed, DType dtype = DType::f32) {
  return SampleMaker(seed, dtype, kCpu).normal(shape);
}

void ceilings(Bench& bench) {
  Bench::header("what this machine can do");
  const int64_t n = int64_t{64} << 20;
  const Tensor from = ones({n}), to = zeros({n});
  bench.measure("copy, 256 MB read and written", {8.0 * n}, [&] {
    parallel_for(n, 1 << 18, [&](int64_t b, int64_t e) {
      std::memcpy(to.data<float>() + b, from.data<float>() + b, (e - b) * sizeof(float));
    });
  });
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor a = normal({4096, 192}, 1, dtype), b = normal({192, 768}, 2, dtype);
    bench.measure(fmt::format("matmul {} 4096x192 @ 192x768", name_of(dtype)), {0, 2.0 * 4096 * 192 * 768},
                  [&] { matmul(a, b); });
  }
}

void loss(Bench& bench) {
  Bench::header("cross-entropy + R-Drop, value and gradient, m = 2 (and a copy of the logits)");
  for (const auto& size : {std::pair<int64_t, int64_t>{2048, 10152}, {1024, 32768}}) {
    const int64_t units = size.first, classes = size.second;
    const Tensor logits =
        stack_passes({normal({units, classes}, 1), normal({units, classes}, 2)}).requires_grad_();
    const Tensor target = SampleMaker(3, DType::f32, kCpu).integers({units}, 0, classes);
    const Tensor copy = empty_like(logits);
    const double bytes = 2.0 * 2 * units * classes * sizeof(float);
    const Measurement plain =
        bench.measure(fmt::format("copy, {} units x {} classes", units, classes), {bytes}, [&] {
          const int64_t n = 2 * units * classes;
          parallel_for(n, 1 << 18, [&](int64_t b, int64_t e) {
            std::memcpy(copy.data<float>() + b, logits.data<float>() + b, (e - b) * sizeof(float));
          });
        });
    const Measurement fused =
        bench.measure(fmt::format("R-Drop loss, {} units x {} classes", units, classes), {bytes}, [&] {
          logits.grad() = Tensor();
          rdrop_cross_entropy(logits, target, {.alpha = 1}).loss.backward();
        });
    fmt::print("{:<46} {:>10.2f}x the copy\n", "", fused.median / plain.median);
  }
}

void ops(Bench& bench) {
  Bench::header("ops, forward and backward, f32");
  auto both = [&](const std::string& name, Work work, const Tensor& x,
                  const std::function<Tensor(const Tensor&)>& f) {
    x.requires_grad_();
    const Tensor v = normal(f(x).shape(), 5);
    bench.measure(name, work, [&] {
      x.grad() = Tensor();
      f(x).backward(v);
    });
  };
  const double row_bytes = 5.0 * 8192 * 768 * sizeof(float);  // x read twice, g read, y and dx written
  both("gelu [8192,768]", {row_bytes}, normal({8192, 768}, 1), [](const Tensor& x) { return gelu(x); });
  both("softmax [8192,768]", {row_bytes}, normal({8192, 768}, 1),
       [](const Tensor& x) { return softmax(x, -1); });
  const Tensor scale = ones({768}), shift = zeros({768});
  both("layer_norm [8192,768]", {row_bytes}, normal({8192, 768}, 1),
       [&](const Tensor& x) { return layer_norm(x, {768}, scale, shift); });
  const Tensor w = normal({768, 192}, 2).requires_grad_();
  both("linear [8192,192] -> 768, both gradients", {0, 3 * 2.0 * 8192 * 192 * 768}, normal({8192, 192}, 1),
       [&](const Tensor& x) { return linear(x, w); });
  const Tensor k = normal({128, 3, 65, 64}, 2).requires_grad_(),
               value = normal({128, 3, 65, 64}, 3).requires_grad_();
  both("attention [128,3,65,64], dropout 0.1", {0, 14.0 * 128 * 3 * 65 * 65 * 64},
       normal({128, 3, 65, 64}, 1), [&](const Tensor& q) {
         PassContext context({.seed = 1});
         return attention(q, k, value, {.dropout = 0.1});
       });
  const Tensor tiny = normal({8}, 1).requires_grad_();
  bench.measure("x * x of 8 floats, 1000 times", {}, [&] {
    const Tensor v = ones({8});
    for (int i = 0; i < 1000; ++i) {
      tiny.grad() = Tensor();
      (tiny * tiny).backward(v);
    }
  });
}

// One optimizer step's forward and backward, and the update.
template <class Model, class Objective>
struct TrainingStep {
  template <class Config>
  TrainingStep(const Config& config, data::Batch data)
      : model(config), objective(model), optimizer(model.parameters()), data(std::move(data)) {}
  void run(int passes, nn::Plan plan = nn::Plan::stacked, DType precision = DType::f32) {
    optimizer.zero_grad();
    nn::accumulate_gradients(objective, {data},
                             {.passes = passes,
                              .alpha = 1,
                              .label_smoothing = 0.1,
                              .precision = precision,
                              .plan = plan,
                              .step = step++});
    optimizer.step();
  }
  Model model;
  Objective objective;
  nn::AdamW optimizer;
  data::Batch data;
  uint64_t step = 0;
};

struct VitStep : TrainingStep<models::Vit, nn::Classification<models::Vit>> {
  VitStep(const models::VitConfig& config, int64_t batch)
      : TrainingStep(config, {{normal({batch, config.channels, config.image_size, config.image_size}, 4)},
                              SampleMaker(5, DType::f32, kCpu).integers({batch}, 0, config.classes),
                              {},
                              batch}) {}
};

void transformer_steps(Bench& bench) {
  Bench::header(
      "training steps: Transformer d 256, ffn 1024, 3+3 layers, V 10000, 128 x 32 tokens, dropout 0.3");
  const models::TransformerConfig config{.vocab = 10000,
                                         .dim = 256,
                                         .heads = 4,
                                         .mlp_dim = 1024,
                                         .encoder_layers = 3,
                                         .decoder_layers = 3,
                                         .dropout = 0.3};
  constexpr int64_t kBatch = 128, kTokens = 32;
  SampleMaker make(5, DType::f32, kCpu);
  const auto ids = [&] { return make.integers({kBatch, kTokens}, 1, config.vocab); };
  TrainingStep<models::Transformer, models::SequenceToSequence> step(config,
                                                                     {{ids(), ids()}, ids(), {}, kBatch});
  // Products of a forward, per token: 4 d^2 for each attention, 2 d ffn, two of T x d for the scores, d V.
  const double d = config.dim, layer = 4 * d * d + 2 * kTokens * d, feed = 2 * d * config.mlp_dim;
  const double forward =
      2 * kBatch * kTokens * (3 * (layer + feed) + 3 * (2 * layer + feed) + d * config.vocab);
  for (const DType precision : {DType::f32, DType::bf16}) {
    bench.measure(fmt::format("m = 2, stacked, {}", name_of(precision)), {0, 3 * 2 * forward},
                  [&] { step.run(2, nn::Plan::stacked, precision); });
  }
}

void steps(Bench& bench) {
  Bench::header("training steps: ViT d 192, 6 layers, 3 heads, 65 tokens, batch 64, dropout 0.1, AdamW");
  const models::VitConfig config{.image_size = 32,
                                 .channels = 3,
                                 .patch_size = 4,
                                 .dim = 192,
                                 .depth = 6,
                                 .heads = 3,
                                 .mlp_dim = 768,
                                 .attention_dropout = 0.1};
  // Products of a forward, per image: 4 d^2 + 2 d mlp per token and block, and two of T x T x d for
  // attention.
  const double tokens = 65,
               forward = 2 * 6 * (tokens * (4 * 192.0 * 192 + 2 * 192.0 * 768) + 2 * tokens * tokens * 192);
  auto flops = [&](double images) { return Work{0, 3 * forward * images}; };
  VitStep vit(config, 64), doubled(config, 128);
  const Measurement plain =
      bench.measure("plain, batch 128", flops(128), [&] { doubled.run(1, nn::Plan::stacked); });
  const Measurement two = bench.measure("m = 2, stacked", flops(128), [&] { vit.run(2, nn::Plan::stacked); });
  fmt::print("{:<46} {:>10.2f}x the plain step on a double batch\n", "", two.median / plain.median);
  const Measurement half_precision =
      bench.measure("m = 2, stacked, bf16", flops(128), [&] { vit.run(2, nn::Plan::stacked, DType::bf16); });
  fmt::print("{:<46} {:>10.2f}x the f32 step\n", "", half_precision.median / two.median);
  models::VitConfig upper = config;
  upper.dropout_from = 3;
  VitStep shared(upper, 64);
  const Measurement half =
      bench.measure("m = 2, dropout in the upper half only", {}, [&] { shared.run(2, nn::Plan::stacked); });
  fmt::print("{:<46} {:>10.2f}x the plain step on a double batch\n", "", half.median / plain.median);
  bench.measure("m = 2, sequential", flops(128), [&] { vit.run(2, nn::Plan::sequential); });
  const Measurement one = bench.measure("m = 1", flops(64), [&] { vit.run(1, nn::Plan::stacked); });
  const Measurement four =
      bench.measure("m = 4, stacked", flops(256), [&] { vit.run(4, nn::Plan::stacked); });
  const Measurement replay =
      bench.measure("m = 4, replay", flops(256), [&] { vit.run(4, nn::Plan::replay); });
  fmt::print("{:<46} {:>10.2f}x the peak memory of m = 1, {:.2f}x the time of stacked\n", "",
             replay.peak_bytes / one.peak_bytes, replay.median / four.median);
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("bench", "time the loss, ops and training steps beside this machine's ceilings");
  auto o = std::make_shared<Options>();
  command->add_option("what", o->what, "any of: loss, ops, steps (default: all)")
      ->check(one_of({"loss", "ops", "steps"}));
  command->add_option("--repeat", o->repeat, "runs of each")
      ->check(integer(1, 100'000))
      ->capture_default_str();
  command->add_option("--json", o->json, "also write the measurements to this file");
  command->callback([o] {
    Bench bench(o->repeat);
    fmt::print("{} threads; median of {} runs\n", num_threads(), o->repeat);
    auto wanted = [&](const char* name) {
      return o->what.empty() || std::find(o->what.begin(), o->what.end(), name) != o->what.end();
    };
    ceilings(bench);
    if (wanted("loss")) loss(bench);
    if (wanted("ops")) ops(bench);
    if (wanted("steps")) steps(bench), transformer_steps(bench);
    if (!o->json.empty()) data::write_file(o->json, bench.json().dump(2) + "\n");
  });
}

}  // namespace tandem::command
