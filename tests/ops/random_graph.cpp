#include "tests/ops/random_graph.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/grad_mode.h"
#include "autograd/noise.h"
#include "ops/ops.h"
#include "tests/ops/op_suite.h"

namespace tandem::testing {
namespace {

constexpr int kViews = 32;
constexpr int64_t kMostElements = 200;
constexpr double kGain = 0.5;  // of a linked input: what a long chain multiplies its gradient with

// Numbers in [0, n), one after the other.
class Dice {
 public:
  explicit Dice(uint64_t seed) : key_(noise_key(seed, 0, 0, 0, Purpose::sampling)) {}
  int operator()(size_t n) { return static_cast<int>(bounded(key_, 0, 2 * at_++, n)); }

 private:
  NoiseKey key_;
  uint64_t at_ = 0;
};

bool can_link(const Tensor& x) {
  return x.defined() && is_floating(x.dtype()) && x.numel() > 0 && x.passes() == 1;
}

// The samples that a graph can be made of: floating, of few elements, without noise of their own.
const std::map<std::string, Samples>& usable_samples() {
  static const std::map<std::string, Samples> all = [] {
    std::map<std::string, Samples> result;
    for (const OpInfo& op : registered_ops()) {
      if (!op.differentiable || op.crosses_passes || op.draws_noise) continue;
      for (const Sample& sample : op.samples(SampleMaker(7, DType::f64, kCpu))) {
        bool links = false, few = true;
        for (const Tensor& x : sample.inputs)
          links |= can_link(x), few &= !x.defined() || x.numel() <= kMostElements;
        if (!links || !few) continue;
        const NoGradGuard no_grad;
        const Tensor y = sample.function(sample.inputs);
        if (can_link(y) && y.numel() <= kMostElements) result[op.name].push_back(sample);
      }
    }
    return result;
  }();
  return all;
}

Tensor random(const Shape& shape, uint64_t seed, int passes) {
  return normal(shape, seed, DType::f64, passes);
}

// The elements of x in another shape, repeated or left out as it takes; `view` chooses which.
Tensor reshaped(const Tensor& x, const Shape& shape, int view) {
  const int64_t count = shape.numel();
  Tensor flat = x.reshape({x.numel()});
  if (view & 1) flat = flip(flat, {0});
  if (const int64_t copies = (count - 1) / flat.numel() + 1; copies > 1)
    flat = flat.expand({copies, flat.numel()}).reshape({copies * flat.numel()});
  if ((view & 2) && flat.numel() >= 2 * count) flat = flat.slice(0, 0, 2 * count, 2);
  const int64_t start = view & 4 ? flat.numel() - count : 0;
  return flat.slice(0, start, start + count).reshape(shape);
}

// x as it lies in memory in another order, or as a part of more; what an op is given must not matter to it.
Tensor laid_out(const Tensor& x, int view) {
  if (x.dim() == 0) return x;
  if (view & 8) return x.transpose(0, -1).clone().transpose(0, -1);
  if (view & 16) return cat({x, x}, 0).slice(0, 0, x.size(0));
  return x;
}

// A view of all or a part of x's memory.
Tensor view_of(const Tensor& x, int view) {
  if (x.dim() == 0 || view % 5 == 0) return x.dim() < 5 ? x.unsqueeze(0) : x.select(0, 0);
  if (view % 5 == 1) return x.transpose(0, -1);
  if (view % 5 == 2) return x.select(-1, x.size(-1) / 2);
  if (view % 5 == 3) return x.slice(0, 0, (x.size(0) + 1) / 2);
  return x.slice(-1, 0, x.size(-1), 2);
}

// Adds numbers to x in place, unless its elements share memory.
void write(const Tensor& x, uint64_t seed) {
  const NoGradGuard no_grad;
  try {
    x.add_(random(x.shape(), seed, 1), 1e-3);
  } catch (const ValueError&) {
  }
}

Tensor faulty(const Tensor& x) {
  const Tensor y = x * 1.0;
  if (y.requires_grad()) y.register_hook([](const Tensor& g) { return g * 1.01; });
  return y;
}

// One evaluation: of all passes, or of one.
class Evaluation {
 public:
  // Centres are where linked values were in the first evaluation, which makes them.
  Evaluation(const Graph& graph, Tensors leaves, int first, int count, Tensors& centres)
      : graph_(graph), values_(std::move(leaves)), first_(first), count_(count), centres_(centres) {}

  // A sum of the values, as they are or weighted, one number for each pass.
  Tensor loss() {
    const PassContext context({.seed = graph_.seed, .first = first_, .count = count_});
    for (size_t k = 0; k < graph_.steps.size(); ++k) values_.push_back(output(graph_.steps[k], k));
    Tensor total = own(random({}, graph_.seed, graph_.passes));
    for (size_t i = 0; i < graph_.steps.size(); ++i) {
      const Tensor& x = values_[graph_.leaves.size() + i];
      if (graph_.steps[i].part == Part::plain) total = total + x.sum();
      if (graph_.steps[i].part == Part::weighted)
        total = total + (x * own(random(x.shape(), graph_.seed + i, graph_.passes))).sum();
    }
    return total;
  }

