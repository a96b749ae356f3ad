// The gradients of all ranks, added up while the backward still runs: parameters share buckets, in the
// reverse order of their registration, which is about the order in which backwards reach them; a bucket goes
// out when the gradients in it are whole (Li et al. 2020, "PyTorch Distributed", arXiv 2006.15704). Those of
// a device are added up by NCCL, where all ranks have it, else through the host's memory.
#pragma once

#include <unordered_map>
#include <vector>

#include "autograd/ranks.h"
#include "autograd/tensor.h"

namespace tandem::nn {

class GradientSum {
 public:
  // A bucket of `bucket_bytes` is full. `ranks` must outlive it.
  explicit GradientSum(Ranks& ranks, int64_t bucket_bytes = int64_t{4} << 20);

  // Before the forward of a step, which is to learn those of these parameters that require a gradient.
  void begin(const Tensors& parameters);
  // For the last backward of the step: tells this which gradients are whole.
  BackwardOptions last_backward();
  // After it: every .grad is the sum over all ranks, in its own dtype, f32 or f64. A parameter has none where
  // no rank has one.
  void finish();

  Ranks& ranks() const { return ranks_; }
  double seconds() const { return seconds_; }  // that finish() has waited for the others, of all steps

 private:
  struct Bucket {
    std::vector<size_t> members;  // of parameters_
    std::vector<int64_t> offsets;
    Tensor flat;  // their gradients
    int64_t missing = 0;
  };
  void lay_out();
  void begin_full();
  void begin(const Bucket& bucket);
  void hand_back(const Bucket& bucket, const std::vector<double>& having);

  Ranks& ranks_;
  const int64_t bucket_bytes_;
  Tensors parameters_;
  std::vector<Bucket> buckets_;
  std::unordered_map<const TensorImpl*, size_t> bucket_of_;
  size_t begun_ = 0;                       // of the buckets, in order
  Device device_;                          // of the parameters
  std::unique_ptr<RankSums> device_sums_;  // null: the host adds up
  double seconds_ = 0;
};

}  // namespace tandem::nn
