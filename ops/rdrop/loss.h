// From inputs to a loss and its gradient: the way that rdrop_cross_entropy, rdrop_mse,
// linear_rdrop_cross_entropy and cross_entropy (one pass, alpha = 0) have in common. Here, and only here, it
// is decided whether the CPU's implementation runs or the device's.
#pragma once

#include "autograd/op.h"
#include "ops/rdrop/inputs.h"

namespace tandem::rdrop {

// The sums of one call. Units are added in one go, or some at a time in their order; a device's sums stay
// there until finish().
class LossSum {
 public:
  // Of so many units; x: a tensor of their passes and device.
  LossSum(const Inputs& inputs, const Tensor& x, int64_t units, int64_t classes);

  // Adds units [first, first + count) and makes their gradient. logits: rows of `classes`, dense, which begin
  // with the first unit. gradient: like the logits, which it may be; undefined for the value alone.
  void add_cross_entropy(const Tensor& logits, const Tensor& gradient, int64_t first, int64_t count);
  void add_mse(const Tensor& y, const Tensor& target, const Tensor& gradient);  // all units

  // Fills the loss, f32 or f64 []; the parts are returned without it. ValueError for what a device's kernels
  // found wrong, unless the step is being recorded: then nothing is read.
  LossParts finish(const Tensor& loss) const;

 private:
  void add(const LossSums& sums);

  const Inputs& inputs_;
  Problem problem_;             // of all units
  LossSums sums_;               // on the CPU
  Tensor device_sums_, parts_;  // on a device: DeviceSums; a Part for each unit or some, as bytes
  int64_t part_count_ = 0;
};

// An op whose forward makes the loss and its gradient at once.
struct LossOp : Op {
  explicit LossOp(const Inputs& inputs) : inputs(inputs) {}
  const char* name() const override { return inputs.op; }
  bool first_order_only() const override { return true; }
  Tensors vjp(const Tensor& cotangent) override { return {scaled_gradient(0, cotangent)}; }

  Inputs inputs;
  LossParts parts;  // set by forward(), without the loss, which is the output

 protected:
  // The cross-entropy of logits [units..., classes]; the gradient, where it is asked for, is saved(0).
  Tensor cross_entropy(const Tensor& logits);
  Tensor finish(const LossSum& sum, const Tensor& x);  // x: of the loss's dtype, or narrower
  Tensor divisor() const;                              // of the loss, f64 []
  // cotangent (one number) * saved(i); saved(i) itself, not copied, when the cotangent is known to be 1.
  Tensor scaled_gradient(size_t i, const Tensor& cotangent) const;
};

// Applies a LossOp and returns all that it found.
template <class O> LossParts apply_loss(const Tensors& in, const Inputs& inputs) {
  const auto op = std::make_shared<O>(inputs);
  Tensor loss = record(op, in);
  LossParts parts = op->parts;
  parts.loss = std::move(loss);
  return parts;
}

// Counts the units on x's device, and looks there for labels that are no class: DeviceSums whose divisor and
// error are set.
Tensor count_on_device(const Inputs& inputs, const Tensor& x, int64_t units, int64_t classes);
Tensor divisor_of(const Tensor& device_sums);  // f64 [], a view

}  // namespace tandem::rdrop
