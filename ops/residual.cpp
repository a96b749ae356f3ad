#include "ops/residual.h"

#include "autograd/registry.h"
#include "ops/arithmetic.h"
#include "ops/dropout.h"
#include "ops/dropout_op.h"
#include "ops/norms/norms.h"
#include "ops/norms/row_norm.h"
#include "ops/residual_kernel.h"

namespace tandem {
namespace {

using detail::BranchGradient;
using detail::DropElements;
using detail::Dropping;
using detail::MadeNorm;

// What a kernel makes of the sum beside it, and the values for that.
struct Norm {
  bool centred;  // layer norm, or RMS norm: without a bias
  Shape row_shape;
  Tensor weight, bias;
  double eps;
  DType dtype;
  MadeNorm made = {};  // by the forward
};

bool narrow(DType dtype) { return dtype == DType::bf16 || dtype == DType::f32; }
bool aligned(const Tensor& t) {
  return !t.defined() || reinterpret_cast<uintptr_t>(t.device_raw()) % 16 == 0;
}

// Whether the kernels of norms take sums, and gradients of branches, in their sweep: on a device, of rows of
// n that they can hold, each within a sample.
bool in_rows(const Tensor& x, const Tensor& z, const Noise& noise, int64_t n) {
  const int passes = noise.active() ? noise.passes() : common_passes("residual", {x, z});
  return x.device() != kCpu && x.dtype() == DType::f32 && narrow(z.dtype()) && x.numel() > 0 && n > 0 &&
         n % 4 == 0 && n <= detail::kLongestResidualNorm && passes <= detail::kPassesAtOnce && aligned(x) &&
         aligned(z) &&
         (!noise.active() ||
          (!noise.packed.defined() && noise.spans("residual", x.shape()).longest() % n == 0));
}

struct Residual final : detail::BranchedSum {
  Noise noise;
  Norm* norm;  // null: the sum alone
  DType of_branch = DType::f32;
  Residual(const Noise& noise, Norm* norm) : noise(noise), norm(norm) {}
  const char* name() const override { return "residual"; }

  Tensor forward(const Tensors& in) override {
    if (noise.active()) {
      check<ShapeError>(passes() == 1 || passes() == noise.passes(), "residual: {} in a context of {} passes",
                        describe(in[in[0].passes() > 1 ? 0 : 1]), noise.passes());
      set_passes(noise.passes());
    }
    of_branch = in[1].dtype();
    const Tensor x = dense(in[0]), z = dense(in[1]), sum = output(x.shape(), x);
    const int64_t n = x.dim() > 0 ? x.size(-1) : 0;
    if (recording() && z.requires_grad() && in_rows(x, z, noise, n))
      branch = std::make_shared<BranchGradient>(z.dtype(), n, branch_noise(x, n));
    if (Norm* const of_sum = std::exchange(norm, nullptr)) {
      add_and_normalise(x, z, sum, *of_sum);
    } else {
      detail::drop_into<DropElements>(name(), noise, z, sum, x);
    }
    return sum;
  }
  // dx = g, dz = g keep / (1 - p)
  Tensors vjp(const Tensor& g) override {
    if (Tensor dz = branch ? branch->take(g) : Tensor(); dz.defined()) return {g, dz};
    if (!noise.active()) return {g, g};
    return {g, needs(1) ? apply<Dropping<DropElements>>({g}, noise, of_branch) : Tensor()};
  }

  // Of rows of n.
  detail::BranchNoise branch_noise(const Tensor& x, int64_t n) const {
    detail::BranchNoise of{};
    const int64_t rows = x.numel() / n;  // of a pass
    of.rows_of_sample = noise.active() ? noise.spans(name(), x.shape()).longest() / n : rows;
    of.noise = device_noise(noise, rows / of.rows_of_sample);
    for (int i = 0; i < passes(); ++i) {
      const double rate = noise.active() ? noise.rates[i] : 0;
      of.threshold[i] = drop_threshold(rate), of.scale[i] = static_cast<float>(kept_scale(rate));
    }
    return of;
  }

