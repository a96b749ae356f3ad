// Ops that convert between the pass dimension and an ordinary one; declared in autograd/tensor.h.
#include "autograd/op.h"
#include "autograd/registry.h"
#include "autograd/tensor_impl.h"
#include "ops/views.h"

namespace tandem {
namespace {

struct PassesAsBatch final : Op {
  int m = 1;
  const char* name() const override { return "passes_as_batch"; }
  Tensor forward(const Tensors& in) override {
    m = in[0].passes();
    return with_pass_dim(in[0], m);
  }
  Tensors vjp(const Tensor& g) override;
};

struct BatchAsPasses final : Op {
  const char* name() const override { return "batch_as_passes"; }
  Tensor forward(const Tensors& in) override {
    const Tensor& x = in[0];
    Shape shape = x.shape(), strides = x.strides();
    shape.erase(0), strides.erase(0);
    return make_view(x, shape, strides, 0, static_cast<int>(x.shape()[0]), x.strides()[0]);
  }
  Tensors vjp(const Tensor& g) override { return {g.passes_as_batch()}; }
};

Tensors PassesAsBatch::vjp(const Tensor& g) { return {m == 1 ? select(g, 0, 0) : apply<BatchAsPasses>({g})}; }

struct StackPasses final : Op {
  const char* name() const override { return "stack_passes"; }
  Tensor forward(const Tensors& in) override {
    set_passes(static_cast<int>(in.size()));
    bool same = true;
    for (const Tensor& x : in) {
      check<ShapeError>(x.shape() == in[0].shape() && x.dtype() == in[0].dtype() && x.passes() == 1,
                        "stack_passes: {} beside {}", describe(x), describe(in[0]));
      same &= x.impl() == in[0].impl();
    }
    // The same tensor in every pass needs no copies.
    if (same) return make_view(in[0], in[0].shape(), in[0].strides(), 0, passes(), 0);
    const Tensor out = output(in[0].shape(), in[0]);
    for (int i = 0; i < passes(); ++i) out.pass(i).copy_(in[i]);
    return out;
  }
  Tensors vjp(const Tensor& g) override {
    Tensors parts;
    for (int i = 0; i < g.passes(); ++i) parts.push_back(g.pass(i));
    return parts;
  }
};

}  // namespace

Tensor stack_passes(const Tensors& passes) {
  check<ShapeError>(!passes.empty(), "stack_passes: no passes were given");
  return passes.size() == 1 ? passes[0] : apply<StackPasses>(passes);
}

Tensor Tensor::passes_as_batch() const { return apply<PassesAsBatch>({*this}); }

Tensor Tensor::pass(int index) const {
  check<ValueError>(index >= 0 && (index < passes() || passes() == 1), "pass: index {} of {} passes", index,
                    passes());
  return passes() == 1 ? *this : passes_as_batch().select(0, index);
}

namespace {

void stack_passes_cases(OpCases& c) {
  c.sample("2", {c.normal({3}), c.normal({3})}, stack_passes);
  c.sample("3 matrices", {c.normal({2, 2}), c.normal({2, 2}), c.normal({2, 2})}, stack_passes);
  c.sample("one", {c.normal({3})}, stack_passes);
  c.sample("the same in every pass", {c.normal({3})}, [](auto& in) {
    return stack_passes({in[0], in[0], in[0]});
  });
  c.sample("empty", {c.normal({0, 2}), c.normal({0, 2})}, stack_passes);
  const Tensor x = zeros({2});
  c.fails<ShapeError>("none", "stack_passes: no passes were given", {}, stack_passes);
  c.fails<ShapeError>("shapes", "stack_passes: f32[3] beside f32[2]", {x, zeros({3})}, stack_passes);
  c.fails<ShapeError>("dtypes", "stack_passes: f64[2] beside f32[2]", {x, x.to(DType::f64)}, stack_passes);
  c.fails<ShapeError>("passes", "stack_passes: f32[2] x 2 passes beside f32[2]", {x, stack_passes({x, x})},
                      stack_passes);
}
const RegisterOp stack_passes_op("stack_passes", stack_passes_cases, {.crosses_passes = true});

void passes_as_batch_cases(OpCases& c) {
  const auto passes = [&](int m, Shape shape) {
    Tensors all;
    for (int i = 0; i < m; ++i) all.push_back(c.normal(shape));
    return stack_passes(all);
  };
  const auto as_batch = [](const Tensors& in) { return in[0].passes_as_batch(); };
  c.sample("one", {c.normal({3})}, as_batch);
  c.sample("3", {passes(3, {2, 2})}, as_batch);
  c.sample("numbers", {passes(2, {})}, as_batch);
  c.sample("empty", {passes(2, {0, 2})}, as_batch);
  c.sample("the middle of 3", {passes(3, {2})}, [](auto& in) { return in[0].pass(1); });
  c.fails<ValueError>("index", "pass: index 2 of 2 passes", [] {
    stack_passes({zeros({2}), zeros({2})}).pass(2);
  });
}
const RegisterOp passes_as_batch_op("passes_as_batch", passes_as_batch_cases, {.crosses_passes = true});

}  // namespace
}  // namespace tandem
