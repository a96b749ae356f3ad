// A residual sum and its norm, on the device at once, against the CPU and against the ops one by one.
#include "autograd/engine.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"
#include "tests/cuda/launched.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

struct Form {
  DType branch, norm;
  bool centred = true;  // layer norm, or RMS norm
  std::string str() const {
    return std::string(name_of(branch)) + " to " + std::string(name_of(norm)) +
           (centred ? ", layer norm" : ", RMS norm");
  }
};
const std::vector<Form> kForms = {{DType::f32, DType::f32},        {DType::bf16, DType::bf16},
                                  {DType::bf16, DType::f32},       {DType::f32, DType::bf16},
                                  {DType::f32, DType::f32, false}, {DType::bf16, DType::bf16, false}};

const std::vector<PassOptions> kPlans = {
    {.seed = 3, .step = 7, .sample_offset = (1ull << 40) + 3},
    {.seed = 3, .count = 2},
    {.seed = 3, .first = 2, .count = 3, .rates = {0.1, 0.1, 0, 0.9, 0.5}},
    {.seed = 3, .count = 2, .rates = {0, 0}}};

Tensor norm_of(const Tensor& sum, const Tensors& in, const Form& form) {
  return form.centred ? layer_norm(sum, {sum.shape().back()}, in[2], in[3], 1e-5, form.norm)
                      : rms_norm(sum, in[2], 1e-6, form.norm);
}
NormedResidual at_once(const Tensors& in, const PassOptions& plan, const Form& form) {
  PassContext context(plan);
  const Noise noise = context.noise(Purpose::dropout, 0.3);
  return form.centred
             ? residual_layer_norm(in[0], in[1], noise, {in[0].shape().back()}, in[2], in[3], 1e-5, form.norm)
             : residual_rms_norm(in[0], in[1], noise, in[2], 1e-6, form.norm);
}
NormedResidual one_by_one(const Tensors& in, const PassOptions& plan, const Form& form) {
  PassContext context(plan);
  const Noise noise = context.noise(Purpose::dropout, 0.3);
  const Tensor sum = noise.active() ? residual(in[0], in[1], noise) : in[0] + in[1];
  return {sum, norm_of(sum, in, form)};
}

Tensors inputs_of(const Shape& shape, DType branch, int passes = 1) {
  const int64_t n = shape.back();
  return {normal(shape, 1, DType::f32, passes), normal(shape, 2, branch, passes), normal({n}, 3),
          normal({n}, 4)};
}

// How many kernels a call launches; 0 on a real device.
template <class F> int64_t launches(F&& f) { return std::ssize(launched(f)); }

}  // namespace

TEST_CASE("residual: the sum and its norm have the bits of the ops one by one") {
  for (const Form& form : kForms) {
    for (const PassOptions& plan : kPlans) {
      for (const int64_t n : {4, 24, 64, 128, 132, 512, 516, 1032}) {
        for (const int m : {1, plan.count}) {
          INFO(form.str(), ", ", n, " values, ", plan.count, " passes of ", m);
          const Tensors in = inputs_of({3, 2, n}, form.branch, m), there = leaves_on(device(), in);
          const auto [sum, y] = at_once(there, plan, form);
          const auto [sum2, y2] = one_by_one(there, plan, form);
          CHECK(same_bits(sum.detach().to(kCpu), sum2.detach().to(kCpu)));
          CHECK(same_bits(y.detach().to(kCpu), y2.detach().to(kCpu)));
          CHECK(same_bits(sum.detach().to(kCpu), one_by_one(in, plan, form).sum));
          const Tensor g = cotangent_like(y, 7);
          Tensors used = there;
          if (!form.centred) used.pop_back();  // no bias
          const Tensors a = grad(y + sum, used, g), b = grad(y2 + sum2, used, g);
          for (size_t i = 0; i < a.size(); ++i) CHECK(same_bits(a[i].to(kCpu), b[i].to(kCpu)));
        }
      }
    }
  }
}

