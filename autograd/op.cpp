#include "autograd/op.h"

#include "autograd/anomaly.h"
#include "autograd/inference.h"
#include "autograd/profiler.h"
#include "autograd/scope.h"
#include "autograd/tensor_impl.h"
#include "autograd/thread_scope.h"

namespace tandem {
namespace {

thread_local GradMode* grad_mode = nullptr;
thread_local bool inference = false;
std::atomic<uint64_t> next_sequence{1};

// Dropping the last owner of an op drops its edges, and so on along the chain: done with a list, so that a
// graph of any length is freed in a bounded stack.
thread_local std::vector<std::shared_ptr<Op>>* releasing = nullptr;

void release(std::shared_ptr<Op>&& op) {
  if (!op || op.use_count() > 1) return op.reset();
  if (releasing) return releasing->push_back(std::move(op));
  std::vector<std::shared_ptr<Op>> list;
  releasing = &list;
  list.push_back(std::move(op));
  while (!list.empty()) {
    auto last = std::move(list.back());
    list.pop_back();
    last.reset();
  }
  releasing = nullptr;
}

}  // namespace

bool grad_enabled() { return !grad_mode || grad_mode->enabled_; }
GradMode::GradMode(bool enabled) : enabled_(enabled), outer_(grad_mode) { grad_mode = this; }
GradMode::~GradMode() { close_scope(grad_mode, this, &GradMode::outer_, "NoGradGuard"); }

bool inference_enabled() { return inference; }
InferenceGuard::InferenceGuard() : outer_(std::exchange(inference, true)) {}
InferenceGuard::~InferenceGuard() { inference = outer_; }

Op::~Op() {
  for (Edge& edge : edges_) release(std::move(edge.op));
}
TensorImpl::~TensorImpl() { release(std::move(grad_fn)); }

const Tensor& Op::save(const Tensor& input) {
  if (recording_) saved_.push_back({input, input.defined() ? input.version() : 0, false});
  return input;
}

Tensor Op::save_output(Tensor output) {
  // Kept without its grad_fn, which is this op (that would be a cycle); saved() attaches it again.
  if (recording_) saved_.push_back({output.detach(), output.version(), true});
  return output;
}

Tensor Op::saved(size_t i) const {
  check<AutogradError>(
      !released_,
      "{}: a second backward through a graph that was freed; write "
      "loss.backward({{}}, {{.retain_graph = true}}) the first time, or run the forward again",
      name());
  check<AutogradError>(i < saved_.size(), "{}: saved tensor {} of {}", name(), i, saved_.size());
  const Saved& saved = saved_[i];
  if (!saved.value.defined()) return {};
  check<AutogradError>(saved.value.version() == saved.version,
                       "{}: a tensor needed for the backward, {}, was written to in place (version {}, "
                       "expected {}); make a new one, as in h = h + y",
                       name(), describe(saved.value), saved.value.version(), saved.version);
  if (!saved.is_output || !grad_mode) return saved.value;
  const Tensor output = saved.value.detach();
  output.impl()->grad_fn = std::const_pointer_cast<Op>(shared_from_this());
  output.impl()->requires_grad = true;
  return output;
}

Tensor Op::output(const Shape& shape, DType dtype, Device device) const {
  return empty(shape, {dtype, device}, passes_);
}

int common_passes(const char* op, const Tensors& inputs) {
  int m = 1;
  for (const Tensor& x : inputs) {
    if (!x.defined() || x.passes() == 1) continue;
    check<ShapeError>(m == 1 || m == x.passes(), "{}: inputs of {} and of {} passes", op, m, x.passes());
    m = x.passes();
  }
  return m;
}

Tensor record(std::shared_ptr<Op> op, const Tensors& inputs) {
  Op& node = *op;
  node.passes_ = common_passes(node.name(), inputs);
  bool needed = false;
  const Tensor* first = nullptr;
  for (const Tensor& x : inputs) {
    if (!x.defined()) continue;  // an optional input that was not given
    if (!first) first = &x;
    if (x.device() != first->device()) [[unlikely]] {
      raise<DeviceError>("{}: inputs on different devices: {} on {} and {} on {}; x.to(device) moves one",
                         node.name(), describe(*first), name_of(first->device()), describe(x),
                         name_of(x.device()));
    }
    needed |= x.requires_grad();
  }
  node.recording_ = needed && grad_enabled();

  Tensor output;
  AnomalyCheck anomaly;
  {
    NoGradGuard guard;
    const OpScope scope(node.name());
    ProfileScope profile(node.name(), false);
    output = node.forward(inputs);
    anomaly.forward(node.name(), inputs, output);
    profile.count(inputs, output);
  }
  // What is not recorded, or has no derivative, stays off the tape also when the forward returned its input.
  if (!node.recording_ || !is_floating(output.dtype())) {
    return output.requires_grad() ? output.detach() : output;
  }

  // A forward that returned its input unchanged still needs a tensor of its own on the tape.
  if (output.impl().use_count() > 1) output = output.detach();
  node.sequence_ = next_sequence.fetch_add(1, std::memory_order_relaxed);
  anomaly.recorded(node.sequence_);
  node.shape_ = output.shape();
  node.dtype_ = output.dtype();
  node.device_ = output.device();
  node.passes_ = output.passes();
  node.edges_.reserve(inputs.size());
  for (const Tensor& x : inputs) {
    Op::Edge edge;
    edge.needed = x.defined() && x.requires_grad();
    if (edge.needed && !(edge.op = x.grad_fn())) edge.leaf = x.impl();
    node.edges_.push_back(std::move(edge));
  }
  output.impl()->requires_grad = true;
  output.impl()->grad_fn = std::move(op);
  return output;
}

}  // namespace tandem
