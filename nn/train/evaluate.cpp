#include "nn/train/evaluate.h"

#include <chrono>

#include "autograd/error.h"

namespace tandem::nn {

Metrics evaluate(Objective& objective, const data::Dataset& dataset, int64_t batch_size) {
  check<ConfigError>(dataset.size() > 0, "evaluate: the data set is empty");
  const EvalMode mode(objective.module());
  const auto start = std::chrono::steady_clock::now();
  const Device device = objective.module().device();
  Metrics result;
  int64_t units = 0, correct = 0;
  for (const data::Indices& indices : dataset.ordered_batches(batch_size)) {
    const data::Batch host = dataset.batch(indices, {}), batch = host.to(device);
    const LossParts parts = objective.loss(objective.forward(batch), batch, {.alpha = 0, .divisor = 1}, 1);
    result.ce += parts.ce;
    correct += parts.correct;
    units += objective.valid_units(host);
  }
  check<ValueError>(units > 0, "evaluate: no unit of the data set counts towards the loss");
  result.ce /= units;
  result.loss = result.ce;
  result.accuracy = objective.counts_correct() ? static_cast<double>(correct) / units : -1;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.samples_per_second = dataset.size() / result.seconds;
  return result;
}

}  // namespace tandem::nn