TEST_CASE("residual: rows of any length that is held, and sums whose squares overflow") {
  const PassOptions plan{.seed = 3, .count = 2};
  for (const Form& form : kForms) {
    for (const int64_t n : {64, 256, 1024, 2052, 4096}) {
      for (const double scale : {1.0, 1e20}) {
        INFO(form.str(), ", ", n, " values of ", scale);
        Tensors in = inputs_of({3, n}, form.branch);
        in[0] = in[0] * scale;
        if (scale > 1) in[0].select(0, 1).fill_(2);  // beside a row that is usual
        const Tensors there = leaves_on(device(), in);
        const auto [sum, y] = at_once(there, plan, form);
        const auto [sum2, y2] = one_by_one(there, plan, form);
        CHECK(same_bits(sum.detach().to(kCpu), sum2.detach().to(kCpu)));
        CHECK(same_bits(y.detach().to(kCpu), y2.detach().to(kCpu)));
        const Closeness c = close(y.detach().to(kCpu), one_by_one(in, plan, form).norm,
                                  form.norm == DType::bf16 ? 1e-2 : 1e-5);
        CHECK_MESSAGE(c.close, c.message);
        const Tensor g = cotangent_like(y, 7);
        const Tensors a = grad(y + sum, {there[0], there[1]}, g),
                      b = grad(y2 + sum2, {there[0], there[1]}, g);
        for (size_t i = 0; i < a.size(); ++i) CHECK(same_bits(a[i].to(kCpu), b[i].to(kCpu)));
        // And against dropout of the sum's gradient, on the CPU.
        const Tensors host = leaves_on(kCpu, in);
        const auto [sum3, y3] = one_by_one(host, plan, form);
        const Tensor dz = grad(y3 + sum3, {host[1]}, g.to(kCpu))[0];
        const Closeness d = close(a[1].to(kCpu), dz, form.branch == DType::bf16 ? 2e-2 : 1e-4);
        CHECK_MESSAGE(d.close, d.message);
      }
    }
  }
}

TEST_CASE("residual: one kernel forward; what it cannot hold goes the other way") {
  const PassOptions plan{.seed = 3, .count = 2};
  for (const Form& form : {Form{DType::bf16, DType::f32}, Form{DType::bf16, DType::f32, false}}) {
    const auto count = [&](const Tensors& in) {
      const Tensors there = leaves_on(device(), in, false);
      return launches([&] { at_once(there, plan, form); });
    };
    const auto expected = [&](const Tensors& in) {
      const Tensors there = leaves_on(device(), in, false);
      const auto [sum, y] = at_once(there, plan, form);
      const auto [sum2, y2] = one_by_one(in, plan, form);
      CHECK(same_bits(sum.to(kCpu), sum2));
      CHECK(close(y.to(kCpu), y2, 2e-5).close);
    };
    const Tensors held = inputs_of({3, 2, 64}, DType::bf16);
    expected(held);
    if (simulator()) CHECK(count(held) == 1);
    for (const Shape& shape : {Shape{3, 2, 63}, Shape{2, 4100}}) {
      expected(inputs_of(shape, DType::bf16));
      if (simulator()) CHECK(count(inputs_of(shape, DType::bf16)) > 1);
    }
    Tensors shifted = inputs_of({3, 64}, DType::f32);
    const Tensor there = misaligned(shifted[0]);
    CHECK(
        same_bits(at_once({there, shifted[1].to(device()), shifted[2].to(device()), shifted[3].to(device())},
                          plan, form)
                      .sum.to(kCpu),
                  one_by_one(shifted, plan, form).sum));
  }
}

TEST_CASE(
    "residual: dropout between bf16 and f32, and of f64, gives the CPU's bits, for samples of every size") {
  for (const PassOptions& plan : kPlans) {
    for (const int64_t row : {1, 3, 8, 31, 64, 100, 257, 4104}) {
      INFO(row);
      const Function f = [&](const Tensors& x) {
        const PassContext context(plan);
        return residual(x[0], x[1], 0.3);
      };
      agree({normal({5, row}, 1), normal({5, row}, 2, DType::bf16)}, f, {0, plan.count > 1 ? 1e-2 : 0, true});
      agree({normal({5, row}, 1, DType::f64), normal({5, row}, 2, DType::f64)}, f,
            {0, plan.count > 1 ? 1e-12 : 0, true});
    }
  }
  agree({normal({4, 30}, 1), normal({30}, 2, DType::bf16)}, [](const Tensors& in) { return in[0] + in[1]; },
        {0, 1e-2});
  agree({normal({4, 30}, 1, DType::bf16), normal({4, 30}, 2)},
        [](const Tensors& in) { return in[0] + in[1]; }, {});
}

