// Averaged weights, rates of their own and parameters that learn from some epoch on: on the device as on the
// CPU, and by recorded steps as by steps one by one.
#include <doctest/doctest.h>

#include "nn/optim/ema.h"
#include "tests/cuda/same_training.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// What validation found best: averages.
std::vector<double> fine_tuned(Device where, bool graph) {
  const nn::InitScope init({.seed = 3, .device = where});
  Mlp model;
  Tensors upper = model.second.parameters();
  for (const Tensor& parameter : model.out.parameters()) upper.push_back(parameter);
  nn::AdamW optimizer{{{model.first.parameters(), {.lr = 2e-3}}, {upper, {.weight_decay = 0}}}, {.lr = 1e-2}};
  nn::Trainer trainer(model, optimizer,
                      {.passes = 2,
                       .alpha = 1,
                       .cuda_graph = graph,
                       .epochs = 4,
                       .batch_size = 8,
                       .clip_norm = 1,
                       .ema = 0.9,
                       .progress = false});
  const auto frozen = flat_parameters(model.first);
  trainer.on_epoch = [&](int64_t epoch) {
    if (epoch == 2) CHECK(flat_parameters(model.first) == frozen);
    model.first.requires_grad_(epoch >= 2);
  };
  trainer.fit(Blobs(40), Blobs(24, DType::f32, 2));
  return flat_parameters(model);
}

}  // namespace

TEST_CASE("fine-tuning on the device: as on the CPU, and recorded steps are steps one by one") {
  const std::vector<double> there = fine_tuned(device(), false);
  CHECK(fine_tuned(device(), true) == there);
  CHECK(distance(there, fine_tuned(kCpu, false)) < 1e-4);
}

TEST_CASE("recorded steps are steps one by one, after one without a unit, too") {
  const auto run = [](bool graph) {
    const nn::InitScope init({.seed = 3, .device = device()});
    Mlp model;
    nn::AdamW optimizer(model.parameters(), {.lr = 1e-2});
    nn::Trainer trainer(model, optimizer,
                        {.passes = 2, .alpha = 1, .cuda_graph = graph, .ema = 0.9, .progress = false});
    data::Batch nothing = whole(Blobs(8), 0, 8);
    nothing.target = full({8}, -100, {DType::i64});
    std::vector<double> losses;
    for (int i = 0; i < 10; ++i) {
      const nn::StepResult result = trainer.step({i == 4 ? nothing : whole(Blobs(8), 0, 8)});
      losses.push_back(result.loss), losses.push_back(result.kl);
    }
    for (const double value : flat_parameters(model)) losses.push_back(value);
    return losses;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("ema on the device: a norm that is not finite changes nothing, f32 and f64") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const nn::InitScope init({.seed = 3, .dtype = dtype, .device = device()});
    Mlp model;
    nn::Ema ema(model, 0.5);
    const NoGradGuard no_grad;
    for (const Tensor& parameter : model.parameters()) parameter.zero_();
    const auto values = [&] {
      std::vector<double> all;
      for (const auto& [name, tensor] : ema.state_dict())
        if (name != "updates") append(all, tensor);
      return all;
    };
    const std::vector<double> first = values();
    ema.update(full({2}, NAN, {DType::f64, device()}));
    CHECK(values() == first);
    ema.take_back();
    ema.update(full({2}, 1, {DType::f64, device()}));
    std::vector<double> expected = first;
    for (double& x : expected) x *= 2.0 / 11;
    CHECK(distance(values(), expected) < 1e-6);
  }
}
