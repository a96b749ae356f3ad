#include "nn/train/recorded_steps.h"

#include <cstring>

#include "autograd/grad_mode.h"
#include "autograd/step_scalars.h"

namespace tandem::nn {

// Each keeps gradients and a batch of its own.
constexpr int kMostRecordings = 32;

struct RecordedSteps::Recorded {
  StepBatches batches;  // the memory that replays read; empty until the step is recorded
  std::unique_ptr<Recording> work;
  Update update;
  Tensors gradients;  // of the parameters after a replay
};

namespace {

// Which modules are in training mode, in order.
std::string modes(const Module& module) {
  std::string text(1, module.is_training() ? '1' : '0');
  for (const Module* child : module.children()) text += modes(*child);
  return text;
}

// Which parameters learn, in order.
std::string learning(const Module& module) {
  std::string text;
  for (const Tensor& parameter : module.parameters()) text += parameter.requires_grad() ? '1' : '0';
  return text;
}

// Steps of equal signatures share a recording: their shapes, their numbers of passes and what is in
// evaluation mode are the same.
std::string signature(const Module& module, const StepBatches& batches, const StepOptions& options) {
  std::string text = fmt::format("{} passes; {}; ", options.passes, modes(module));
  for (const data::Batch& batch : batches.micro_batches) {
    text += fmt::format("; {}:", batch.size);
    for (const Tensor& x : batch.inputs) text += fmt::format(" {}", describe(x));
    text += fmt::format(" {} {}", describe(batch.target), describe(batch.valid));
    for (const auto& [name, x] : batch.named) text += fmt::format(" {} {}", name, describe(x));
  }
  return text;
}

// to[...] = from[...] for every tensor of the batches.
void copy(const StepBatches& from, const StepBatches& to) {
  const NoGradGuard no_grad;
  for (size_t i = 0; i < from.micro_batches.size(); ++i) {
    const data::Batch &source = from.micro_batches[i], &target = to.micro_batches[i];
    for (size_t k = 0; k < source.inputs.size(); ++k)
      if (source.inputs[k].defined()) target.inputs[k].copy_(source.inputs[k]);
    for (const auto& [name, x] : source.named)
      if (x.defined()) target.named.at(name).copy_(x);
    target.target.copy_(source.target);
    if (source.valid.defined()) target.valid.copy_(source.valid);
  }
}

StepBatches clone(const StepBatches& batches) {
  StepBatches result = batches;
  for (data::Batch& batch : result.micro_batches)
    batch = batch.map([](const Tensor& x) { return x.clone(); });
  return result;
}

}  // namespace

RecordedSteps::RecordedSteps(Objective& objective, Optimizer& optimizer, Ema* ema, double clip_norm)
    : objective_(objective), optimizer_(optimizer), ema_(ema), clip_norm_(clip_norm) {}
RecordedSteps::~RecordedSteps() = default;

void RecordedSteps::upload(const StepScalars& scalars) {
  if (!scalars_.defined())
    scalars_ = empty({static_cast<int64_t>(sizeof(StepScalars))}, {DType::u8, objective_.module().device()});
  backend(scalars_.device()).copy_from_host(scalars_.device_raw(), &scalars, sizeof scalars);
}

std::optional<Update> RecordedSteps::begin(const StepBatches& batches, const StepOptions& options) {
  // A recording knows how many updates each parameter has had, beside the step's number.
  if (std::string now = learning(objective_.module()); now != learning_) {
    known_.clear();
    recordings_ = 0, latest_ = nullptr, learning_ = std::move(now);
  }
  const auto [entry, is_new] = known_.try_emplace(signature(objective_.module(), batches, options));
  if (is_new || (!entry->second && recordings_ == kMostRecordings)) return {};
  const StepScalars scalars{.seed = options.seed,
                            .step = options.step,
                            .sample_offset = options.sample_offset,
                            .alpha = options.alpha,
                            .divisor = static_cast<double>(batches.units),
                            .lr = optimizer_.lr() * options.schedule(static_cast<int64_t>(options.step) + 1)};
  upload(scalars);
  if (!entry->second) {
    auto recorded = std::make_unique<Recorded>();
    recorded->batches = clone(batches);
    record(*recorded, options, scalars);
    entry->second = std::move(recorded);
    latest_ = entry->second.get();
    ++recordings_;
  }
  Recorded& recorded = *entry->second;
  copy(batches, recorded.batches);
  recorded.work->replay();
  const Tensors parameters = objective_.module().parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].grad() = recorded.gradients[i];
    parameters[i].bump_version();  // cached casts are of the old weights
  }
  optimizer_.replayed();
  if (ema_ != nullptr) ema_->replayed();
  Update update = recorded.update;
  update.units = batches.units, update.options = options;
  return update;
}

void RecordedSteps::record(Recorded& recorded, const StepOptions& options, const StepScalars& values) {
  Backend& backend = tandem::backend(scalars_.device());
  const Tensors parameters = objective_.module().parameters();
  // Invalidate cached casts of weights, so that the recording makes its own.
  for (const Tensor& parameter : parameters) parameter.bump_version();
  const RecordedScalars scope(static_cast<const StepScalars*>(scalars_.device_raw()), values);
  StepOptions relative = options;
  relative.sample_offset = 0;  // relative to the step's, which kernels add (PassOptions::sample_offset)
  backend.begin_recording(latest_ ? latest_->work.get() : nullptr);  // the two never run at the same time
  try {
    recorded.update = begin_update(objective_, optimizer_, ema_, gradient_norm_, clip_norm_, recorded.batches,
                                   relative, true);
    for (const LossParts& part : recorded.update.parts)
      check<DeviceError>(part.device_sums.defined(), "its loss leaves no device_sums to read (LossParts)");
    recorded.work = backend.end_recording();
  } catch (const OutOfMemoryError&) {
    backend.cancel_recording();
    throw;
  } catch (const DeviceError& error) {
    backend.cancel_recording();
    raise<DeviceError>("cuda_graph: this step needs decisions on the host and cannot be recorded: {}",
                       error.what());
  } catch (...) {
    backend.cancel_recording();
    throw;
  }
  for (const Tensor& parameter : parameters) recorded.gradients.push_back(parameter.grad());
}

}  // namespace tandem::nn
