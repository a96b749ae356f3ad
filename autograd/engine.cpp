#include "autograd/engine.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "autograd/anomaly.h"
#include "autograd/arrived.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "autograd/profiler.h"
#include "autograd/scope.h"
#include "autograd/tensor_impl.h"
#include "autograd/used_ops.h"

namespace tandem {
namespace {

Tensor run_hooks(const char* of, const std::vector<GradHook>& hooks, Tensor gradient) {
  for (const GradHook& hook : hooks) {
    Tensor changed = hook(gradient);
    if (!changed.defined()) continue;
    check_gradient(fmt::format("{}: a hook's result", of), changed, gradient);
    gradient = std::move(changed);
  }
  return gradient;
}

// What guards the .grad of a tensor, into which several threads may add: one of a few, by its address.
std::mutex& mutex_of(const TensorImpl& x) {
  static std::array<std::mutex, 64> mutexes;
  return mutexes[std::hash<const void*>()(&x) / sizeof(TensorImpl) % mutexes.size()];
}

// True when nobody else can see the memory of x, so that adding into it in place is invisible, and x is all
// of it, so that keeping x keeps nothing else.
bool owned(const Tensor& x) {
  return x.impl().use_count() == 1 && x.impl()->storage.use_count() == 1 && x.is_contiguous() &&
         x.numel() * x.passes() * size_of(x.dtype()) == x.impl()->storage->bytes;
}

bool broadcasts(const Shape& a, const Shape& b) {
  for (int i = 1; i <= std::min(a.size(), b.size()); ++i) {
    const int64_t x = a[a.size() - i], y = b[b.size() - i];
    if (x != y && x != 1 && y != 1) return false;
  }
  return true;
}

// Brings a cotangent to exactly the shape, passes and dtype of the tensor it belongs to, an input of `op`:
// sums what was broadcast, repeats (by stride 0) what is the same everywhere. Sums are made in the wider of
// both dtypes.
Tensor conform(const char* op, size_t input, Tensor gradient, const Shape& shape, int passes, DType dtype,
               Device device) {
  check<DeviceError>(gradient.device() == device, "{}: a cotangent on {}, expected {}", op,
                     name_of(gradient.device()), name_of(device));
  check<DTypeError>(is_floating(gradient.dtype()), "{}: expected a floating cotangent, got {}", op,
                    describe(gradient));
  if (gradient.dtype() < dtype) gradient = gradient.to(dtype);
  if (gradient.shape() == shape && gradient.passes() == passes) return gradient.to(dtype);
  check<ShapeError>(broadcasts(gradient.shape(), shape),
                    "{}: vjp returned {} for input {}, expected a cotangent that broadcasts with {}", op,
                    describe(gradient), input, shape);
  if (const Shape full = broadcast(op, gradient.shape(), shape); gradient.shape() != full) {
    gradient = gradient.expand(full);
  }
  check<ShapeError>(passes == 1 || gradient.passes() == 1 || gradient.passes() == passes,
                    "{}: a cotangent of {} passes, expected {}", op, gradient.passes(), passes);
  gradient = sum_to(gradient, shape, passes);
  if (gradient.passes() != passes) gradient = stack_passes(Tensors(passes, gradient));
  return gradient.to(dtype);
}

}  // namespace

class Engine {
 public:
  Engine(BackwardOptions options, const Tensors* wanted) : options_(options), wanted_(wanted) {
    if (!wanted) return;
    results_.resize(wanted->size());
    for (const Tensor& x : *wanted) {
      const uint64_t sequence = x.grad_fn() ? x.grad_fn()->sequence_ : 0;
      last_ = std::min(last_, sequence);
    }
  }

  void run(const Tensor& root, Tensor cotangent) {
    GradMode mode(options_.create_graph);
    check<AutogradError>(root.requires_grad(), "backward: the root does not require a gradient");
    if (!cotangent.defined()) {
      check<AutogradError>(
          root.numel() == 1 && root.passes() == 1,
          "backward: the root is {}; give a cotangent for a root that is not one number{}", describe(root),
          root.passes() > 1 ? ", or a loss that joins the passes, as rdrop_cross_entropy" : "");
      cotangent = ones_like(root);
      cotangent.impl()->storage->one_at = cotangent.version();
    }
    // Unlike a vjp's: no sum would be what was meant.
    check<ShapeError>(broadcast("backward", cotangent.shape(), root.shape()) == root.shape() &&
                          (cotangent.passes() == 1 || cotangent.passes() == root.passes()),
                      "backward: the cotangent {} does not fit the root {}", describe(cotangent),
                      describe(root));
    cotangent = conform("backward", 0, cotangent, root.shape(), root.passes(), root.dtype(), root.device());
    if (!root.grad_fn()) return give(root.impl(), std::move(cotangent)), finish();
    if (options_.leaf_done) order_leaves(*root.grad_fn());
    give(root.grad_fn(), std::move(cotangent));
    while (!pending_.empty()) {
      auto next = pending_.extract(pending_.begin());
      if (wanted_ && next.key() < last_) break;
      Op& op = *next.mapped().op;
      step(op, next.mapped().gradient.total(op.dtype_));
      const uint64_t to_come = pending_.empty() ? 0 : pending_.begin()->first;
      for (; last_uses_.size() > handed_ && last_uses_[handed_].first > to_come; ++handed_)
        finish(last_uses_[handed_].second);
    }
    finish();
  }

