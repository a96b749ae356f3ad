// The tape and the backward: life time, accumulation, hooks, higher orders, in-place checks.
#include <pthread.h>

#include <functional>
#include <memory>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/graph.h"
#include "autograd/op.h"
#include "autograd/scope.h"
#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"
#include "ops/comparison.h"
#include "ops/pointwise.h"
#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;
using Values = std::vector<double>;

namespace {

// Runs `body` on a thread with a stack of 256 KB, in which a recursion along a long graph would crash.
void on_a_small_stack(const std::function<void()>& body) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  REQUIRE(pthread_attr_setstacksize(&attributes, 256 << 10) == 0);
  pthread_t thread;
  auto run = [](void* f) -> void* {
    (*static_cast<const std::function<void()>*>(f))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&body)) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

// An op that gives its input back unchanged, and counts.
struct Same final : Op {
  int* forwards;
  explicit Same(int* forwards) : forwards(forwards) {}
  const char* name() const override { return "same"; }
  Tensor forward(const Tensors& in) override {
    ++*forwards;
    return in[0];
  }
  Tensors vjp(const Tensor& g) override { return {g}; }
};

// e^x by its own value: an op whose backward needs its output.
struct OwnExp final : Op {
  const char* name() const override { return "own_exp"; }
  Tensor forward(const Tensors& in) override { return save_output(exp(in[0])); }
  Tensors vjp(const Tensor& g) override { return {g * saved(0)}; }
};
Tensor own_exp(const Tensor& x) { return apply<OwnExp>({x}); }

TEST_CASE("graph_to_dot draws the ops of a backward, each once, and names leaves") {
  const Tensor w = leaf({2, 3}), x = tensor({1, 2}), h = w.to(DType::f32) * x;
  const std::string dot = graph_to_dot((h * h).sum(), {{"w", w}});
  const auto count = [&](const char* part) {
    int n = 0;
    for (size_t at = dot.find(part); at != std::string::npos; at = dot.find(part, at + 1)) ++n;
    return n;
  };
  CHECK(dot.starts_with("digraph {"));
  CHECK(count("label=\"w\\nf64[2]\"") == 1);
  CHECK(count("label=\"mul\\nf32[2]\"") == 2);
  CHECK(count("label=\"sum\\nf32[1]\"") == 1);
  CHECK(count(" -> ") == 6);  // w, to, mul (from both sides), sum, reshape
  check_throws<AutogradError>("graph_to_dot: f32[2] does not require a gradient", [&] { graph_to_dot(x); });
}
}  // namespace

