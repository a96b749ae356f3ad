// What a trainer reads: minibatches of a data set, and the order in which an epoch visits it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "autograd/tensor.h"

namespace tandem::data {

struct Batch {
  Tensors inputs;    // each with the samples as its first dimension
  Tensor target;     // i64 labels, or floating values
  Tensor valid;      // bool in the shape of target, true where a unit counts; undefined: all do
  int64_t size = 0;  // samples

  Batch to(Device device) const;
  // The same beside the work that goes on: to be read after backend(device).await_uploads().
  Batch upload(Device device) const;
};

// What augmentation may depend on: a pure function of the step and of the sample's place in the global batch.
struct BatchContext {
  bool training = false;
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t sample_offset = 0;
};

using Indices = std::vector<int64_t>;

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;  // samples
  virtual Batch batch(std::span<const int64_t> indices, const BatchContext& context) const = 0;

  // The samples of each step of an epoch. Shuffled by (seed, epoch); the last, smaller batch is kept.
  virtual std::vector<Indices> shuffled_batches(uint64_t seed, int64_t epoch, int64_t batch_size) const;
  // For evaluation: each once, in order or (texts) by length.
  virtual std::vector<Indices> ordered_batches(int64_t batch_size) const;
};

}  // namespace tandem::data
