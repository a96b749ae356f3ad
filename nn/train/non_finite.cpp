#include "nn/train/non_finite.h"

#include <fmt/format.h>

#include "autograd/anomaly.h"
#include "nn/io/text.h"
#include "nn/train/step.h"

namespace tandem::nn {
namespace {

bool is_finite(const Tensor& x) { return *count_non_finite(x).worst() == '\0'; }

std::string in_tensors(const char* what, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors)
    if (!is_finite(tensor)) return fmt::format("{} {} has {}", what, name, count_non_finite(tensor).worst());
  return "";
}

// The samples whose part of x is not finite, counted from `first` in the step.
data::Indices bad_rows(const Tensor& x, int64_t samples, int64_t first) {
  data::Indices rows;
  if (x.dim() == 0 || x.size(0) != samples) return rows;
  for (int64_t i = 0; i < samples; ++i)
    if (!is_finite(x.select(0, i))) rows.push_back(first + i);
  return rows;
}

// Of what the data set gave.
std::string in_batches(const StepBatches& batches, const data::Indices& indices) {
  int64_t first = 0;
  for (size_t k = 0; k < batches.micro_batches.size(); ++k) {
    const data::Batch& batch = batches.micro_batches[k];
    if (!batches.places.empty()) first = static_cast<int64_t>(batches.places[k].sample_offset);
    NamedTensors all{{"target", batch.target}};
    for (size_t i = 0; i < batch.inputs.size(); ++i)
      all.push_back({fmt::format("input {}", i), batch.inputs[i]});
    for (const auto& [name, x] : batch.named) all.push_back({name, x});
    for (const auto& [name, x] : all) {
      if (is_finite(x)) continue;
      data::Indices rows = bad_rows(x, batch.size, first);
      for (int64_t& row : rows)
        if (row < std::ssize(indices)) row = indices[row];
      return fmt::format("the batch's {} has {}{}", name, count_non_finite(x).worst(),
                         rows.empty() ? "" : fmt::format(", in {} of the data set", list_of(rows)));
    }
    first += batch.size;
  }
  return "";
}

std::string in_ops(Objective& objective, Optimizer& optimizer, const StepBatches& batches,
                   const StepOptions& options) {
  Step step(objective.module(), optimizer, passes_of(options));
  step.skip();
  const DetectAnomalyGuard guard;
  try {
    backward(objective, batches, options);
  } catch (const NonFiniteError& error) {
    const std::string what = error.what(), &infinity = guard.first_infinity();
    const bool told = infinity.empty() || what.find(infinity) != std::string::npos;
    return told ? what : fmt::format("{}; then {}", infinity, what);
  } catch (const std::exception& error) {
    return fmt::format("unknown: the step run again, with checks, fails: {}", error.what());
  }
  if (!guard.first_infinity().empty()) return guard.first_infinity();
  NamedTensors gradients = objective.module().named_parameters();
  for (NamedTensor& parameter : gradients) parameter.tensor = parameter.tensor.grad();
  return in_tensors("the sum of the gradients of", gradients);
}

}  // namespace

OnNan parse_on_nan(std::string_view name) {
  for (OnNan on_nan : {OnNan::stop, OnNan::skip, OnNan::back})
    if (name == name_of(on_nan)) return on_nan;
  raise<ConfigError>("on_nan: expected stop, skip or back, got '{}'", name);
}

std::string_view name_of(OnNan on_nan) {
  return on_nan == OnNan::stop ? "stop" : on_nan == OnNan::skip ? "skip" : "back";
}

std::string list_of(const data::Indices& indices) {
  constexpr int64_t kMost = 64;
  const int64_t shown = std::min<int64_t>(kMost, std::ssize(indices));
  return fmt::format("{} {}{}", indices.size() == 1 ? "sample" : "samples",
                     data::join(std::span(indices).first(shown), ", "),
                     shown < std::ssize(indices) ? fmt::format(", ... ({} in all)", indices.size()) : "");
}

std::string origin_of_non_finite(Objective& objective, Optimizer& optimizer, const StepBatches& batches,
                                 const StepOptions& options, const data::Indices& indices) {
  std::string origin = in_tensors("the parameter", objective.module().named_parameters());
  if (origin.empty()) origin = in_batches(batches, indices);
  StepBatches own = batches;
  for (StepBatches::Place& place : own.places)
    place.ranks = {};  // the others may not come as far as this one
  if (origin.empty()) origin = in_ops(objective, optimizer, own, options);
  optimizer.zero_grad();
  return origin.empty() ? "unknown: run again, with checks, the step is finite" : origin;
}

}  // namespace tandem::nn
