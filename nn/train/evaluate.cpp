#include "nn/train/evaluate.h"

#include <chrono>
#include <optional>

#include "autograd/error.h"
#include "nn/train/plan.h"

namespace tandem::nn {
namespace {

void list_modes(Module& module, std::vector<std::pair<Module*, bool>>& modes) {
  modes.emplace_back(&module, module.is_training());
  for (Module* child : module.children()) list_modes(*child, modes);
}

}  // namespace

EvalMode::EvalMode(Module& module) {
  list_modes(module, were_training_);
  module.eval();
}

EvalMode::~EvalMode() {
  for (const auto& [module, on] : were_training_)
    if (module->is_training() != on) module->train(on);
}

Metrics evaluate(Objective& objective, const data::Dataset& dataset, int64_t batch_size, Ranks* ranks) {
  check<ConfigError>(dataset.size() > 0, "evaluate: the data set is empty");
  const EvalMode mode(objective.module());
  const auto start = std::chrono::steady_clock::now();
  const Device device = objective.module().device();
  Metrics result;
  int64_t units = 0, correct = 0;
  bool deferred = false;
  std::optional<LossParts> before;  // of the batch before: read when a device has been given the next one
  const auto add = [&] {
    if (!before) return;
    const LossParts parts = deferred ? read(*before) : *before;
    result.ce += parts.ce, correct += parts.correct;
  };
  int64_t next = 0;
  for (const data::Indices& indices : dataset.ordered_batches(batch_size)) {
    if (ranks && next++ % ranks->size() != ranks->rank()) continue;
    const data::Batch host = dataset.batch(indices, {.for_device = device != kCpu});
    host.check_size();
    const data::Batch batch = host.to(device);
    units += objective.valid_units(host);
    const LossParts parts = objective.loss_of(objective.outputs(batch), batch,
                                              {.alpha = 0, .divisor = 1, .deferred = deferred}, 1);
    add();
    if (!before) deferred = can_be_deferred(parts);
    before = parts;
  }
  add();
  if (ranks) {
    double sums[] = {result.ce, static_cast<double>(correct), static_cast<double>(units)};
    ranks->sum(sums);
    result.ce = sums[0], correct = static_cast<int64_t>(sums[1]), units = static_cast<int64_t>(sums[2]);
  }
  check<ValueError>(units > 0, "evaluate: no unit of the data set counts towards the loss");
  result.ce /= units;
  result.loss = result.ce;
  result.accuracy = objective.counts_correct() ? static_cast<double>(correct) / units : -1;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.samples_per_second = dataset.size() / result.seconds;
  return result;
}

void check_counts(const Objective& objective, const data::Dataset& dataset, std::string_view which,
                  int64_t batch_size) {
  for (const data::Indices& indices : dataset.ordered_batches(batch_size))
    if (objective.valid_units(dataset.batch(indices, {})) > 0) return;
  raise<ValueError>("no unit of the {} data set counts towards the loss", which);
}

}  // namespace tandem::nn