 private:
  Tensor own(const Tensor& x) const { return count_ == graph_.passes ? x : x.pass(first_); }

  Tensor output(const Step& step, size_t k) {
    const Tensor value = values_[std::max(0, step.from[0].value)];
    if (step.op == "view") return view_of(value, step.from[0].view);
    if (step.op == "join")
      return value + reshaped(values_[std::max(0, step.from[1].value)], value.shape(), step.from[1].view);
    if (step.op == "dropout") return dropout(value, 0.4);
    if (step.op == "fault") return faulty(value);
    if (step.op == "write") return write(value, graph_.seed * 1000 + k), value;
    const Sample& sample = usable_samples().at(step.op).at(step.sample);
    Tensors inputs = sample.inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].defined()) inputs[i] = inputs[i].detach().clone();  // a view of it may be written to
      if (step.from[i].value < 0) continue;
      const Tensor x = reshaped(values_[step.from[i].value], inputs[i].shape(), step.from[i].view);
      inputs[i] = laid_out(inputs[i] + (x - centre(x)) * kGain, step.from[i].view);
    }
    return sample.function(inputs);
  }

  // A little beside x, or the passes would all be at the same place.
  Tensor centre(const Tensor& x) {
    if (next_ == centres_.size()) {
      const Tensor beside = empty(x.shape(), {DType::f64}, x.passes());
      fill_uniform(noise_key(next_, 1, 0, 0, Purpose::init), -1e-3, 1e-3, beside.data<double>(),
                   x.numel() * x.passes());
      centres_.push_back(beside.add_(x.detach()));
    }
    const Tensor c = centres_[next_++];
    return c.passes() == x.passes() ? c : c.pass(first_);
  }

  const Graph& graph_;
  Tensors values_;
  int first_, count_;
  Tensors& centres_;
  size_t next_ = 0;
};

Tensors leaves_of(const Graph& graph) {
  Tensors leaves;
  for (const auto& [shape, passes] : graph.leaves)
    leaves.push_back(random(shape, graph.seed + leaves.size(), passes ? graph.passes : 1));
  return leaves;
}

Tensors gradients(const Graph& graph, const Tensors& at, int first, int count, Tensors& centres) {
  Tensors leaves;
  for (const Tensor& x : at) leaves.push_back(x.clone().requires_grad_());
  const Tensor loss = Evaluation(graph, leaves, first, count, centres).loss();
  if (loss.requires_grad()) loss.backward(ones_like(loss));
  Tensors result;
  for (const Tensor& x : leaves) result.push_back(x.grad().defined() ? x.grad() : zeros_like(x));
  return result;
}

double value(const Graph& graph, const Tensors& leaves, const Tensors& direction, double h,
             Tensors& centres) {
  const NoGradGuard no_grad;
  Tensors moved;
  for (size_t i = 0; i < leaves.size(); ++i) moved.push_back(leaves[i].clone().add_(direction[i], h));
  double sum = 0;
  for (double x : values(Evaluation(graph, moved, 0, graph.passes, centres).loss())) sum += x;
  return sum;
}

double dot(const Tensors& a, const Tensors& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (double product : values(a[i] * b[i])) sum += product;
  return sum;
}

std::string against_differences(const Graph& graph, const Tensors& leaves, const Tensors& gradient,
                                Tensors& centres) {
  Tensors direction;
  for (size_t i = 0; i < leaves.size(); ++i)
    direction.push_back(cotangent_like(leaves[i], graph.seed + 77 + i));
  const double h = 1e-5, f = value(graph, leaves, direction, 0, centres);
  const auto slope = [&](double step) {
    return (value(graph, leaves, direction, step, centres) -
            value(graph, leaves, direction, -step, centres)) /
           (2 * step);
  };
  const double wide = slope(h), narrow = slope(h / 2), expected = narrow + (narrow - wide) / 3;
  const double got = dot(gradient, direction),
               size = std::sqrt(dot(gradient, gradient) * dot(direction, direction));
  // What the differences themselves are unsure of: their order, and the digits of f.
  const double allowed = 1e-7 * size + std::abs(narrow - wide) + 1e-15 * std::abs(f) / h;
  if (std::abs(got - expected) <= allowed) return "";
  return fmt::format("<gradient, u> = {:.10g}, central differences {:.10g}, allowed {:.2g}", got, expected,
                     allowed);
}

std::string against_single_passes(const Graph& graph, const Tensors& leaves, const Tensors& gradient,
                                  Tensors& centres) {
  std::vector<Tensors> parts;
  for (int pass = 0; pass < graph.passes; ++pass) {
    Tensors at;
    for (const Tensor& x : leaves) at.push_back(x.pass(pass));
    parts.push_back(gradients(graph, at, pass, 1, centres));
  }
  for (size_t i = 0; i < leaves.size(); ++i) {
    Tensors each;
    for (const Tensors& part : parts) each.push_back(part[i]);
    Tensor expected = stack_passes(each);
    if (leaves[i].passes() == 1) expected = expected.passes_as_batch().sum({0});
    const Closeness c = close(gradient[i], expected, 1e-9, 1);
    if (!c.close) return fmt::format("leaf {}: all passes at once against one by one: {}", i, c.message);
  }
  return "";
}

