// What is fused at the ends of residual branches against the ops that it is made of: same masks, same
// roundings.
#include <doctest/doctest.h>

#include "autograd/engine.h"
#include "autograd/op.h"
#include "autograd/used_ops.h"
#include "ops/ops.h"
#include "tests/ops/op_suite.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const std::vector<PassOptions> kPlans = {{.seed = 3, .step = 7},
                                         {.seed = 3, .count = 2},
                                         {.seed = 3, .first = 1, .count = 3, .rates = {0.5, 0.1, 0, 0.7}}};

Tensor in_plan(const PassOptions& plan, const std::function<Tensor()>& f) {
  const PassContext context(plan);
  return f();
}

}  // namespace

TEST_CASE("residual is x + dropout(z), to the bit where z is not narrower") {
  for (const PassOptions& plan : kPlans) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const bool of_passes : {false, true}) {
        const int m = of_passes ? plan.count : 1;
        const Tensor x = normal({3, 700}, 1, dtype, m).requires_grad_(),
                     z = normal({3, 700}, 2, dtype).requires_grad_();
        const Tensor fused = in_plan(plan, [&] { return residual(x, z, 0.3); });
        const Tensor composed = in_plan(plan, [&] { return x + dropout(z, 0.3); });
        CHECK(same_bits(fused, composed));
        const Tensor g = cotangent_like(fused, 5);
        const Tensors a = grad(fused, {x, z}, g), b = grad(composed, {x, z}, g);
        for (int i = 0; i < 2; ++i) CHECK(same_bits(a[i], b[i]));
      }
    }
  }
}

TEST_CASE("residual of a bf16 branch beside f32: rounded once, and so is the branch's gradient") {
  for (const PassOptions& plan : kPlans) {
    const Tensor x = normal({4, 50}, 1).requires_grad_(),
                 z = normal({4, 50}, 2, DType::bf16).requires_grad_();
    const Tensor wide = z.detach().to(DType::f32).requires_grad_();
    const Tensor y = in_plan(plan, [&] { return residual(x, z, 0.3); });
    const Tensor expected = in_plan(plan, [&] { return x + dropout(wide, 0.3); });
    CHECK(same_bits(y, expected));
    const Tensor g = cotangent_like(y, 5);
    const Tensors got = grad(y, {x, z}, g), of_wide = grad(expected, {x, wide}, g);
    CHECK(same_bits(got[0], of_wide[0]));
    CHECK(got[1].dtype() == DType::bf16);
    if (plan.count == 1)
      CHECK(same_bits(got[1], of_wide[1].to(DType::bf16)));  // else passes are summed in bf16
    CHECK(close(got[1].to(DType::f32), of_wide[1], 1e-2).close);
  }
}

TEST_CASE("residual of packed rows draws as for the padded tensor") {
  const PackedRows rows({{0, 3}, {2, 4}, {1, 1}}, 4);
  const Tensor x = normal({5, 10}, 1), z = normal({5, 10}, 2);
  const PackedScope scope(rows);
  const PassContext fused({.seed = 5, .count = 2});
  const Tensor y = residual(x, z, 0.4);
  const PassContext composed({.seed = 5, .count = 2});
  CHECK(same_bits(y, x + dropout(z, 0.4)));
}

TEST_CASE("a sum of bf16 and f32 is that of a copy in f32, added to in place, too") {
  const Tensor a = normal({6, 40}, 1), b = normal({40}, 2, DType::bf16), wide = b.to(DType::f32);
  CHECK(same_bits(a + b, a + wide));
  CHECK(same_bits(b + a, wide + a));
  CHECK(same_bits(a.clone().add_(b), a + wide));
  CHECK((b + a).dtype() == DType::f32);
  const Tensor x = a.clone().requires_grad_(), y = b.clone().requires_grad_();
  const Tensors gradients = grad(x + y, {x, y}, cotangent_like(a, 3));
  CHECK(same_bits(gradients[0], cotangent_like(a, 3)));
  CHECK(same_bits(gradients[1], sum_to(cotangent_like(a, 3), {40}, 1).to(DType::bf16)));
}

