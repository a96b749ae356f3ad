// One step of an objective: its result and gradients, which no plan, padding, cut into micro-batches or
// number of threads may change.
#pragma once

#include <functional>
#include <utility>

#include "autograd/parallel.h"
#include "tests/nn/train/toy.h"
#include "tests/testing.h"

namespace tandem::testing {

struct Outcome {
  nn::StepResult result;
  std::vector<double> gradients, buffers;
};

template <class Model, class Objective>
Outcome step_of(Model& model, Objective& objective, const std::vector<data::Batch>& batches,
                const nn::StepOptions& options) {
  model.train();
  model.zero_grad();
  Outcome outcome{nn::accumulate_gradients(objective, batches, options), flat_gradients(model), {}};
  model.commit_statistics();
  for (const auto& [name, buffer] : model.named_buffers()) append(outcome.buffers, buffer);
  return outcome;
}

// A step of Model(arguments...), whose weights are the same each time.
template <class Model, class Objective = nn::Classification<Model>, class... Arguments>
Outcome outcome_of(DType dtype, const std::vector<data::Batch>& batches, const nn::StepOptions& options,
                   const Arguments&... arguments) {
  const nn::InitScope init({.seed = 7, .dtype = dtype});
  Model model(arguments...);
  Objective objective(model);
  return step_of(model, objective, batches, options);
}

inline void check_same(const Outcome& a, const Outcome& b, double tolerance) {
  CHECK(a.result.units == b.result.units);
  CHECK(a.result.loss == doctest::Approx(b.result.loss).epsilon(tolerance));
  CHECK(a.result.kl == doctest::Approx(b.result.kl).epsilon(tolerance));
  CHECK(distance(a.gradients, b.gradients) < tolerance);
  CHECK(a.buffers.size() == b.buffers.size());
  if (!b.buffers.empty()) CHECK(distance(a.buffers, b.buffers) < tolerance);
}

// `run` makes an outcome of options.
template <class F>
void check_plans(F run, nn::StepOptions options, double tolerance, double least_kl = 1e-4) {
  options.plan = nn::Plan::sequential;
  const Outcome reference = run(options);
  CHECK(reference.result.kl > least_kl);
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::replay}) {
    INFO("plan ", std::string(name_of(plan)), ", m = ", options.passes, ", step ", options.step);
    options.plan = plan;
    check_same(run(options), reference, tolerance);
  }
}

// What `run` makes with one thread and with two.
template <class F> std::pair<Outcome, Outcome> with_one_and_two_threads(F run) {
  const int before = num_threads();
  set_num_threads(1);
  Outcome one = run();
  set_num_threads(2);
  Outcome two = run();
  set_num_threads(before);
  return {std::move(one), std::move(two)};
}

}  // namespace tandem::testing