  void add_and_normalise(const Tensor& x, const Tensor& z, const Tensor& sum, Norm& norm) {
    const int64_t n = norm.row_shape.numel(), rows = x.numel() / n;  // of a pass
    const auto of_row = [&](const Tensor& given, double otherwise) {
      return detail::affine_values(given, norm.row_shape, DType::f32, 1, otherwise, x.device());
    };
    const Tensor w = of_row(norm.weight, 1), b = norm.centred ? of_row(norm.bias, 0) : Tensor();
    norm.made = {output(x.shape(), norm.dtype, x.device()),
                 empty({2, passes() * rows}, {DType::f32, x.device()}),
                 branch && branch->claim(n) ? branch : nullptr};
    const auto run = [&]<class Z, class O>() {
      detail::ResidualNormRows<Z, O> args{};
      args.passes = passes(), args.rows = rows, args.n = n;
      args.centred = norm.centred, args.eps = static_cast<float>(norm.eps);
      args.x = x.device_data<float>(), args.x_pass = x.pass_stride();
      args.z = z.device_data<Z>(), args.z_pass = z.pass_stride();
      args.weight = w.device_data<float>(), args.bias = b.defined() ? b.device_data<float>() : nullptr;
      args.sum = sum.device_data<float>(), args.y = norm.made.y.device_data<O>();
      args.mean = norm.made.stats.device_data<float>(), args.rstd = args.mean + passes() * rows;
      args.branch = branch_noise(x, n);
      run_on_device(x, args);
    };
    const auto of_branch = [&]<class Z>() {
      norm.dtype == DType::bf16 ? run.template operator()<Z, bf16>() : run.template operator()<Z, float>();
    };
    z.dtype() == DType::bf16 ? of_branch.template operator()<bf16>() : of_branch.template operator()<float>();
  }
};

void check_branch(const Tensor& x, const Tensor& z) {
  check<ShapeError>(x.shape() == z.shape(), "residual: {} and a branch {}, expected the same shape",
                    describe(x), describe(z));
}

// Whether one kernel makes both.
bool at_once(const Tensor& x, const Tensor& z, const Noise& noise, const Norm& norm) {
  const auto fits = [](const Tensor& w) { return !w.defined() || (aligned(w) && w.passes() == 1); };
  return in_rows(x, z, noise, norm.row_shape.numel()) && narrow(norm.dtype) && fits(norm.weight) &&
         fits(norm.bias);
}

template <bool Centred>
NormedResidual sum_and_norm(const Tensor& x, const Tensor& z, const Noise& noise, Norm norm) {
  const Tensor sum = apply<Residual>({x, z}, noise, &norm);
  Tensors in{sum, norm.weight};
  if (Centred) in.push_back(norm.bias);
  return {sum, apply<detail::RowNorm<Centred>>(in, norm.row_shape, norm.eps, norm.dtype, norm.made)};
}

}  // namespace

Tensor residual(const Tensor& x, const Tensor& z, const Noise& noise) {
  check_branch(x, z);
  if (!noise.active()) return x + z;
  if (noise.packed.defined() && x.device() != kCpu) return x + dropout(z, noise);
  const DType wide = promote(x.dtype(), z.dtype());
  const bool mixed = wide == DType::f32 && z.dtype() == DType::bf16;
  return apply<Residual>({x.to(wide), mixed ? z : z.to(wide)}, noise, nullptr);
}
Tensor residual(const Tensor& x, const Tensor& z, double p) {
  return residual(x, z, PassContext::require("residual").noise(Purpose::dropout, p));
}

NormedResidual residual_layer_norm(const Tensor& x, const Tensor& z, const Noise& noise,
                                   const Shape& normalized_shape, const Tensor& weight, const Tensor& bias,
                                   double eps, std::optional<DType> dtype) {
  check_branch(x, z);
  const Norm norm{true, normalized_shape, weight, bias, eps, dtype.value_or(promote(x.dtype(), z.dtype()))};
  if (!at_once(x, z, noise, norm)) {
    const Tensor sum = residual(x, z, noise);
    return {sum, layer_norm(sum, normalized_shape, weight, bias, eps, dtype)};
  }
  detail::check_layer_norm(x, normalized_shape, weight, bias);
  return sum_and_norm<true>(x, z, noise, norm);
}

NormedResidual residual_rms_norm(const Tensor& x, const Tensor& z, const Noise& noise, const Tensor& weight,
                                 double eps, std::optional<DType> dtype) {
  check_branch(x, z);
  const Shape row = x.dim() > 0 ? Shape{x.shape().back()} : Shape{};
  const Norm norm{false, row, weight, {}, eps, dtype.value_or(promote(x.dtype(), z.dtype()))};
  if (!at_once(x, z, noise, norm)) {
    const Tensor sum = residual(x, z, noise);
    return {sum, rms_norm(sum, weight, eps, dtype)};
  }
  detail::check_rms_norm(x, weight);
  return sum_and_norm<false>(x, z, noise, norm);
}

namespace {

void residual_cases(OpCases& c) {
  const auto f = [](PassOptions options) {
    return [options](const Tensors& in) {
      const PassContext context(options);
      return residual(in[0], in[1], 0.4);
    };
  };
  c.sample("one pass", {c.normal({3, 50}), c.normal({3, 50})}, f({.seed = 5}));
  c.sample("makes 3 passes", {c.normal({3, 50}), c.normal({3, 50})},
           f({.seed = 5, .count = 3, .rates = {0.1, 0, 0.7}}));
  c.sample("inactive", {c.normal({3, 5}), c.normal({3, 5})}, f({.seed = 5, .count = 2, .rates = {0, 0}}));
  c.sample("itself", {c.normal({2, 24})}, [=](const Tensors& in) { return f({.seed = 5})({in[0], in[0]}); });
  c.sample("packed rows", {c.normal({5, 10}), c.normal({5, 10})}, [=](const Tensors& in) {
    const PackedScope scope(PackedRows({{0, 3}, {2, 4}, {1, 1}}, 4));
    return f({.seed = 5, .count = 2})(in);
  });
  const auto with_norm = [](PassOptions options, int64_t n) {
    return [=](const Tensors& in) {
      PassContext context(options);
      const auto [sum, norm] =
          residual_layer_norm(in[0], in[1], context.noise(Purpose::dropout, 0.4), {n}, in[2], in[3]);
      return sum * 0.5 + norm;
    };
  };
  const auto rows = [&](int64_t n) {
    return Tensors{c.normal({3, 2, n}), c.normal({3, 2, n}), c.normal({n}), c.normal({n})};
  };
  c.sample("with its norm", rows(24), with_norm({.seed = 5}, 24));
  c.sample("with its norm, of 2 passes", rows(136),
           with_norm({.seed = 5, .count = 2, .rates = {0.1, 0.6}}, 136));
  c.sample("with its RMS norm, of 2 passes", {c.normal({3, 2, 136}), c.normal({3, 2, 136}), c.normal({136})},
           [](const Tensors& in) {
             PassContext context({.seed = 5, .count = 2, .rates = {0.1, 0.6}});
             const Noise noise = context.noise(Purpose::dropout, 0.4);
             const auto [sum, norm] = residual_rms_norm(in[0], in[1], noise, in[2]);
             return sum * 0.5 + norm;
           });
  c.sample("with its norm, inactive", rows(12), with_norm({.seed = 5, .rates = {0}}, 12));
  c.sample("with its norm, odd", rows(7), with_norm({.seed = 5}, 7));
  c.fails<ShapeError>("shapes", "residual: f32[2,3] and a branch f32[3], expected the same shape",
                      {zeros({2, 3}), zeros({3})}, f({}));
  c.fails<AutogradError>("no context", "residual: noise outside of a PassContext",
                         [] { residual(zeros({2}), zeros({2}), 0.1); });
}
const RegisterOp residual_op("residual", residual_cases, {.draws_noise = true});

}  // namespace
}  // namespace tandem
