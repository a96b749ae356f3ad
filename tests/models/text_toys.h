// What the tests of the text models share: one step of an objective, and its gradients.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <utility>

#include "autograd/parallel.h"
#include "tests/train/toy.h"

namespace tandem::testing {

struct Outcome {
  nn::StepResult result;
  std::vector<double> gradients;
};

// A step of a model made anew from one seed.
template <class Model, class Objective, class Config>
Outcome outcome_of(const Config& config, DType dtype, const std::vector<data::Batch>& batches,
                   const nn::StepOptions& options) {
  const nn::InitScope init({.seed = 7, .dtype = dtype});
  Model model(config);
  Objective objective(model);
  model.train();
  Outcome outcome{nn::accumulate_gradients(objective, batches, options), {}};
  outcome.gradients = flat_gradients(model);
  return outcome;
}

inline void check_same(const Outcome& a, const Outcome& b, double tolerance) {
  CHECK(a.result.units == b.result.units);
  CHECK(a.result.loss == doctest::Approx(b.result.loss).epsilon(tolerance));
  CHECK(a.result.kl == doctest::Approx(b.result.kl).epsilon(tolerance));
  CHECK(distance(a.gradients, b.gradients) < tolerance);
}

// A step as a function of (dtype, batches, options).
using Step = std::function<Outcome(DType, const std::vector<data::Batch>&, const nn::StepOptions&)>;

inline void check_plans(const Step& step, const std::vector<data::Batch>& batches) {
  for (const auto& [dtype, tolerance] : {std::pair{DType::f64, 1e-10}, std::pair{DType::f32, 2e-5}}) {
    for (const uint64_t number : {0, 1, 2}) {
      nn::StepOptions options{.passes = 3, .alpha = 2, .label_smoothing = 0.1, .seed = 3, .step = number};
      options.plan = nn::Plan::sequential;
      const Outcome reference = step(dtype, batches, options);
      CHECK(reference.result.kl > 1e-4);
      for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::replay}) {
        INFO("plan ", std::string(name_of(plan)), ", step ", number);
        options.plan = plan;
        check_same(step(dtype, batches, options), reference, tolerance);
      }
    }
  }
}

inline void check_threads(const Step& step, const std::vector<data::Batch>& batches) {
  const int before = num_threads();
  const nn::StepOptions options{.passes = 2, .alpha = 2, .seed = 3};
  set_num_threads(1);
  const Outcome one = step(DType::f32, batches, options);
  set_num_threads(2);
  const Outcome two = step(DType::f32, batches, options);
  set_num_threads(before);
  check_same(two, one, 2e-5);
}

}  // namespace tandem::testing