  Tensors take_results() { return std::move(results_); }

 private:
  // The state of an op is not for two backwards at once. Never waits: two graphs could wait for each other.
  class Running {
   public:
    Running(Op& op, Engine& engine) : op_(op), engine_(engine) {
      check<AutogradError>(!op.running_.exchange(true, std::memory_order_acquire),
                           "{}: the backward of another thread runs through the same op; graphs may share "
                           "leaves only",
                           op.name());
      innermost = this;
    }
    ~Running() {
      innermost = outer_;
      op_.running_.store(false, std::memory_order_release);
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

    // What has come to the maker of an input so far, if the op may add to it in place, as accumulate() would.
    static Tensor take(const Op& op, size_t input) {
      if (!innermost || &innermost->op_ != &op || !op.needs(input)) return {};
      Engine& engine = innermost->engine_;
      const std::shared_ptr<Op>& maker = op.edges_[input].op;
      const auto pending = maker ? engine.pending_.find(maker->sequence_) : engine.pending_.end();
      if (engine.options_.create_graph || pending == engine.pending_.end()) return {};
      auto& [sum, count] = pending->second.gradient;
      const bool last_of_bf16 = count > 1 && maker->dtype_ == DType::bf16;  // the next is added in f32
      if (!sum.defined() || sum.dtype() != maker->dtype_ || last_of_bf16 || !owned(sum)) return {};
      const Tensor taken = std::exchange(sum, {});
      taken.bump_version();  // it is about to be written to
      return taken;
    }

   private:
    Op& op_;
    Engine& engine_;
    Running* const outer_ = innermost;
    static thread_local Running* innermost;
  };
  friend Tensor arrived(const Op& op, size_t input);

  void step(Op& op, Tensor gradient) {
    const Running running(op, *this);
    gradient = run_hooks(op.name(), op.hooks_, std::move(gradient));
    if (wanted_) {
      for (size_t i = 0; i < wanted_->size(); ++i) {
        if ((*wanted_)[i].impl()->grad_fn.get() == &op) results_[i] = gradient;
      }
      if (op.sequence_ == last_) return;
    } else if (auto tensor = op.retained_.lock()) {
      keep(*tensor, gradient);
    }
    check<AutogradError>(!(options_.create_graph && op.first_order_only()),
                         "{}: has a first derivative only; create_graph needs a second one", op.name());
    Tensors cotangents;
    {
      const OpScope scope(op.name());
      ProfileScope profile(op.name(), true);
      AnomalyCheck anomaly;
      cotangents = op.vjp(gradient);
      anomaly.backward(op, op.sequence_, gradient, cotangents);
      profile.count(cotangents, gradient);
    }
    size_t least = op.edges_.size();  // up to the last that is needed
    while (least > 0 && !op.edges_[least - 1].needed) --least;
    check<AutogradError>(cotangents.size() >= least && cotangents.size() <= op.edges_.size(),
                         "{}: vjp returned {} cotangents for {} inputs", op.name(), cotangents.size(),
                         op.edges_.size());
    gradient = Tensor();  // so that a cotangent that is the gradient itself has one owner less
    for (size_t i = 0; i < cotangents.size(); ++i) {
      const Op::Edge& edge = op.edges_[i];
      if (!edge.needed || !cotangents[i].defined()) continue;
      if (edge.op) {
        give(edge.op, conform(op.name(), i, std::move(cotangents[i]), edge.op->shape_, edge.op->passes_,
                              edge.op->dtype_, edge.op->device_));
      } else {
        const TensorImpl& leaf = *edge.leaf;
        give(edge.leaf, conform(op.name(), i, std::move(cotangents[i]), leaf.shape, leaf.passes, leaf.dtype,
                                leaf.storage->device));
      }
    }
    if (!options_.retain_graph && !options_.create_graph) {
      op.saved_.clear();
      op.released_ = true;
    }
  }

