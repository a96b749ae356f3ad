// An objective joins a model to a loss: everything the trainer knows about a task. A user's own is these few
// functions; the classification of the bundled models is below.
#pragma once

#include "nn/data/dataset.h"
#include "nn/module.h"
#include "ops/rdrop/rdrop.h"

namespace tandem::nn {

class Objective {
 public:
  virtual ~Objective() = default;
  virtual Module& module() = 0;

  // What the loss needs of one batch, written for one pass: logits, say, or the input of a large output
  // layer.
  virtual Tensor forward(const data::Batch& batch) = 0;

  // The loss of m passes of that. `passes` is m, also where the output is the same in all passes.
  virtual LossParts loss(const Tensor& output, const data::Batch& batch, const RDropOptions& options,
                         int passes) = 0;

  // batch is on the module's device, but for valid_units.
  // Units (examples, tokens) of the batch that count: summed over a whole step, they are the loss's divisor.
  // Here: those of the valid mask whose label is not RDropOptions::ignore_index's default.
  virtual int64_t valid_units(const data::Batch& batch) const;

  // Reported as "accuracy" (fraction of valid units that are right) when true.
  virtual bool counts_correct() const { return true; }

  // Whether a step can be recorded (TrainerOptions::cuda_graph): the host neither decides nor computes
  // anything in forward and loss, and the loss leaves LossParts::device_sums.
  virtual bool recordable() const { return true; }
};

// model.forward of a batch, or else of its first input.
template <class Model>
Tensor forward_of(Model& model, const data::Batch& batch) {
  if constexpr (requires { model.forward(batch); }) {
    return model.forward(batch);
  } else {
    return model.forward(batch.inputs[0]);
  }
}

// Targets are labels [B]; forward_of(model, batch) gives logits [B, classes].
template <class Model>
class Classification final : public Objective {
 public:
  explicit Classification(Model& model) : model_(model) {}
  Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override { return forward_of(model_, batch); }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return rdrop_cross_entropy(logits, batch.target, options, batch.valid, passes);
  }

 private:
  Model& model_;
};

// Targets are numbers [B]; forward_of(model, batch) gives predictions [B] or [B, 1].
template <class Model>
class Regression final : public Objective {
 public:
  explicit Regression(Model& model) : model_(model) {}
  Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override { return forward_of(model_, batch); }
  LossParts loss(const Tensor& prediction, const data::Batch& batch, const RDropOptions& options,
                 int) override {
    return rdrop_mse(prediction, batch.target, options, batch.valid);
  }
  bool counts_correct() const override { return false; }

 private:
  Model& model_;
};

}  // namespace tandem::nn
