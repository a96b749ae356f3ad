// Our side of tools/bench/peers/run: reads the name of a case from each line of standard input, runs it once
// and answers with the seconds it took. A case is built and warmed up when it is first named.
#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <iostream>
#include <map>

#include "autograd/engine.h"
#include "autograd/parallel.h"
#include "ops/ops.h"
#include "tools/bench/workloads.h"

using namespace tandem;

namespace {

using Case = std::function<void()>;

Case loss(int64_t units, int64_t classes) {
  const Tensor logits =
      stack_passes({bench::normal({units, classes}, 1), bench::normal({units, classes}, 2)}).requires_grad_();
  const Tensor target = SampleMaker(3, DType::f32, kCpu).integers({units}, 0, classes);
  return [=] {
    logits.grad() = Tensor();
    rdrop_cross_entropy(logits, target, {.alpha = 1}).loss.backward();
  };
}

Case vit(DType precision) {
  const auto step = std::make_shared<bench::VitStep>(bench::kVit, bench::kImages);
  return [=] { step->run(2, nn::Plan::stacked, precision); };
}

Case transformer(DType precision) {
  const auto step = std::make_shared<bench::TransformerStep>();
  return [=] { step->run(2, nn::Plan::stacked, precision); };
}

Case tiny() {
  const Tensor x = bench::normal({8}, 1).requires_grad_(), v = ones({8});
  return [=] {
    for (int i = 0; i < 1000; ++i) {
      x.grad() = Tensor();
      (x * x).backward(v);
    }
  };
}

// Forward and backward of the loss moves at least what a copy of its logits does: its floor.
Case copy(int64_t units, int64_t classes) {
  const Tensor from = bench::normal({2 * units, classes}, 1), to = empty_like(from);
  return [=] {
    parallel_for(from.numel(), 1 << 18, [&](int64_t b, int64_t e) {
      std::copy(from.data<float>() + b, from.data<float>() + e, to.data<float>() + b);
    });
  };
}

// The rate that the step's floor is taken at.
Case products(DType dtype) {
  const Tensor a = bench::normal({4096, 192}, 1, dtype), b = bench::normal({192, 768}, 2, dtype);
  return [=] { matmul(a, b); };
}

const std::map<std::string, std::function<Case()>> kCases = {
    {"loss_10152", [] { return loss(2048, 10152); }},
    {"loss_32768", [] { return loss(1024, 32768); }},
    {"copy_10152", [] { return copy(2048, 10152); }},
    {"copy_32768", [] { return copy(1024, 32768); }},
    {"matmul_f32", [] { return products(DType::f32); }},
    {"matmul_bf16", [] { return products(DType::bf16); }},
    {"vit_f32", [] { return vit(DType::f32); }},
    {"vit_bf16", [] { return vit(DType::bf16); }},
    {"transformer_f32", [] { return transformer(DType::f32); }},
    {"transformer_bf16", [] { return transformer(DType::bf16); }},
    {"tiny", tiny},
};

}  // namespace

int main() {
  std::map<std::string, Case> ready;
  for (std::string name; std::getline(std::cin, name);) {
    const auto found = kCases.find(name);
    if (found == kCases.end()) {
      fmt::print(stderr, "bench_peers: unknown case '{}'\n", name);
      return 1;
    }
    Case& run = ready[name];
    if (!run) run = found->second(), run(), run();
    const auto start = std::chrono::steady_clock::now();
    run();
    fmt::print("{}\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    std::fflush(stdout);
  }
}