  // Cotangents that have arrived at a tensor. Of 16-bit ones, the sum of the first two is rounded once; from
  // the third on the sum is f32, lest it stop growing, and total() rounds it.
  struct Arrived {
    Tensor sum;
    int count = 0;
    Tensor total(DType dtype) { return std::exchange(sum, {}).to(dtype); }
  };

  void accumulate(Arrived& arrived, Tensor gradient) {
    Tensor& into = arrived.sum;
    if (++arrived.count == 3 && into.defined() && into.dtype() == DType::bf16) into = into.to(DType::f32);
    if (!into.defined()) {  // or taken by a vjp, whose cotangent includes it
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
    Pending& pending = pending_[op->sequence_];
    if (!pending.op) pending.op = op;
    accumulate(pending.gradient, std::move(gradient));
  }

  void give(const std::shared_ptr<TensorImpl>& leaf, Tensor gradient) {
    auto [entry, fresh] = leaves_.try_emplace(leaf.get());
    if (fresh) leaf_order_.push_back(leaf);
    accumulate(entry->second, std::move(gradient));
  }

  // Adds a whole gradient to the .grad of a tensor.
  void keep(TensorImpl& x, Tensor gradient) {
    const std::lock_guard lock(mutex_of(x));
    Tensor& grad = x.grad;
    if (grad.defined()) check_gradient("backward: .grad", grad, gradient);
    if (options_.create_graph) {
      grad = grad.defined() ? add(grad, gradient) : owned(gradient) ? gradient : gradient.clone();
    } else if (grad.defined()) {
      grad.add_(gradient);
    } else {
      grad = owned(gradient) ? std::move(gradient) : gradient.detach().clone();
    }
  }

  // Every leaf's whole gradient: through its hooks, then into .grad or the results.
  void finish() {
    for (const auto& leaf : leaf_order_) finish(leaf);
  }
  void finish(const std::shared_ptr<TensorImpl>& leaf) {
    auto arrived = leaves_.extract(leaf.get());
    if (arrived.empty()) return;  // finished already, or no gradient came
    Tensor gradient = arrived.mapped().total(leaf->dtype);
    if (!wanted_) {
      keep(*leaf, run_hooks("a leaf", leaf->hooks, std::move(gradient)));
      if (options_.leaf_done) options_.leaf_done(leaf);
      return;
    }
    const auto is_leaf = [&](const Tensor& x) { return x.impl() == leaf; };
    if (std::none_of(wanted_->begin(), wanted_->end(), is_leaf)) return;
    gradient = run_hooks("a leaf", leaf->hooks, std::move(gradient));
    for (size_t i = 0; i < wanted_->size(); ++i) {
      if (is_leaf((*wanted_)[i])) results_[i] = gradient;
    }
  }

  // Each leaf by the first op that uses it, whose backward is the last that gives to it: the latest first.
  void order_leaves(Op& root) {
    std::unordered_map<std::shared_ptr<TensorImpl>, uint64_t> first_use;
    std::unordered_set<const Op*> seen{&root};
    for (std::vector<const Op*> left{&root}; !left.empty();) {
      const Op& op = *left.back();
      left.pop_back();
      for (const Op::Edge& edge : op.edges_) {
        if (!edge.needed) continue;
        if (edge.op && seen.insert(edge.op.get()).second) left.push_back(edge.op.get());
        if (!edge.leaf) continue;
        uint64_t& first = first_use.try_emplace(edge.leaf, op.sequence_).first->second;
        first = std::min(first, op.sequence_);
      }
    }
    for (const auto& [leaf, sequence] : first_use) last_uses_.emplace_back(sequence, leaf);
    std::sort(last_uses_.begin(), last_uses_.end(),
              [](const auto& a, const auto& b) { return a.first > b.first; });
  }

  struct Pending {
    std::shared_ptr<Op> op;
    Arrived gradient;
  };

  BackwardOptions options_;
  const Tensors* wanted_;         // null: accumulate into the leaves
  uint64_t last_ = ~uint64_t{0};  // the earliest op that is wanted; below it nothing is
  Tensors results_;
  std::map<uint64_t, Pending, std::greater<>> pending_;  // by sequence number, the latest first
  std::unordered_map<TensorImpl*, Arrived> leaves_;
  std::vector<std::shared_ptr<TensorImpl>> leaf_order_;
  std::vector<std::pair<uint64_t, std::shared_ptr<TensorImpl>>> last_uses_;  // for leaf_done
  size_t handed_ = 0;                                                        // of them
};

thread_local Engine::Running* Engine::Running::innermost = nullptr;

Tensor arrived(const Op& op, size_t input) { return Engine::Running::take(op, input); }

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
