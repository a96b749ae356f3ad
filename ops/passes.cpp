// From passes to data and back: the only ops, beside noise and losses, that see passes.
#include "autograd/op.h"
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

}  // namespace tandem
