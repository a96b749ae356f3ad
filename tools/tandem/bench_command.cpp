// `tandem bench`: the loss, ops and whole training steps beside what this machine can do at all. Times are
// the median of several runs with their range; nothing is asserted.
#include <fmt/format.h>

#include <algorithm>

#include "autograd/engine.h"
#include "autograd/parallel.h"
#include "nn/io/files.h"
#include "ops/ops.h"
#include "tools/bench/workloads.h"
#include "tools/tandem/bench.h"
#include "tools/tandem/commands.h"

namespace tandem::command {
namespace {

using bench::normal, bench::VitStep;

// Where models and tensors are made, and whose time is taken.
Device device() { return nn::InitScope::current().device; }

struct Options {
  std::vector<std::string> what;
  int repeat = 7;
  int64_t rows = 8192;
  std::string json, device = "auto";
};

void ceilings(Bench& bench) {
  Bench::header("what this machine can do");
  const int64_t n = int64_t{64} << 20;
  const Tensor from = ones({n}, {.device = device()}), to = zeros_like(from);
  bench.measure("copy, 256 MB read and written", {8.0 * n}, [&] { plain_copy(from, to); });
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
    const Tensor target = bench::integers({units}, 3, 0, classes), copied = empty_like(logits);
    const double bytes = 2.0 * 2 * units * classes * sizeof(float);
    const Measurement plain = bench.measure(fmt::format("copy, {} units x {} classes", units, classes),
                                            {bytes}, [&] { plain_copy(logits, copied); });
    const Measurement fused =
        bench.measure(fmt::format("R-Drop loss, {} units x {} classes", units, classes), {bytes}, [&] {
          logits.grad() = Tensor();
          rdrop_cross_entropy(logits, target, {.alpha = 1}).loss.backward();
        });
    fmt::print("{:<46} {:>10.2f}x the copy\n", "", fused.median / plain.median);
  }
}

void cnn_steps(Bench& bench) {
  Bench::header("training steps: CNN of two 3x3 convolutions, 32 and 64 channels, batch 128, dropout 0.3");
  for (const models::CnnConfig& config :
       {models::CnnConfig{}, models::CnnConfig{.image_size = 32, .channels = 3}}) {
    bench::CnnStep step(config, 128);
    bench.measure(
        fmt::format("plain, images {} x {} x {}", config.channels, config.image_size, config.image_size),
        {0, step.flops()}, [&] { step.run(1); });
  }
}

void transformer_steps(Bench& bench) {
  Bench::header(
      "training steps: Transformer d 256, ffn 1024, 3+3 layers, V 10000, 128 x 32 tokens, dropout 0.3");
  bench::TransformerStep step;
  for (const DType precision : {DType::f32, DType::bf16}) {
    bench.measure(fmt::format("m = 2, stacked, {}", name_of(precision)), {0, step.flops(2)},
                  [&] { step.run(2, nn::Plan::stacked, precision); });
  }
}

void steps(Bench& bench) {
  Bench::header("training steps: ViT d 192, 6 layers, 3 heads, 65 tokens, batch 64, dropout 0.1, AdamW");
  const models::VitConfig config = bench::kVit;
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

// What a step's time grows with: time per unit beside the arithmetic per unit, both as multiples of the
// series' first row. Where the last column stays near 1, or falls, no term grows faster than its arithmetic.
void growth(Bench& bench) {
  struct Size {
    int64_t batch = 64;
    int passes = 2;
    int64_t vocab = 1000, tokens = 32;
  };
  const auto series = [&](const std::string& title, const std::vector<Size>& sizes) {
    Bench::header("growth with " + title +
                  ": Transformer d 128, ffn 512, 1+1 layers, dropout 0.1, AdamW, f32");
    std::vector<std::string> lines;
    double first_time = 0, first_work = 0;
    for (const Size& size : sizes) {
      const models::TransformerConfig config{
          .vocab = size.vocab, .encoder_layers = 1, .decoder_layers = 1, .max_positions = size.tokens};
      bench::TransformerStep step(config, size.batch, size.tokens);
      const double flops = step.flops(size.passes), units = size.batch * size.tokens * size.passes;
      const Measurement m = bench.measure(
          fmt::format("batch {}, m = {}, V {}, {} tokens", size.batch, size.passes, size.vocab, size.tokens),
          {0, flops}, [&] { step.run(size.passes); });
      const double time = m.median / units, work = flops / units;
      if (first_time == 0) first_time = time, first_work = work;
      lines.push_back(fmt::format("{:<46} {:>10.2f} {:>17.2f} {:>12.2f} {:>12.2f}", m.name, time * 1e6,
                                  time / first_time, work / first_work,
                                  time / first_time / (work / first_work)));
    }
    fmt::print("\n{:<46} {:>10} {:>17} {:>12} {:>12}\n", "", "us/token", "time, relative", "arithmetic",
               "time/arithm.");
    for (const std::string& line : lines) fmt::print("{}\n", line);
  };
  series("the batch", {{.batch = 16}, {.batch = 64}, {.batch = 256}, {.batch = 512}});
  series("passes", {{.passes = 2}, {.passes = 4}, {.passes = 8}});
  series("the vocabulary", {{.batch = 16, .vocab = 1000},
                            {.batch = 16, .vocab = 8000},
                            {.batch = 16, .vocab = 32000},
                            {.batch = 16, .vocab = 128000}});
  series("the sequence",
         {{.batch = 32, .tokens = 64}, {.batch = 8, .tokens = 256}, {.batch = 2, .tokens = 1024}});
}

}  // namespace

void add_bench(Command& root) {
  Command command = root.add("bench", "time the loss, ops and training steps beside this machine's ceilings");
  auto o = std::make_shared<Options>();
  command.argument("what", o->what, "any of: loss, ops, steps, growth (default: the first three)")
      .check(one_of({"loss", "ops", "steps", "growth"}));
  command.option("--repeat", o->repeat, integer(1, 100'000), "runs of each");
  command.option("--rows", o->rows, integer(1, 1 << 20), "of the tensors of ops, which have 1024 columns");
  command.device(o->device);
  command.option("--json", o->json, anything(), "also write the measurements to this file");
  command.examples({"tandem bench loss", "tandem bench --json bench.json"});
  command.run([o] {
    const nn::InitScope init({.device = load_device(o->device)});
    Bench bench(o->repeat);
    fmt::print("{}, {} threads; median of {} runs\n", backend(device()).description(), num_threads(),
               o->repeat);
    auto wanted = [&](const char* name) {
      return (o->what.empty() && std::string_view(name) != "growth") ||
             std::find(o->what.begin(), o->what.end(), name) != o->what.end();
    };
    ceilings(bench);
    if (wanted("loss")) loss(bench);
    if (wanted("ops")) bench_ops(bench, o->rows);
    if (wanted("steps")) steps(bench), cnn_steps(bench), transformer_steps(bench);
    if (wanted("growth")) growth(bench);
    if (!o->json.empty()) data::write_file(o->json, bench.json().dump(2) + "\n");
  });
}

}  // namespace tandem::command
