#include "autograd/engine.h"

#include <queue>
#include <unordered_map>

#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/profiler.h"
#include "autograd/tensor_impl.h"

namespace tandem {

Tensor add(const Tensor& a, const Tensor& b);  // ops/arithmetic

namespace {

Tensor run_hooks(const std::vector<GradHook>& hooks, Tensor gradient) {
  for (const GradHook& hook : hooks) {
    if (Tensor changed = hook(gradient); changed.defined()) gradient = changed;
  }
  return gradient;
}

// True when nobody else can see the memory of x, so that adding into it in place is invisible.
bool owned(const Tensor& x) {
  return x.impl().use_count() == 1 && x.impl()->storage.use_count() == 1 && x.is_contiguous();
}

// Brings a cotangent to exactly the shape, passes and dtype of the tensor it belongs to: sums what was
// broadcast, repeats (by stride 0) what is the same everywhere.
Tensor conform(const char* op, Tensor gradient, const Shape& shape, int passes, DType dtype) {
  if (gradient.dtype() != dtype) gradient = gradient.to(dtype);
  if (gradient.shape() == shape && gradient.passes() == passes) return gradient;
  const Shape full = broadcast(op, gradient.shape(), shape);
  gradient = sum_to(gradient, full == gradient.shape() ? shape : gradient.shape(), passes);
  if (gradient.shape() != shape) gradient = gradient.expand(shape);
  if (gradient.passes() != passes) gradient = stack_passes(Tensors(passes, gradient));
  return gradient;
}

}  // namespace

class Engine {
 public:
  Engine(BackwardOptions options, const Tensors* wanted) : options_(options), wanted_(wanted) {
    if (!wanted) return;
    results_.resize(wanted->size());
    for (const Tensor& x : *wanted) {
      const uint64_t sequence = x.grad_fn() ? x.grad_fn()->sequence_ : 0;
      stop_before_ = std::min(stop_before_, sequence);
    }
  }

  void run(const Tensor& root, Tensor cotangent) {
    GradMode mode(options_.create_graph);
    if (!cotangent.defined()) {
      check<AutogradError>(root.numel() == 1 && root.passes() == 1,
                           "backward: the root is {}; give a cotangent for a root that is not one number",
                           describe(root));
      cotangent = ones_like(root);
    }
    check<AutogradError>(root.requires_grad(), "backward: the root does not require a gradient");
    cotangent = conform("backward", cotangent, root.shape(), root.passes(), root.dtype());
    if (!root.grad_fn()) return give(root.impl(), std::move(cotangent)), finish();
    give(root.grad_fn(), std::move(cotangent));
    while (!queue_.empty()) {
      std::shared_ptr<Op> op = queue_.top().second;
      if (wanted_ && op->sequence_ < stop_before_) break;
      queue_.pop();
      Tensor gradient = std::move(pending_.extract(op.get()).mapped());
      step(*op, std::move(gradient));
    }
    finish();
  }

  Tensors take_results() { return std::move(results_); }

 private:
  void step(Op& op, Tensor gradient) {
    gradient = run_hooks(op.hooks_, std::move(gradient));
    if (wanted_) {
      for (size_t i = 0; i < wanted_->size(); ++i) {
        if ((*wanted_)[i].grad_fn().get() == &op) results_[i] = gradient;
      }
    } else if (auto tensor = op.retained_.lock()) {
      tensor->grad = options_.create_graph ? gradient : gradient.detach();
    }
    check<AutogradError>(!(options_.create_graph && op.first_order_only()),
                         "{}: has a first derivative only; create_graph needs a second one", op.name());
    Tensors cotangents;
    {
      ProfileScope profile(op.name(), true);
      cotangents = op.vjp(gradient);
      profile.count(cotangents, gradient);
    }
    check<AutogradError>(cotangents.size() <= op.edges_.size(),
                         "{}: vjp returned {} cotangents for {} inputs", op.name(), cotangents.size(),
                         op.edges_.size());
    gradient = Tensor();  // so that a cotangent that is the gradient itself has one owner less
    for (size_t i = 0; i < cotangents.size(); ++i) {
      const Op::Edge& edge = op.edges_[i];
      if (!edge.needed || !cotangents[i].defined()) continue;
      if (edge.op) {
        give(edge.op, conform(op.name(), std::move(cotangents[i]), edge.op->shape_, edge.op->passes_,
                              edge.op->dtype_));
      } else {
        const TensorImpl& leaf = *edge.leaf;
        give(edge.leaf, conform(op.name(), std::move(cotangents[i]), leaf.shape, leaf.passes, leaf.dtype));
      }
    }
    if (!options_.retain_graph && !options_.create_graph) {
      op.saved_.clear();
      op.released_ = true;
    }
  }

  void accumulate(Tensor& into, Tensor gradient) {
    if (!into.defined()) {
      into = std::move(gradient);
    } else if (!options_.create_graph && owned(into)) {
      into.add_(gradient);
    } else if (!options_.create_graph && owned(gradient)) {
      gradient.add_(into);
      into = std::move(gradient);
    } else {
      into = add(into, gradient);
    }
  }

  void give(const std::shared_ptr<Op>& op, Tensor gradient) {
    Tensor& slot = pending_[op.get()];
    if (!slot.defined()) queue_.push({op->sequence_, op});
    accumulate(slot, std::move(gradient));
  }

  void give(const std::shared_ptr<TensorImpl>& leaf, Tensor gradient) {
    auto [entry, fresh] = leaves_.try_emplace(leaf.get());
    if (fresh) leaf_order_.push_back(leaf);
    accumulate(entry->second, std::move(gradient));
  }

  // Every leaf's whole gradient: through its hooks, then into .grad or the results.
  void finish() {
    for (const auto& leaf : leaf_order_) {
      Tensor gradient = run_hooks(leaf->hooks, std::move(leaves_[leaf.get()]));
      if (wanted_) {
        for (size_t i = 0; i < wanted_->size(); ++i) {
          if ((*wanted_)[i].impl() == leaf) results_[i] = gradient;
        }
      } else if (options_.create_graph) {
        leaf->grad = leaf->grad.defined() ? add(leaf->grad, gradient) : gradient;
      } else if (leaf->grad.defined()) {
        leaf->grad.add_(gradient);
      } else {
        leaf->grad = owned(gradient) ? std::move(gradient) : gradient.detach().clone();
      }
    }
  }

  using Entry = std::pair<uint64_t, std::shared_ptr<Op>>;
  struct Earlier {
    bool operator()(const Entry& a, const Entry& b) const { return a.first < b.first; }
  };

  BackwardOptions options_;
  const Tensors* wanted_;
  uint64_t stop_before_ = ~uint64_t{0};
  Tensors results_;
  std::priority_queue<Entry, std::vector<Entry>, Earlier> queue_;
  std::unordered_map<Op*, Tensor> pending_;
  std::unordered_map<TensorImpl*, Tensor> leaves_;
  std::vector<std::shared_ptr<TensorImpl>> leaf_order_;
};

void backward(const Tensor& root, const Tensor& cotangent, BackwardOptions options) {
  Engine(options, nullptr).run(root, cotangent);
}

Tensors grad(const Tensor& root, const Tensors& inputs, const Tensor& cotangent, BackwardOptions options) {
  for (const Tensor& x : inputs) {
    check<AutogradError>(x.requires_grad(), "grad: an input does not require a gradient: {}", describe(x));
  }
  Engine engine(options, &inputs);
  engine.run(root, cotangent);
  Tensors results = engine.take_results();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!results[i].defined()) results[i] = zeros_like(inputs[i]);
  }
  return results;
}

}  // namespace tandem
