#include "tools/tandem/dry_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "autograd/device.h"
#include "nn/init.h"
#include "nn/train/progress.h"

namespace tandem::command {
namespace {

constexpr int64_t kSteps = 3;  // that are measured, after one that warms up

// "blocks.0" of "blocks.0.attn.q_proj.weight", "head" of "head.weight": numbered modules count as one name.
std::string module_of(const std::string& parameter) {
  const size_t dot = parameter.find('.');
  if (dot == std::string::npos) return parameter;
  const size_t number = parameter.find_first_not_of("0123456789", dot + 1);
  const bool numbered = number != dot + 1 && number < parameter.size() && parameter[number] == '.';
  return parameter.substr(0, numbered ? number : dot);
}

void print_parameters(const nn::Module& model) {
  struct Row {
    std::string name;
    int64_t all = 0, learned = 0;
  };
  std::vector<Row> rows;
  Row total{"all"};
  for (const auto& [name, parameter] : model.named_parameters()) {
    const std::string module = module_of(name);
    if (rows.empty() || rows.back().name != module) rows.push_back({module});
    for (Row* row : {&rows.back(), &total}) {
      row->all += parameter.numel();
      row->learned += parameter.requires_grad() ? parameter.numel() : 0;
    }
  }
  rows.push_back(total);
  size_t width = std::string_view("module").size();
  for (const Row& row : rows) width = std::max(width, row.name.size());
  fmt::print("{:<{}}  {:>11}  {:>11}\n", "module", width, "parameters", "that learn");
  for (const Row& row : rows) fmt::print("{:<{}}  {:>11}  {:>11}\n", row.name, width, row.all, row.learned);
}

// The micro-batches of a step.
std::vector<data::Batch> load(const data::Dataset& train, const data::Indices& indices,
                              const nn::TrainerOptions& o, uint64_t step) {
  std::vector<data::Batch> batches;
  const size_t each = (indices.size() + o.accumulate - 1) / o.accumulate;
  for (size_t begin = 0; begin < indices.size(); begin += each) {
    const auto part = std::span(indices).subspan(begin, std::min(each, indices.size() - begin));
    batches.push_back(train.batch(part, {.training = true,
                                         .seed = o.seed,
                                         .step = step,
                                         .sample_offset = begin,
                                         .passes = o.passes,
                                         .for_device = nn::InitScope::current().device != kCpu}));
  }
  return batches;
}

}  // namespace

void print_dry_run(const Recipe& recipe, const nn::TrainerOptions& options) {
  const auto batches = recipe.train().shuffled_batches(options.seed, 0, options.batch_size);
  Backend& device = backend(nn::InitScope::current().device);
  const auto steps = static_cast<double>(batches.size()) * static_cast<double>(options.epochs);
  bool first = true;
  for (const nn::Plan plan : {nn::Plan::stacked, nn::Plan::sequential, nn::Plan::replay}) {
    device.release_cached();
    const int64_t before = device.stats().in_use;
    const TaskModel model = recipe.make_model();
    const FineTuned tuned(recipe.settings.tuning, *model.module,
                          [&](const nn::Module& module) { return recipe.depths(module); });
    const auto optimizer = make_optimizer(recipe.settings, *model.module, tuned);
    if (first) {
      print_parameters(*model.module);
      fmt::print("\n{} {}, {} steps an epoch, {:.0f} in {} epochs\n\n", recipe.train().size(), recipe.unit(),
                 batches.size(), steps, options.epochs);
      fmt::print("{:<10}  {:>8}  {:>14}  {:>14}\n", "plan", "s / step", "peak memory MB", "whole training");
      first = false;
    }
    nn::TrainerOptions o = options;
    o.plan = plan, o.run_dir = "", o.progress = false, o.average = 0, o.on_nan = nn::OnNan::stop;
    nn::Trainer trainer(*model.objective, *optimizer, o);
    device.reset_peak();
    auto start = device.mark();
    try {
      for (int64_t i = 0; i <= kSteps; ++i) {
        trainer.step(load(recipe.train(), batches[i % batches.size()], o, i));
        if (i == 0) start = device.mark();
      }
    } catch (const OutOfMemoryError& error) {
      fmt::print("{:<10}  does not fit: {}\n", nn::name_of(plan), error.what());
      continue;
    }
    const double seconds = device.mark()->seconds_since(*start) / kSteps;
    fmt::print("{:<10}  {:>8.3f}  {:>14.1f}  {:>14}\n", nn::name_of(plan), seconds,
               static_cast<double>(device.stats().peak - before) / 1e6, nn::clock_text(seconds * steps));
    if (options.passes == 1) break;  // all plans are the same
  }
  fmt::print(
      "Measured on {} steps, batches included; memory is of weights, gradients, optimizer and activations. "
      "Validation comes on top.\n",
      kSteps);
}

}  // namespace tandem::command