TEST_CASE("norms that write bf16 are those of f32, rounded; so are their gradients") {
  const Shape shape{30, 72};
  const Function layer = [](const Tensors& in) {
    return layer_norm(in[0], {72}, in[1], in[2], 1e-5, DType::bf16);
  };
  const Function layer_wide = [](const Tensors& in) { return layer_norm(in[0], {72}, in[1], in[2]); };
  const Function rms = [](const Tensors& in) { return rms_norm(in[0], in[1], 1e-6, DType::bf16); };
  const Function rms_wide = [](const Tensors& in) { return rms_norm(in[0], in[1]); };
  for (const auto& [narrow, wide] : {std::pair{layer, layer_wide}, {rms, rms_wide}}) {
    for (const int m : {1, 3}) {
      const Tensors in{normal(shape, 1, DType::f32, m).requires_grad_(), normal({72}, 2).requires_grad_(),
                       normal({72}, 3).requires_grad_()};
      const Tensor y = narrow(in), expected = wide(in), g = cotangent_like(y, 4);
      CHECK(y.dtype() == DType::bf16);
      CHECK(same_bits(y, expected.to(DType::bf16)));
      const Tensors got = grad(y, in, g), of_wide = grad(expected, in, g.to(DType::f32));
      for (size_t i = 0; i < in.size(); ++i) CHECK(same_bits(got[i], of_wide[i]));
      // Recorded gradients are composed ones.
      const Tensors recorded = grad(narrow(in), in, g, {.create_graph = true});
      for (size_t i = 0; i < in.size(); ++i) CHECK(close(recorded[i].detach(), of_wide[i], 1e-5).close);
    }
  }
  // Other dtypes by way of x's own.
  const Tensor x = normal(shape, 1);
  CHECK(same_bits(layer_norm(x, {72}, {}, {}, 1e-5, DType::f64), layer_norm(x, {72}).to(DType::f64)));
}

TEST_CASE("a norm's gradient adds what has arrived before it") {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const double tolerance = dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 1e-2;
    for (const int m : {1, 3}) {
      for (const bool centred : {true, false}) {
        INFO(std::string(name_of(dtype)), ", passes ", m, centred ? ", layer norm" : ", RMS norm");
        const Tensor leaf = normal({40, 24}, 1, dtype, m).requires_grad_(), w = normal({24}, 2, dtype);
        const auto parts = [&](const Tensor& h) {
          const Tensor n = centred ? layer_norm(h, {24}, w) : rms_norm(h, w);
          return std::pair{n, h * h};  // recorded later, so that its gradient comes first
        };
        const Tensor g = cotangent_like(leaf, 5);
        const Tensor one = leaf * 2.0, other = leaf * 2.0;
        const Tensor apart = grad(parts(one).first, {leaf}, g)[0] + grad(parts(other).second, {leaf}, g)[0];
        const Tensor h = leaf * 2.0;
        const auto [n, square] = parts(h);
        int seen = 0;
        Tensor whole;
        h.register_hook([&](const Tensor& of_h) {
          ++seen, whole = of_h;
          return Tensor();
        });
        const Tensor together = grad(n + square, {leaf}, g, {.retain_graph = true})[0];
        CHECK(close(together, apart, tolerance).close);
        CHECK(seen == 1);
        CHECK(same_bits(whole * 2.0, together));
        CHECK(same_bits(grad(n + square, {leaf}, g, {.retain_graph = true})[0], together));
        const Tensor recorded = grad(n + square, {leaf}, g, {.create_graph = true})[0];
        CHECK(close(recorded.detach(), apart, tolerance).close);
      }
    }
  }
}

TEST_CASE("residual_layer_norm and residual_rms_norm on the CPU are the two ops each") {
  const Tensor x = normal({3, 4, 24}, 1), z = normal({3, 4, 24}, 2, DType::bf16), w = normal({24}, 3),
               b = normal({24}, 4);
  PassContext context({.seed = 9, .count = 2});
  const Noise noise = context.noise(Purpose::dropout, 0.3);
  const auto [sum, norm] = residual_layer_norm(x, z, noise, {24}, w, b, 1e-5, DType::bf16);
  CHECK(same_bits(sum, residual(x, z, noise)));
  CHECK(same_bits(norm, layer_norm(sum, {24}, w, b, 1e-5, DType::bf16)));
  const auto [sum2, rms] = residual_rms_norm(x, z, noise, w, 1e-6, DType::bf16);
  CHECK(same_bits(sum2, sum));
  CHECK(same_bits(rms, rms_norm(sum, w, 1e-6, DType::bf16)));
  CHECK(residual_rms_norm(x, z, noise).norm.dtype() == DType::f32);
}
