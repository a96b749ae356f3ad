// Op: one application of an operator, which is also the tape's node. It has the operator's attributes, the
// forward kernel, what the backward needs, and the derivative rule. Every op has exactly one output.
//
//   struct Exp final : Op {
//     const char* name() const override { return "exp"; }
//     Tensor forward(const Tensors& in) override { return save_output(exp_kernel(in[0])); }
//     Tensors vjp(const Tensor& cotangent) override { return {cotangent * saved(0)}; }
//   };
//   Tensor exp(const Tensor& x) { return apply<Exp>({x}); }
//
// Two inputs that broadcast, and an attribute; forward and vjp may call other ops:
//
//   struct SquaredDistance final : Op {  // y = sum of (a - b)^2 over dim: da = 2 g (a - b), db = -da
//     int64_t dim;                       // counted from the end
//     explicit SquaredDistance(int64_t dim) : dim(dim) {}
//     const char* name() const override { return "squared_distance"; }
//     Tensor forward(const Tensors& in) override {
//       save(in[0]), save(in[1]);
//       return sum(square(in[0] - in[1]), {dim});
//     }
//     Tensors vjp(const Tensor& g) override {
//       const Tensor da = 2 * g.unsqueeze(dim) * (saved(0) - saved(1));
//       return {da, needs(1) ? -da : Tensor()};
//     }
//   };
//   Tensor squared_distance(const Tensor& a, const Tensor& b, int64_t dim) {
//     const char* name = "squared_distance";
//     const int dims = broadcast(name, a.shape(), b.shape()).size();
//     return apply<SquaredDistance>({a, b}, wrap_dim(name, dim, dims) - dims);
//   }
//
// Inputs and output have their passes in front in memory, so a kernel that works along other dimensions takes
// all passes at once. An op whose kernel cannot says so, and is applied to each pass on its own:
//   static constexpr bool one_pass_at_a_time = true;
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace tandem {

class Op : public std::enable_shared_from_this<Op> {
 public:
  virtual ~Op();
  virtual const char* name() const = 0;  // "exp": what errors, profiles and the registry call it

  // Computes the output from the inputs; nothing is recorded inside.
  virtual Tensor forward(const Tensors& inputs) = 0;

  // The vector-Jacobian product: the cotangents of the inputs, up to the last that needs(i) (an undefined
  // Tensor means zero). Where an input was broadcast, or has fewer passes, the engine sums.
  virtual Tensors vjp(const Tensor& cotangent) = 0;

  // True for a vjp whose own kernels are not recorded: a second derivative through it is refused.
  virtual bool first_order_only() const { return false; }

  // For vjp(): whether the gradient of this input is asked for; AutogradError for a number beyond the inputs.
  bool needs(size_t input) const {
    check<AutogradError>(input < edges_.size(), "{}: needs({}) of {} inputs", name(), input, edges_.size());
    return edges_[input].needed;
  }

 protected:
  // For forward(): keep a tensor (perhaps undefined) for the vjp; a no-op when nothing is recorded. Returns
  // its argument. Second derivatives reach inputs and the output, but no other tensor that was kept.
  const Tensor& save(const Tensor& input);
  Tensor save_output(Tensor output);
  // For vjp(): the i-th saved tensor, in order of saving. AutogradError when it was written to meanwhile.
  Tensor saved(size_t i) const;

  // For forward(): a new output tensor. The ONE place where passes propagate: it has as many as the inputs.
  Tensor output(const Shape& shape, DType dtype, Device device) const;
  Tensor output(const Shape& shape, const Tensor& like) const {
    return output(shape, like.dtype(), like.device());
  }
  bool recording() const { return recording_; }      // whether a vjp may be asked for
  int passes() const { return passes_; }             // of the output
  void set_passes(int passes) { passes_ = passes; }  // noise alone may change them

 private:
  friend class Engine;
  friend class Tensor;
  friend Tensor record(std::shared_ptr<Op> op, const Tensors& inputs);
  friend std::string graph_to_dot(const Tensor& root, const std::map<std::string, Tensor>& names);

  struct Edge {                        // to the maker of one input
    std::shared_ptr<Op> op;            // null for a leaf
    std::shared_ptr<TensorImpl> leaf;  // null for an op's output
    bool needed = false;
  };
  struct Saved {
    Tensor value;
    int64_t version;
    bool is_output;
  };

  std::vector<Edge> edges_;
  std::vector<Saved> saved_;
  std::vector<GradHook> hooks_;         // on the output's gradient
  std::weak_ptr<TensorImpl> retained_;  // the output, when it keeps its .grad
  Shape shape_;                         // of the output
  DType dtype_ = DType::f32;
  Device device_;
  int passes_ = 1;
  bool recording_ = false;
  bool released_ = false;             // saved tensors were freed by a backward
  std::atomic<bool> running_{false};  // some thread's backward is at it
  uint64_t sequence_ = 0;             // process-wide order of recording: inputs before outputs
};

// The number of passes of the inputs' op: the one number > 1 among them, or 1. ShapeError when they disagree.
int common_passes(const char* op, const Tensors& inputs);

// Runs op->forward and, where a gradient will be asked for, puts it on the tape.
Tensor record(std::shared_ptr<Op> op, const Tensors& inputs);

// Applies an operator O made from `attributes`: to all passes at once, or to each on its own where O says so.
template <class O, class... Attributes> Tensor apply(const Tensors& inputs, const Attributes&... attributes) {
  auto op = std::make_shared<O>(attributes...);
  if constexpr (requires { O::one_pass_at_a_time; }) {
    const int m = common_passes(op->name(), inputs);
    if (m > 1) {
      Tensors outputs;
      for (int i = 0; i < m; ++i) {
        Tensors one;
        for (const Tensor& x : inputs) one.push_back(x.passes() == 1 ? x : x.pass(i));
        outputs.push_back(apply<O>(one, attributes...));
      }
      return stack_passes(outputs);
    }
  }
  return record(std::move(op), inputs);
}

}  // namespace tandem
