// Training on the device and on the CPU: losses, gradients and weights of some steps of each, compared.
#pragma once

#include <doctest/doctest.h>

#include "tests/device.h"
#include "tests/nn/train/toy.h"

namespace tandem::testing {

struct Trained {
  std::vector<double> losses, gradients, parameters;
};

// Some steps of AdamW; what the last gradients and the weights are then.
template <class Model, class Objective, class Config>
Trained train(Device device, const Config& config, const std::vector<data::Batch>& batches,
              nn::TrainerOptions options, int steps) {
  const nn::InitScope init({.seed = 7, .device = device});
  Model model(config);
  Objective objective(model);
  nn::AdamW optimizer(model.parameters(), {.lr = 2e-3});
  options.progress = false;
  options.clip_norm = 1;
  nn::Trainer trainer(objective, optimizer, options);
  Trained result;
  for (int i = 0; i < steps; ++i) result.losses.push_back(trainer.step(batches).loss);
  result.gradients = flat_gradients(model);
  result.parameters = flat_parameters(model);
  return result;
}

template <class Model, class Objective, class Config>
void check_same_training(const Config& config, const std::vector<data::Batch>& batches,
                         const nn::TrainerOptions& options, double tolerance, int steps = 3) {
  const Trained there = train<Model, Objective>(device(), config, batches, options, steps),
                here = train<Model, Objective>(kCpu, config, batches, options, steps);
  for (size_t i = 0; i < here.losses.size(); ++i) {
    INFO("step ", i);
    CHECK(there.losses[i] == doctest::Approx(here.losses[i]).epsilon(tolerance));
  }
  CHECK(distance(there.gradients, here.gradients) < 50 * tolerance);
  CHECK(distance(there.parameters, here.parameters) < 10 * tolerance);
}

}  // namespace tandem::testing
