// Gradients, shapes and numbers that do not fit are typed errors where they come up.
#include <limits>

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "autograd/op.h"
#include "ops/arithmetic.h"
#include "ops/pointwise.h"
#include "ops/views.h"
#include "tests/testing.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

// x + y with a vjp of our choice.
struct Strange final : Op {
  Tensors cotangents;
  explicit Strange(Tensors cotangents) : cotangents(std::move(cotangents)) {}
  const char* name() const override { return "strange"; }
  Tensor forward(const Tensors& in) override { return in[0] + in[1]; }
  Tensors vjp(const Tensor&) override { return cotangents; }
};

Tensor passes_of(const Tensor& x, int m) { return stack_passes(Tensors(m, x)); }
Tensor of(DType dtype) { return ones({3}, {dtype}); }

}  // namespace

TEST_CASE("a hook's gradient has the shape, passes, dtype and device of the one it replaces") {
  const auto wrong = [](const Tensor& replaced, bool on_leaf, bool by_grad) {
    const Tensor x = ones({3}).requires_grad_(), y = exp(x);
    (on_leaf ? x : y).register_hook([=](const Tensor&) { return replaced; });
    by_grad ? void(grad(y.sum(), {x})) : y.sum().backward();
  };
  for (const bool on_leaf : {true, false}) {
    for (const bool by_grad : {true, false}) {
      const std::string who = on_leaf ? "a leaf" : "exp";
      const std::string opening = who + ": a hook's result: expected a gradient f32[3], got ";
      check_throws<ShapeError>(opening + "f32[1]", [&] { wrong(ones({1}), on_leaf, by_grad); });
      check_throws<ShapeError>(opening + "f32[1,3]", [&] { wrong(ones({1, 3}), on_leaf, by_grad); });
      check_throws<ShapeError>(opening + "f32[3] x 2 passes",
                               [&] { wrong(passes_of(ones({3}), 2), on_leaf, by_grad); });
      check_throws<DTypeError>(opening + "f64[3]", [&] { wrong(of(DType::f64), on_leaf, by_grad); });
      check_throws<DTypeError>(opening + "i64[3]", [&] { wrong(of(DType::i64), on_leaf, by_grad); });
      wrong(full({1}, 2).expand({3}), on_leaf, by_grad);  // any layout fits
      wrong({}, on_leaf, by_grad);
    }
  }
}

TEST_CASE("a .grad that was assigned fits its leaf where a backward adds to it, and stays as it was") {
  const auto add_to = [](const Tensor& assigned) {
    const Tensor x = ones({2, 3}).requires_grad_();
    x.grad() = assigned;
    try {
      x.sum().backward();
    } catch (...) {
      CHECK(same_bits(x.grad(), assigned));
      throw;
    }
  };
  const std::string opening = "backward: .grad: expected a gradient f32[2,3], got ";
  check_throws<ShapeError>(opening + "f32[3]", [&] { add_to(ones({3})); });
  check_throws<ShapeError>(opening + "f32[4,2,3]", [&] { add_to(ones({4, 2, 3})); });
  check_throws<ShapeError>(opening + "f32[2,3] x 2 passes", [&] { add_to(passes_of(ones({2, 3}), 2)); });
  check_throws<DTypeError>(opening + "f64[2,3]", [&] { add_to(ones({2, 3}, {DType::f64})); });
  add_to(ones({2, 3}));
  const Tensor x = ones({3}).requires_grad_(), y = exp(x);  // nor does one that a tensor retains
  y.retain_grad();
  y.grad() = ones({2});
  check_throws<ShapeError>("expected a gradient f32[3], got f32[2]", [&] { y.sum().backward(); });
}

TEST_CASE("a vjp gives a cotangent for each input that needs one, and each broadcasts with its input") {
  const auto run = [](const Tensors& cotangents, bool needed = true) {
    const Tensor a = ones({3}).requires_grad_(), b = ones({3}).requires_grad_(needed);
    apply<Strange>({a, b}, cotangents).sum().backward();
    return b.grad().defined();
  };
  const Tensor one = ones({3});
  check_throws<AutogradError>("strange: vjp returned 0 cotangents for 2 inputs", [&] { run({}); });
  check_throws<AutogradError>("strange: vjp returned 1 cotangents for 2 inputs", [&] { run({one}); });
  check_throws<AutogradError>("strange: vjp returned 3 cotangents for 2 inputs", [&] {
    run({one, one, one});
  });
  check_throws<ShapeError>(
      "strange: vjp returned f32[2] for input 1, expected a cotangent that broadcasts with [3]", [&] {
        run({one, ones({2})});
      });
  check_throws<DTypeError>("strange: expected a floating cotangent, got i64[3]", [&] {
    run({one, of(DType::i64)});
  });
  CHECK(run({one, ones({4, 3})}));
  CHECK(!run({one, {}}));
  CHECK(!run({one}, false));
  const Tensor a = passes_of(ones({3}), 2).detach().requires_grad_();
  const Tensors three{passes_of(ones({3}), 3), {}};
  check_throws<ShapeError>("strange: a cotangent of 3 passes, expected 2", [&] {
    apply<Strange>({a, a}, three).sum().backward(zeros({}));
  });
}

