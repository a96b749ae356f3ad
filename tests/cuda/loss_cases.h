// R-Drop losses on the device against those of the CPU: values, parts, gradients, and errors' messages.
#pragma once

#include "autograd/grad_mode.h"
#include "ops/ops.h"
#include "tests/cuda/compare.h"

namespace tandem::testing {

inline constexpr double kInf = std::numeric_limits<double>::infinity();

struct LossCase {
  Tensor logits, target, mask;
  RDropOptions options;
};

inline LossCase random_case(int m, int64_t units, int64_t classes, DType dtype,
                            RDropOptions options = {.alpha = 1.5}) {
  SampleMaker make(classes + m, DType::f64, kCpu);
  return {normal({units, classes}, m, dtype, m).mul_(2), make.integers({units}, 0, classes), {}, options};
}

inline LossParts run(const LossCase& c, Device where, Tensor& grad, const Tensor& cotangent = {}) {
  const Tensor x = c.logits.detach().to(where).clone().requires_grad_();
  const LossParts parts =
      rdrop_cross_entropy(x, c.target.to(where), c.options, c.mask.defined() ? c.mask.to(where) : Tensor());
  CHECK(parts.loss.device() == where);
  if (parts.loss.requires_grad()) parts.loss.backward(cotangent.defined() ? cotangent.to(where) : Tensor());
  if (x.grad().defined()) grad = x.grad().to(kCpu);
  return parts;
}

inline void check_parts(const LossParts& got, const LossParts& expected, double tolerance) {
  const auto near = [&](double a, double b) { CHECK(std::abs(a - b) <= tolerance * (std::abs(b) + 1e-3)); };
  near(got.loss.item(), expected.loss.item());
  near(got.ce, expected.ce);
  near(got.kl, expected.kl);
  CHECK(got.valid == expected.valid);
  CHECK(got.correct == expected.correct);
}

inline void check_case(const LossCase& c, double tolerance = 0, const Tensor& cotangent = {}) {
  if (tolerance == 0) tolerance = c.logits.dtype() == DType::f64 ? 1e-11 : 3e-5;
  Tensor host, there;
  const LossParts expected = run(c, kCpu, host, cotangent), got = run(c, device(), there, cotangent);
  check_parts(got, expected, tolerance);
  const Closeness close_enough = close(there, host, c.logits.dtype() == DType::bf16 ? 2e-2 : tolerance);
  CHECK_MESSAGE(close_enough.close, close_enough.message);
}

// The loss alone, by the sweep that makes no gradient.
inline void check_loss(const LossCase& c, double tolerance) {
  const NoGradGuard no_grad;
  Tensor none;
  const LossParts expected = run(c, kCpu, none);
  check_parts(run(c, device(), none), expected, tolerance);
}

// The message of the CPU, thrown for the device's tensors.
inline void check_error(const LossCase& c, const std::string& part) {
  const auto on = [&](Device where) {
    return message_of<ValueError>([&] {
      Tensor grad;
      run(c, where, grad);
    });
  };
  const std::string expected = on(kCpu);
  INFO(expected);
  CHECK(contains(expected, part));
  CHECK(on(device()) == expected);
}

}  // namespace tandem::testing