TEST_CASE("a chain of 100,000 ops runs forward and backward and is freed on a small stack") {
  double gradient = 0;
  bool freed = false, dropped = false;
  on_a_small_stack([&] {
    const Tensor x = leaf({1});
    Tensor y = x;
    std::weak_ptr<Op> first;
    for (int i = 0; i < 100'000; ++i) {
      y = i % 2 ? y * y : y + 0.0;  // one kind saves its input, the other does not
      if (i == 1) first = y.grad_fn();
    }
    y.backward(ones_like(y).mul_(1e-300), {.retain_graph = true});
    gradient = x.grad().item();
    y = Tensor();
    freed = first.expired();
    for (int i = 0; i < 100'000; ++i) y = i ? y + 1.0 : x * x;  // never run backward
    first = y.grad_fn();
    y = Tensor();
    dropped = first.expired();
  });
  CHECK(gradient == INFINITY);  // 1e-300 * 2^50000
  CHECK(freed);
  CHECK(dropped);
}

TEST_CASE("a chain that is freed by its backward, and one of saved outputs") {
  double gradient = 0;
  on_a_small_stack([&] {
    const Tensor x = leaf({0.5});
    Tensor y = x;
    for (int i = 0; i < 100'000; ++i) y = i % 2 ? log(y) : own_exp(y);
    y.backward();
    gradient = x.grad().item();
  });
  CHECK(gradient == doctest::Approx(1).epsilon(1e-6));
}

TEST_CASE("a deep diamond runs every op once") {
  const Tensor x = leaf({1});
  int forwards = 0;
  Tensor y = x;
  for (int i = 0; i < 200; ++i) {
    const Tensor z = apply<Same>({y}, &forwards);
    y = (z + z) * 0.5;  // 2^200 paths
  }
  y.backward();
  CHECK(x.grad().item() == 1);
  CHECK(forwards == 200);
}

TEST_CASE("f(x, x) adds both sides") {
  const Tensor x = leaf({2, 3});
  (x * x).backward(from_values(Values{1, 10}, {2}));
  CHECK(values(x.grad()) == Values{4, 60});
  const Tensor y = leaf({2, 3});
  (y + y).backward(from_values(Values{1, 10}, {2}));
  CHECK(values(y.grad()) == Values{2, 20});
  const Tensor z = leaf({2, 3});
  (z - z).backward(from_values(Values{1, 10}, {2}));
  CHECK(values(z.grad()) == Values{0, 0});
}

TEST_CASE("a second backward needs retain_graph; gradients accumulate into .grad") {
  const Tensor x = leaf({3});
  const Tensor y = x * x;
  y.backward({}, {.retain_graph = true});
  CHECK(x.grad().item() == 6);
  y.backward();
  CHECK(x.grad().item() == 12);
  check_throws<AutogradError>(
      "mul: a second backward through a graph that was freed; write loss.backward({}, {.retain_graph = "
      "true})",
      [&] { y.backward(); });
  (x * x).backward();
  CHECK(x.grad().item() == 18);
  x.grad() = Tensor();
  (x * x).backward();
  CHECK(x.grad().item() == 6);
}

TEST_CASE("the .grad of two leaves never shares memory, nor does it change the cotangent") {
  const Tensor a = leaf({1, 2}), b = leaf({3, 4});
  const Tensor v = from_values(Values{5, 7}, {2});
  (a + b).backward(v);
  a.grad().zero_();
  CHECK(values(b.grad()) == Values{5, 7});
  CHECK(values(v) == Values{5, 7});
  const Tensor c = leaf({1, 2});
  c.backward(v);  // a leaf as the root
  c.backward(v);
  CHECK(values(c.grad()) == Values{10, 14});
  CHECK(values(v) == Values{5, 7});
}

TEST_CASE("create_graph: derivatives of a polynomial up to the third") {
  const Tensor x = leaf({2, -1});
  const Tensor y = x * x * x * x + x * x * 3.0;  // y' = 4x^3 + 6x, y'' = 12x^2 + 6, y''' = 24x
  const Tensor one = ones_like(x);
  const Tensor d1 = grad(y, {x}, one, {.create_graph = true})[0];
  const Tensor d2 = grad(d1, {x}, one, {.create_graph = true})[0];
  const Tensor d3 = grad(d2, {x}, one, {.create_graph = true})[0];
  CHECK(values(d1) == Values{44, -10});
  CHECK(values(d2) == Values{54, 18});
  CHECK(values(d3) == Values{48, -24});
  CHECK(!x.grad().defined());
  const Tensor plain = grad(y, {x}, one)[0];
  CHECK(!plain.requires_grad());
  CHECK(values(plain) == Values{44, -10});
}

TEST_CASE("a saved output is attached again: second and third derivatives through it") {
  const Tensor x = leaf({0.5});
  const Tensor d1 = grad(own_exp(x * 2.0), {x}, {}, {.create_graph = true})[0];
  const Tensor d2 = grad(d1, {x}, {}, {.create_graph = true})[0];
  const Tensor d3 = grad(d2, {x})[0];
  CHECK(d1.item() == doctest::Approx(2 * std::exp(1.0)));
  CHECK(d2.item() == doctest::Approx(4 * std::exp(1.0)));
  CHECK(d3.item() == doctest::Approx(8 * std::exp(1.0)));
}

TEST_CASE("grad(): non-leaves, several inputs, unused ones, and nothing else is touched") {
  const Tensor x = leaf({3}), w = leaf({5}), unused = leaf({1, 2});
  const Tensor h = x * x, y = h * w;
  const Tensors g = grad(y, {h, x, unused, w, y}, {}, {.retain_graph = true});
  CHECK(g[0].item() == 5);
  CHECK(g[1].item() == 30);
  CHECK(values(g[2]) == Values{0, 0});
  CHECK(g[3].item() == 9);
  CHECK(g[4].item() == 1);
  CHECK(!x.grad().defined());
  CHECK(!w.grad().defined());
  CHECK(grad(y, {h}, {}, {})[0].item() == 5);
  h.backward();  // what lies below h was not run, and so not freed
  CHECK(x.grad().item() == 6);
  check_throws<AutogradError>("grad: an input does not require a gradient",
                              [&] { grad(x * x, {zeros({1})}); });
}

TEST_CASE("a hook of a leaf that is not asked for does not run in grad()") {
  const Tensor x = leaf({3}), w = leaf({5});
  int runs = 0;
  w.register_hook([&](const Tensor&) { return ++runs, Tensor(); });
  CHECK(grad(x * w, {x})[0].item() == 5);
  CHECK(runs == 0);
}

TEST_CASE("hooks see the whole gradient once and may change it") {
  const Tensor x = leaf({3});
  const Tensor h = x * 2.0, y = h * h + h;
  Values seen;
  h.register_hook([&](const Tensor& g) {
    seen.push_back(g.item());
    return g * 10.0;
  });
  x.register_hook([&](const Tensor& g) {
    seen.push_back(g.item());
    return Tensor();
  });
  x.register_hook([&](const Tensor& g) { return g + 1.0; });
  y.backward();
  CHECK(seen == Values{13, 260});  // 2h + 1, times 10 times 2
  CHECK(x.grad().item() == 261);
  check_throws<AutogradError>("register_hook: the tensor does not require a gradient",
                              [] { zeros({1}).register_hook([](const Tensor& g) { return g; }); });
}

TEST_CASE("retain_grad keeps and accumulates the gradient of a non-leaf") {
  const Tensor x = leaf({3});
  const Tensor h = x * x;
  h.retain_grad();
  const Tensor y = h * 2.0 + h;
  y.backward({}, {.retain_graph = true});
  CHECK(h.grad().item() == 3);
  y.backward();
  CHECK(h.grad().item() == 6);
  CHECK(x.grad().item() == 36);
  h.grad().zero_();
  CHECK(x.grad().item() == 36);
  check_throws<AutogradError>("retain_grad", [] { zeros({1}).retain_grad(); });
}

TEST_CASE("detach and the grad modes stop recording") {
  const Tensor x = leaf({3});
  const Tensor y = x.detach() * x;
  y.backward();
  CHECK(x.grad().item() == 3);
  CHECK(!x.detach().requires_grad());
  CHECK(x.detach().raw() == x.raw());
  CHECK(grad_enabled());
  {
    NoGradGuard off;
    CHECK(!grad_enabled());
    CHECK(!(x * x).requires_grad());
    CHECK((x * x).is_leaf());
    {
      GradMode on(true);
      CHECK((x * x).requires_grad());
    }
    CHECK(!grad_enabled());
    int forwards = 0;
    CHECK(!apply<Same>({x}, &forwards).requires_grad());
  }
  CHECK(grad_enabled());
  CHECK_THROWS(([] {
    NoGradGuard off;
    raise<ValueError>("leaves the scope");
  }()));
  CHECK(grad_enabled());
}

TEST_CASE("misuse of the tape is an AutogradError that says what to do") {
  const Tensor x = leaf({1, 2});
  check_throws<AutogradError>("requires_grad: can be changed for leaves only; use detach()",
                              [&] { (x * x).requires_grad_(false); });
  check_throws<DTypeError>("requires_grad: only floating tensors have gradients, got i64[2]",
                           [] { zeros({2}, {DType::i64}).requires_grad_(); });
  check_throws<DTypeError>("requires_grad", [] { ones({2}, {DType::boolean, kCpu, true}); });
  check_throws<AutogradError>("backward: the root is f64[2]; give a cotangent", [&] { (x * x).backward(); });
  check_throws<AutogradError>("or a loss that joins the passes, as rdrop_cross_entropy", [&] {
    stack_passes({scalar(1).requires_grad_(), scalar(2)}).backward();
  });
  check_throws<AutogradError>("backward: the root does not require a gradient",
                              [] { zeros({2}).backward(); });
  check_throws<AutogradError>("an undefined Tensor was used", [] { Tensor().shape(); });
  check_throws<AutogradError>("an undefined Tensor was used", [&] { add(x, Tensor()); });
  check_throws<ShapeError>("backward: shapes [3] and [2] do not broadcast",
                           [&] { (x * x).backward(zeros({3})); });
}

TEST_CASE("no cycles: tensors and ops go when their last name goes") {
  std::weak_ptr<TensorImpl> tensor, hidden;
  std::weak_ptr<Op> op;
  {
    const Tensor x = leaf({1, 2});
    const Tensor y = own_exp(x);  // saves its own output
    const Tensor z = y * y;
    y.retain_grad();
    tensor = x.impl(), hidden = y.impl(), op = z.grad_fn();
    z.backward(ones_like(z), {.retain_graph = true});
    const Tensor g = grad(own_exp(z), {x}, ones_like(z), {.create_graph = true})[0];
    CHECK(!hidden.expired());
  }
  CHECK(tensor.expired());
  CHECK(hidden.expired());
  CHECK(op.expired());
}

TEST_CASE("an op that returns its input gets a tensor of its own on the tape") {
  int forwards = 0;
  const Tensor x = leaf({3});
  const Tensor y = apply<Same>({x}, &forwards);
  CHECK(y.impl() != x.impl());
  CHECK(y.raw() == x.raw());
  CHECK(x.is_leaf());
  (y * y).backward();
  CHECK(x.grad().item() == 6);
}

TEST_CASE("a tensor without a derivative never requires a gradient") {
  const Tensor x = leaf({1.5, 2.5});
  CHECK(!x.to(DType::i64).requires_grad());
  CHECK(x.to(DType::f32).requires_grad());
}

TEST_CASE("a write to a saved tensor is noticed at backward, also through a view") {
  const Tensor x = leaf({3, 4});
  const Tensor factor = from_values(Values{1, 2}, {2});
  const Tensor y = x * factor;
  factor.slice(0, 0, 1).fill_(7);
  CHECK(factor.version() == 1);
  CHECK(factor.detach().version() == 1);
  check_throws<AutogradError>(
      "mul: a tensor needed for the backward, f64[2], was written to in place (version 1, expected 0)",
      [&] { y.backward(ones_like(y)); });
  const Tensor e = own_exp(x);
  {
    NoGradGuard guard;
    e.mul_(2);
  }
  check_throws<AutogradError>("own_exp: a tensor needed for the backward", [&] { e.backward(ones_like(e)); });
}

TEST_CASE("in-place writes: refused where the tape would need them") {
  const Tensor x = leaf({3, 4}), plain = zeros({2}, {DType::f64});
  check_throws<AutogradError>(
      "add_: f64[2] is on the tape, which records no in-place writes: write h = h + y (a part: h = "
      "index_put(h, {...}, y)), or open a NoGradGuard for a leaf",
      [&] { x.add_(plain); });
  Tensor h = x * x;
  const auto refused = [](const std::string& op, const std::string& instead,
                          const std::function<void()>& call) {
    check_throws<AutogradError>(op + ": f64[", call);
    check_throws<AutogradError>("write " + instead, call);
  };
  refused("mul_", "h = h * y", [&] { h *= 2; });
  refused("mul_", "h = h * y", [&] { h *= plain; });
  refused("div_", "h = h / y", [&] { h /= 2; });
  refused("div_", "h = h / y", [&] { h /= plain; });
  refused("add_", "h = h + y", [&] { h += 1; });
  refused("add_", "h = h + y", [&] { h[0] += 1; });
  refused("add_", "h = h - y", [&] { h -= plain; });
  refused("copy_", "h = y (a part: h = index_put(h, {...}, y))", [&] { h[0] = 1; });
  refused("index_put_", "h = where(mask, y, h)", [&] { h[plain == 0] = 1; });
  refused("fill_", "h = full_like(h, value)", [&] { h.zero_(); });
  CHECK(values(h) == Values{9, 16});
  check_throws<AutogradError>("copy_: the source (f64[2]) requires a gradient", [&] { plain.copy_(x); });
  check_throws<AutogradError>("add_: the source", [&] { plain.add_(x); });
  check_throws<ShapeError>("add_: f64[3] does not fit", [&] {
    zeros({2, 1}).add_(zeros({3}, {DType::f64}));
  });
  check_throws<ShapeError>("add_: f32[1] x 2 passes does not fit into f32[1]",
                           [] { zeros({1}).add_(empty({1}, {}, 2)); });
  check_throws<ValueError>("fill_: several elements of f32[2,3] share one place", [] {
    zeros({3}).expand({2, 3}).fill_(1);
  });
  check_throws<DTypeError>("mul_: 0.5 with a tensor of i64", [] { zeros({2}, {DType::i64}).mul_(0.5); });
  NoGradGuard guard;
  x.add_(ones({2}), -0.5).mul_(2);
  CHECK(values(x) == Values{5, 7});
  plain.copy_(x);
  CHECK(values(plain) == Values{5, 7});
}

TEST_CASE("an in-place source that is the target in another order is read first") {
  const Tensor x = arange(0, 9).reshape({3, 3}).clone();
  x.add_(x.t());
  CHECK(values(x) == Values{0, 4, 8, 4, 8, 12, 8, 12, 16});
  const Tensor y = arange(0, 5);
  y.slice(0, 1, 5).copy_(y.slice(0, 0, 4));
  CHECK(values(y) == Values{0, 0, 1, 2, 3});
  y.add_(y);
  CHECK(values(y) == Values{0, 0, 2, 4, 6});
}

TEST_CASE("integers and numbers: whole numbers only") {
  const Tensor x = arange(0, 4, 1, {DType::i64});
  CHECK(values(x * 3.0 - 1.0) == Values{-1, 2, 5, 8});
  CHECK((x * 3.0).dtype() == DType::i64);
  check_throws<DTypeError>("affine: 0.25 with a tensor of i64", [&] { x * 0.25; });
  check_throws<DTypeError>("i64[4] / 4: expected a floating dtype", [&] { x / 4.0; });
}

TEST_CASE("errors name the module that runs, also from worker threads") {
  const std::string path = "encoder.3", inner = "encoder.3.drop";
  Scope scope(path);
  check_throws<ShapeError>("add: shapes [2] and [3] do not broadcast; in encoder.3",
                           [] { add(zeros({2}), zeros({3})); });
  {
    Scope deeper(inner);
    check_throws<Error>("; in encoder.3.drop", [] { raise<IoError>("x"); });
  }
  CHECK(Scope::current() == path);
}

TEST_CASE("cotangents of a 16-bit tensor that is used many times keep their sum") {
  for (const bool leaf_itself : {true, false}) {
    for (const bool create_graph : {false, true}) {
      const Tensor x = ones({2}).to(DType::bf16).requires_grad_();
      const Tensor y = leaf_itself ? x : x * 1.0;
      Tensor total = zeros({1});
      for (int i = 0; i < 1000; ++i) total = total + y.to(DType::f32).sum();
      const Tensor g = grad(total, {x}, {}, {.create_graph = create_graph})[0];
      CHECK(g.dtype() == DType::bf16);
      CHECK(values(g) == Values{1000, 1000});
      total.sum().backward();
      CHECK(values(x.grad()) == Values{1000, 1000});
    }
  }
}