TEST_CASE("a cotangent broadcasts to its root, and is floating") {
  const Tensor x = ones({2, 3}).requires_grad_(), y = x * 2.0;
  check_throws<ShapeError>("backward: shapes [2] and [2,3] do not broadcast", [&] { y.backward(ones({2})); });
  check_throws<ShapeError>("backward: the cotangent f32[4,2,3] does not fit the root f32[2,3]", [&] {
    y.backward(ones({4, 2, 3}));
  });
  check_throws<ShapeError>("backward: the cotangent f32[2,3] x 2 passes does not fit", [&] {
    y.backward(passes_of(ones({2, 3}), 2));
  });
  check_throws<DTypeError>("backward: expected a floating cotangent, got i64[2,3]", [&] {
    y.backward(ones({2, 3}, {DType::i64}));
  });
  CHECK(!x.grad().defined());
  y.backward(ones({3}));
  CHECK(values(x.grad()) == std::vector<double>(6, 2));
}

TEST_CASE("a Shape is indexed within its dimensions, from the end below 0") {
  Shape shape{2, 3, 5};
  const Shape& same = shape;
  for (int i = 0; i < 3; ++i) CHECK(same[i - 3] == same[i]);
  shape[-1] = 7;
  CHECK(same.back() == 7);
  for (const int i : {3, -4, 8, 9, 100, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
    const std::string message =
        "shape: index " + std::to_string(i) + " is out of range for 3 dimensions of [2,3,7]";
    check_throws<ShapeError>(message, [&] { static_cast<void>(same[i]); });
    check_throws<ShapeError>(message, [&] { shape[i] = 1; });
    check_throws<ShapeError>(message, [&] { shape.erase(i); });
    check_throws<ShapeError>("shape: cannot insert at", [&] { shape.insert(i == 3 ? 4 : i, 1); });
  }
  check_throws<ShapeError>("shape: index -1 is out of range for 0 dimensions of []", [] { Shape().back(); });
  shape.erase(-2), shape.insert(2, 4);
  CHECK(shape == Shape{2, 7, 4});
}

TEST_CASE("an in-place write rounds, but cuts nothing") {
  const DType all[] = {DType::boolean, DType::u8,  DType::i32, DType::i64,
                       DType::bf16,    DType::f32, DType::f64};
  for (const DType to : all) {
    for (const DType from : all) {
      const bool fits = is_floating(to) || to >= from;
      const Tensor x = of(to), y = of(from);
      const std::string part = "[3], which is narrower; convert it with to()";
      if (fits) {
        x.copy_(y);
        if (to != DType::boolean) x.add_(y);
      } else {
        check_throws<DTypeError>(part, [&] { x.copy_(y); });
        if (to != DType::boolean) check_throws<DTypeError>(part, [&] { x.add_(y); });
      }
      CHECK(values(x) == std::vector<double>(3, fits && to != DType::boolean ? 2 : 1));
    }
  }
  struct Case {
    DType dtype;
    double value;
    bool holds;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [dtype, value, holds] : {Case{DType::boolean, 1, true},
                                            {DType::boolean, 2, false},
                                            {DType::boolean, 0.5, false},
                                            {DType::u8, 255, true},
                                            {DType::u8, 256, false},
                                            {DType::u8, -1, false},
                                            {DType::u8, nan, false},
                                            {DType::i32, -0x1p31, true},
                                            {DType::i32, 0x1p31, false},
                                            {DType::i64, -0x1p63, true},
                                            {DType::i64, 0x1p63, false},
                                            {DType::i64, 0.5, false},
                                            {DType::bf16, 0x1p40, true},
                                            {DType::f32, nan, true}}) {
    const auto make = [dtype = dtype, value = value] { full({2}, value, {dtype}); };
    if (holds) {
      make();
    } else {
      check_throws<DTypeError>(
          "with a tensor of " + std::string(name_of(dtype)) + ", which holds whole numbers", make);
    }
  }
  check_throws<DTypeError>("arange: 0.5 with a tensor of i64, which holds whole numbers",
                           [] { arange(0, 2, 0.5, {DType::i64}); });
  check_throws<DTypeError>("arange: 256 with a tensor of u8, which holds whole numbers from 0 to 255",
                           [] { arange(0, 300, 1, {DType::u8}); });
}
