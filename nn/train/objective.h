// An objective joins a model to a loss: all that the trainer knows about a task. A user's own implements
// these few functions; classification and regression are below.
#pragma once

#include "autograd/error.h"
#include "nn/data/dataset.h"
#include "nn/module.h"
#include "ops/rdrop/rdrop.h"

namespace tandem::nn {

// Batches are on the module's device, except those of valid_units, which are on the host.
class Objective {
 public:
  virtual ~Objective() = default;
  virtual Module& module() = 0;  // the model

  // What the loss needs of one batch, written for one pass: for instance logits, or the input of a large
  // output layer.
  virtual Tensor forward(const data::Batch& batch) = 0;

  // The loss of m passes of that output. `passes` is m, also where the output is the same in all passes.
  virtual LossParts loss(const Tensor& output, const data::Batch& batch, const RDropOptions& options,
                         int passes) = 0;

  // The same of several outputs: what plans, evaluation and the two above go by. See MultiObjective.
  virtual Tensors outputs(const data::Batch& batch) { return {forward(batch)}; }
  virtual LossParts loss_of(const Tensors& outputs, const data::Batch& batch, const RDropOptions& options,
                            int passes) {
    return loss(outputs.front(), batch, options, passes);
  }

  // How many units (examples, tokens) of the batch count: their sum over a step is the loss's divisor.
  // Here: those in batch.valid whose label is not the default RDropOptions::ignore_index.
  virtual int64_t valid_units(const data::Batch& batch) const;

  // The sum of the weights of these units, where the loss weighs them (RDropOptions::weight_divisor): 1 here.
  virtual double weight_of(const data::Batch&, int64_t units) const { return static_cast<double>(units); }

  // Whether "accuracy", the fraction of valid units that are right, is reported.
  virtual bool counts_correct() const { return true; }

  // Whether steps can be recorded (TrainerOptions::cuda_graph): forward and loss decide and compute nothing
  // on the host, and the loss leaves LossParts::device_sums.
  virtual bool recordable() const { return true; }

  // Whether the loss of a batch is the sum of its samples' losses, so that ranks can have some of them each:
  // not where samples are mixed with, or held against, others.
  virtual bool splits() const { return true; }

  // Whether plain training can tell the KL between two passes of a batch (TrainerOptions::measure_kl).
  virtual bool tells_kl() const { return true; }
};

// Of a model with several heads: outputs() and loss_of() in place of forward() and loss(). Losses add up:
//
//   Tensors outputs(const data::Batch& batch) override { return model.forward(batch.inputs[0]); }
//   LossParts loss_of(const Tensors& heads, const data::Batch& batch, const RDropOptions& options,
//                     int passes) override {
//     return rdrop_cross_entropy(heads[0], batch.target, options, batch.valid, passes) +
//            0.5 * rdrop_mse(heads[1], batch["height"], options, batch.valid);
//   }
class MultiObjective : public Objective {
 public:
  Tensors outputs(const data::Batch& batch) override = 0;
  LossParts loss_of(const Tensors& outputs, const data::Batch& batch, const RDropOptions& options,
                    int passes) override = 0;
  // The first head, for callers that want one.
  Tensor forward(const data::Batch& batch) final { return outputs(batch).front(); }
  LossParts loss(const Tensor& output, const data::Batch& batch, const RDropOptions& options,
                 int passes) final {
    return loss_of({output}, batch, options, passes);
  }
};

// model.forward of a batch, or else of its first input.
template <class Model> Tensor forward_of(Model& model, const data::Batch& batch) {
  if constexpr (requires { model.forward(batch); }) {
    return model.forward(batch);
  } else {
    check<ShapeError>(!batch.inputs.empty(), "batch: it has no inputs, expected the model's");
    return model.forward(batch.inputs[0]);
  }
}

// Weights of classes in training; validation counts all units alike.
class ClassWeights {
 public:
  // f32 [classes], on the CPU; undefined: all weigh the same. ConfigError for one that is below 0 or not
  // finite, or all 0.
  explicit ClassWeights(const Tensor& weights = {});
  bool given() const { return weights_.defined(); }
  // rdrop_cross_entropy, weighted where weights are given and the module is in training.
  LossParts loss(const Module& module, const Tensor& logits, const data::Batch& batch,
                 const RDropOptions& options, int passes) const;
  // As of Objective, of labels that are not the default ignore_index, `units` of them. ValueError for a label
  // that has no weight.
  double weight_of(const data::Batch& batch, int64_t units) const;

 private:
  Tensor weights_;
};

// Targets are labels [B], or [B, T] of the tokens of texts; forward_of(model, batch) gives logits [B,
// classes], or [B, T, classes].
template <class Model> class Classification final : public Objective {
 public:
  explicit Classification(Model& model, const Tensor& class_weights = {})
      : model_(model), weights_(class_weights) {}
  Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override { return forward_of(model_, batch); }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return weights_.loss(model_, logits, batch, options, passes);
  }
  double weight_of(const data::Batch& batch, int64_t units) const override {
    return weights_.weight_of(batch, units);
  }
  bool recordable() const override { return !weights_.given(); }

 private:
  Model& model_;
  ClassWeights weights_;
};

// Targets are f32 [B, classes], 1 where a class is there and 0 where not; forward_of(model, batch) gives
// logits [B, classes]. "Accuracy" is the share of samples all of whose classes are right.
template <class Model> class MultiLabel final : public Objective {
 public:
  explicit MultiLabel(Model& model) : model_(model) {}
  Module& module() override { return model_; }
  Tensor forward(const data::Batch& batch) override { return forward_of(model_, batch); }
  LossParts loss(const Tensor& logits, const data::Batch& batch, const RDropOptions& options,
                 int passes) override {
    return rdrop_binary_cross_entropy(logits, batch.target, options, batch.valid, passes);
  }
  int64_t valid_units(const data::Batch& batch) const override {
    data::Batch units = batch;
    units.target = batch.target.select(1, 0);
    return Objective::valid_units(units);
  }
  bool recordable() const override { return false; }

 private:
  Model& model_;
};

// Targets are numbers [B]; forward_of(model, batch) gives predictions [B] or [B, 1].
template <class Model> class Regression final : public Objective {
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