TEST_CASE("residual: norms that write bf16, and gradients that add what has arrived") {
  for (const int64_t n : {8, 63, 64, 264, 520, 1025, 4100, 40000}) {
    INFO(n);
    const Tensors in{normal({5, n}, 1), normal({n}, 2), normal({n}, 3)};
    agree(
        in, [n](const Tensors& x) { return layer_norm(x[0], {n}, x[1], x[2], 1e-5, DType::bf16); },
        aligned(1e-2));
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Function both = [=](const Tensors& x) {
        const Tensor h = x[0] * 2.0, y = layer_norm(h, {n}, x[1], x[2], 1e-5, dtype);
        return y + h * h;  // the square's gradient comes first
      };
      agree(in, both, aligned(dtype == DType::f32 ? 2e-5 : 1e-2));
    }
  }
  // No addition of its own: the two vjps of h's users, and that of h.
  const Tensors there = leaves_on(device(), {normal({6, 64}, 1), normal({64}, 2), normal({64}, 3)});
  const auto backward_launches = [&](bool fused) {
    const Tensor h = there[0] * 2.0, y = layer_norm(fused ? h : there[0] * 3.0, {64}, there[1], there[2]);
    const Tensor total = y + h * 3.0, g = cotangent_like(total, 4);
    return launches([&] { grad(total, there, g); });
  };
  if (simulator()) CHECK(backward_launches(true) < backward_launches(false));
}

// Each way is what else reads the sum beside its norm, before or after it.
TEST_CASE("residual: the branch's gradient is dropout's of the sum's, whoever else gave to that") {
  using Way = std::function<Tensor(const Tensor& sum, const std::function<Tensor()>& norm)>;
  const std::vector<std::pair<std::string, Way>> ways = {
      {"alone", [](const Tensor&, const auto& norm) { return norm(); }},
      {"after",
       [](const Tensor& sum, const auto& norm) {
         const Tensor normed = norm();
         return normed + sum * 2.0;
       }},
      {"before",
       [](const Tensor& sum, const auto& norm) {
         const Tensor twice = sum * 2.0;
         return norm() + twice;
       }},
      {"two norms", [](const Tensor&, const auto& norm) { return norm() * norm(); }},
      // Recorded before, it gives its gradient afterwards: to what the other one has been made beside.
      {"a norm of two dimensions before",
       [](const Tensor& sum, const auto& norm) {
         const Tensor wide = layer_norm(sum, {sum.size(-2), sum.size(-1)});
         return norm() + wide;
       }},
      {"hook", [](const Tensor& sum, const auto& norm) {
         sum.register_hook([](const Tensor& g) { return g * 2.0; });
         return norm();
       }}};
  for (const Form& form : kForms) {
    const DType branch = form.branch;
    for (const PassOptions& plan : kPlans) {
      for (const int64_t n : {8, 64, 132, 516}) {
        for (const auto& way : ways) {
          INFO(way.first, ": ", form.str(), ", ", n, " values, ", plan.count, " passes");
          const Tensors there = leaves_on(device(), inputs_of({3, 2, n}, branch));
          PassContext context(plan);
          const Noise noise = context.noise(Purpose::dropout, 0.3);
          const Tensor sum = residual(there[0], there[1], noise);
          const Tensor y = way.second(sum, [&] { return norm_of(sum, there, form); });
          const Tensors d = grad(y, {sum, there[1]}, cotangent_like(y.detach(), 5));
          const Tensor each = noise.active() ? dropout(d[0], noise) : d[0];  // of the passes
          Tensor expected = each.pass(0);
          for (int i = 1; i < each.passes(); ++i) expected = expected + each.pass(i);
          const Closeness c = close(d[1].to(kCpu), expected.to(kCpu), branch == DType::bf16 ? 1e-2 : 1e-6);
          CHECK_MESSAGE(c.close, c.message);
          if (each.passes() == 1) CHECK(same_bits(d[1].to(kCpu), expected.to(branch).to(kCpu)));
        }
      }
    }
  }
  // With the norm as its first reader no kernel of dropout runs.
  const Tensors there = leaves_on(device(), inputs_of({3, 2, 64}, DType::bf16));
  const auto backward_launches = [&](const Way& way) {
    PassContext context({.seed = 3});
    const Tensor sum = residual(there[0], there[1], context.noise(Purpose::dropout, 0.3));
    const Tensor y = way(sum, [&] { return layer_norm(sum, {64}, there[2], there[3]); });
    const Tensor g = cotangent_like(y.detach(), 5);
    return launches([&] { grad(y, {there[1]}, g); });
  };
  if (simulator()) CHECK(backward_launches(ways[1].second) < backward_launches(ways[2].second));
}
