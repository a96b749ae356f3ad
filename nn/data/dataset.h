// Data sets: minibatches, and the order in which an epoch visits them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace tandem::data {

// The samples of a step, or of a micro-batch.
struct Batch {
  Tensors inputs = {};  // each with the samples as its first dimension
  Tensor target = {};   // i64 labels, or floating values
  Tensor valid = {};    // bool in the shape of target, true where a unit counts; undefined: all do
  int64_t size = 0;     // samples
  // What else a model or a loss needs, by name: further inputs, further targets. Each with the samples as its
  // first dimension.
  std::map<std::string, Tensor> named = {};
  // What is left to do to the inputs where they are used, or empty: bytes of images become numbers.
  std::function<void(Tensors& inputs)> finish = {};

  const Tensor& operator[](const std::string& name) const;  // ConfigError for a name that is not there

  Batch map(const std::function<Tensor(const Tensor&)>& f) const;  // of every tensor that is there
  // ShapeError unless size is the first dimension of every input and of what is named, and so what noise and
  // mixing go by.
  void check_size() const;

  Batch to(Device device) const;  // finished; tensors that are there already are shared
  // Without waiting for the device, and not finished: to() is called after backend(device).await_uploads().
  Batch upload(Device device) const;
};

// What augmentation may depend on: it is a pure function of the step and of the sample's place in the global
// batch.
struct BatchContext {
  bool training = false;       // augmentation is wanted
  uint64_t seed = 0;           // of the training
  uint64_t step = 0;           // of the optimizer
  uint64_t sample_offset = 0;  // of the batch's first sample in the global batch
  int passes = 1;              // of the step, for data that differs between them
  bool for_device = false;  // images may stay bytes until Batch::to: fewer to copy, less for the host to do

  bool operator==(const BatchContext&) const = default;
};

using Indices = std::vector<int64_t>;  // of samples

// The order's samples, batch_size at a time. ConfigError for a batch_size below 1.
std::vector<Indices> cut_batches(const Indices& order, int64_t batch_size);
// 0 .. count-1 in an order that (seed, epoch) says; `call` tells the orders of one epoch apart.
Indices shuffled(int64_t count, uint64_t seed, int64_t epoch, uint32_t call = 0);

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;  // samples
  // The samples of these indices, in that order.
  virtual Batch batch(std::span<const int64_t> indices, const BatchContext& context) const = 0;
  // That batch will be wanted soon: where making it takes long, threads of its own may begin. Each is taken
  // by batch(), in the order in which they were begun, or dropped.
  virtual void prefetch(std::span<const int64_t>, const BatchContext&) const {}

  // The samples of each step of an epoch, shuffled by (seed, epoch); the last, smaller batch is kept.
  // ConfigError for a batch_size below 1.
  virtual std::vector<Indices> shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const;
  // For evaluation: each sample once, in order or (texts) by length. ConfigError likewise.
  virtual std::vector<Indices> ordered_batches(int64_t batch_size) const;
  // What tells it apart from other data, where making its samples takes long; "": the samples do.
  virtual std::string identity() const { return {}; }
};

// Samples that are in tensors, along their first dimensions. Example:
//
//   data::TensorDataset points({ones({6, 4})}, zeros({6}, {DType::i64}));
//   for (const data::Indices& indices : points.shuffled_batches(/*seed=*/1, /*epoch=*/0, /*batch_size=*/4)) {
//     data::Batch batch = points.batch(indices, {.training = true});
//     fmt::print("{} {}\n", batch.inputs[0], batch.target);
//   }
class TensorDataset : public Dataset {
 public:
  // ShapeError unless there is a target, and an input, each of as many samples, as what is named has: further
  // targets, for instance, {{"height", heights}}, which a loss finds as batch["height"].
  TensorDataset(Tensors inputs, Tensor target, std::map<std::string, Tensor> named = {});

  int64_t size() const override { return target_.size(0); }
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;
  // Those samples, in that order.
  TensorDataset subset(std::span<const int64_t> indices) const;

 private:
  Tensors inputs_;
  Tensor target_;
  std::map<std::string, Tensor> named_;
};

// Some samples of another data set, which must outlive it. Its batches are cut anew: where those of the other
// are by length, these are not. Example:
//
//   const data::Indices order = data::shuffled(points.size(), /*seed=*/7, /*epoch=*/0);
//   data::Subset train(points, std::span(order).first(1)), valid(points, std::span(order).subspan(1));
class Subset : public Dataset {
 public:
  // Those samples, in that order. ValueError for an index that the data set does not have.
  Subset(const Dataset& dataset, std::span<const int64_t> indices);
  Subset(const Dataset&&, std::span<const int64_t>) = delete;  // it must outlive the subset

  int64_t size() const override { return std::ssize(indices_); }
  Batch batch(std::span<const int64_t> indices, const BatchContext& context) const override;
  void prefetch(std::span<const int64_t> indices, const BatchContext& context) const override;
  std::string identity() const override;

 private:
  Indices there(std::span<const int64_t> indices) const;

  const Dataset& dataset_;
  Indices indices_;
};

// Tells data sets apart: their identity(), or else their size, and a hash of at most 4096 samples that are
// spread evenly over all, as they are without augmentation.
std::string fingerprint(const Dataset& dataset);

}  // namespace tandem::data