std::string check_gradients(const Graph& graph) {
  const Tensors leaves = leaves_of(graph);
  Tensors centres;
  const Tensors gradient = gradients(graph, leaves, 0, graph.passes, centres);
  const std::string failure = against_differences(graph, leaves, gradient, centres);
  return failure.empty() ? against_single_passes(graph, leaves, gradient, centres) : failure;
}

// Without step k: what it fed is fed by nothing.
Graph without_step(Graph graph, size_t k) {
  const int gone = static_cast<int>(graph.leaves.size() + k);
  graph.steps.erase(graph.steps.begin() + static_cast<std::ptrdiff_t>(k));
  for (Step& step : graph.steps)
    for (Link& link : step.from) link.value = link.value == gone ? -1 : link.value - (link.value > gone);
  return graph;
}

// Calls take(graph) for the graphs that are smaller by one thing, until it takes one.
bool for_each_smaller(const Graph& graph, const std::function<bool(const Graph&)>& take) {
  for (size_t k = graph.steps.size(); k-- > 0;)
    if (take(without_step(graph, k))) return true;
  for (size_t k = 0; k < graph.steps.size(); ++k) {
    for (size_t i = 0; i < graph.steps[k].from.size(); ++i) {
      const auto [value, view] = graph.steps[k].from[i];
      Graph smaller = graph;
      smaller.steps[k].from[i] = {};
      if (value >= 0 && take(smaller)) return true;
      smaller.steps[k].from[i] = {value, 0};
      if (view > 0 && take(smaller)) return true;
    }
  }
  Graph fewer = graph;
  return --fewer.passes > 0 && take(fewer);
}

}  // namespace

Graph random_graph(uint64_t seed) {
  Dice dice(seed);
  Graph graph{.seed = seed, .passes = 1 + dice(3)};
  for (int i = 0, count = 1 + dice(3); i < count; ++i) {
    Shape shape;
    for (int d = 0, dims = dice(4); d < dims; ++d) shape.push_back(1 + dice(4));
    graph.leaves.push_back({shape, dice(3) == 0});
  }
  const auto& samples = usable_samples();
  const int count = 2 + dice(39);
  while (std::ssize(graph.steps) < count) {
    const auto link = [&] { return Link{dice(graph.leaves.size() + graph.steps.size()), dice(kViews)}; };
    const auto part = [&] { return static_cast<Part>(dice(3)); };
    if (const int kind = dice(12); kind < 4) {
      const char* const kinds[] = {"view", "write", "dropout", "join"};
      Step step{kinds[kind], part(), 0, {link()}};
      if (kind == 3) step.from.push_back(link());
      graph.steps.push_back(std::move(step));
      continue;
    }
    const auto& [name, of] = *std::next(samples.begin(), dice(samples.size()));
    Step step{name, part(), dice(of.size())};
    const Tensors& inputs = of[step.sample].inputs;
    const bool several = std::count_if(inputs.begin(), inputs.end(), can_link) > 1;
    for (const Tensor& x : inputs)
      step.from.push_back(can_link(x) && !(several && dice(5) == 0) ? link() : Link());
    graph.steps.push_back(std::move(step));
  }
  return graph;
}

std::string failure_of(const Graph& graph) {
  try {
    return check_gradients(graph);
  } catch (const AutogradError& error) {
    if (!contains(error.what(), "was written to in place")) return error.what();
  } catch (const Error& error) {
    return error.what();
  }
  // Noticed, as it must be: the same without its last write.
  for (size_t k = graph.steps.size(); k-- > 0;)
    if (graph.steps[k].op == "write") return failure_of(without_step(graph, k));
  return "a tensor was written to in place without a write";
}

Graph shrunk(Graph graph) {
  while (for_each_smaller(graph, [&](const Graph& smaller) {
    if (failure_of(smaller).empty()) return false;
    graph = smaller;
    return true;
  })) {
  }
  return graph;
}

std::string to_cpp(const Graph& graph) {
  std::string leaves, steps;
  for (const auto& [shape, passes] : graph.leaves)
    leaves += fmt::format("{}{{{{{}}}, {}}}", leaves.empty() ? "" : ", ", fmt::join(shape, ", "), passes);
  for (const Step& step : graph.steps) {
    std::string from;
    for (const Link& link : step.from)
      from += fmt::format("{}{{{}, {}}}", from.empty() ? "" : ", ", link.value, link.view);
    steps += fmt::format("{}{{\"{}\", Part::{}, {}, {{{}}}}}", steps.empty() ? "" : ",\n           ", step.op,
                         step.part == Part::none    ? "none"
                         : step.part == Part::plain ? "plain"
                                                    : "weighted",
                         step.sample, from);
  }
  return fmt::format(
      "CHECK(failure_of({{.seed = {}, .passes = {},\n .leaves = {{{}}},\n .steps = {{{}}}}}) == \"\");",
      graph.seed, graph.passes, leaves, steps);
}

}  // namespace tandem::testing
