#include "ops/rdrop/inputs.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "autograd/tensor_impl.h"

namespace tandem::rdrop {
namespace {

void check_options(const char* op, const RDropOptions& options) {
  check<ConfigError>(options.alpha >= 0 && std::isfinite(options.alpha),
                     "{}: alpha is {}, expected a finite number >= 0", op, options.alpha);
  check<ConfigError>(options.divisor >= 0 && std::isfinite(options.divisor),
                     "{}: divisor is {}, expected a finite number > 0, or 0 for this call's units", op,
                     options.divisor);
  check<ConfigError>(options.label_smoothing >= 0 && options.label_smoothing < 1,
                     "{}: label_smoothing is {}, expected a number in [0, 1)", op, options.label_smoothing);
}

void check_shape(const char* op, const char* what, const Shape& units, const Tensor& x,
                 const std::string& hint = {}) {
  check<ShapeError>(x.shape() == units && x.passes() == 1, "{}: {} is {}, expected one pass of {}{}", op,
                    what, describe(x), units, hint);
}

void check_device(const char* op, const char* what, const Tensor& x, const Tensor& like) {
  check<DeviceError>(!x.defined() || x.device() == like.device(), "{}: {} on {}, expected {}", op, what,
                     name_of(x.defined() ? x.device() : kCpu), name_of(like.device()));
}

// Targets that fit logits whose classes are dimension 1, as other frameworks have them.
std::string classes_in_front(const Tensor& logits, const Tensor& target) {
  const int64_t dims = logits.dim();
  if (dims < 3 || target.dim() != dims - 1) return {};
  std::string order = "0";
  Shape units{logits.size(0)};
  for (int64_t d = 2; d < dims; ++d) units.push_back(logits.size(d)), order += fmt::format(", {}", d);
  if (target.shape() != units) return {};
  const std::string write = dims == 3 ? "transpose(1, 2)" : fmt::format("permute({{{}, 1}})", order);
  return fmt::format(": classes are the last dimension of {}; where they are dimension 1, write logits.{}",
                     describe(logits), write);
}

// The options and the mask.
Inputs start(const char* op, const Shape& units, const Tensor& mask, const RDropOptions& options) {
  check_options(op, options);
  Inputs inputs{op, options};
  if (!mask.defined()) return inputs;
  check_shape(op, "valid_mask", units, mask);
  check<DTypeError>(mask.dtype() == DType::boolean || mask.dtype() == DType::u8,
                    "{}: valid_mask is {}, expected bool or u8", op, describe(mask));
  inputs.mask = dense(mask.detach());
  return inputs;
}

bool counts(int64_t unit, const int64_t* target, const uint8_t* valid, int64_t ignore_index) {
  return (!valid || valid[unit] != 0) && (!target || target[unit] != ignore_index);
}

int64_t count(const Inputs& inputs, int64_t units) {
  const int64_t* target = inputs.targets();
  const uint8_t* valid = inputs.valid();
  int64_t result = 0;
  for (int64_t u = 0; u < units; ++u) result += counts(u, target, valid, inputs.options.ignore_index);
  return result;
}

}  // namespace

Inputs check_inputs(const char* op, const Tensor& logits, const Tensor& target, const Tensor& mask,
                    const RDropOptions& options) {
  const Shape units = unit_shape(op, logits);
  Inputs inputs = start(op, units, mask, options);
  check<DTypeError>(target.dtype() == DType::i64 || target.dtype() == DType::i32,  // also of swapped ones
                    "{}: target is {}, expected class indices (i64 or i32)", op, describe(target));
  check_shape(op, "target", units, target,
              target.shape() == units ? std::string() : classes_in_front(logits, target));
  inputs.target = dense(target.to(DType::i64));
  check_device(op, "valid_mask", mask, target);
  check_device(op, "target", target, logits);
  if (target.device() == kCpu) inputs.counted = count(inputs, units.numel());
  return inputs;
}

Inputs check_inputs(const char* op, const Tensor& y, const Tensor& mask, const RDropOptions& options) {
  Inputs inputs = start(op, y.shape(), mask, options);
  check_device(op, "valid_mask", mask, y);
  if (y.device() == kCpu) inputs.counted = count(inputs, y.numel());
  return inputs;
}

Shape unit_shape(const char* op, const Tensor& x) {
  check<ShapeError>(x.dim() >= 1 && x.size(-1) > 0, "{}: expected [units..., n] with n >= 1, got {}", op,
                    describe(x));
  Shape units = x.shape();
  units.erase(x.dim() - 1);
  return units;
}

int copies_of(const char* op, int own, int passes) {
  check<ShapeError>(passes >= 0 && (passes == 0 || own == 1 || own == passes),
                    "{}: a tensor of {} passes in a step of {}", op, own, passes);
  return own == 1 && passes > 1 ? passes : 1;
}

int64_t count_labels(const char* op, const Problem& problem, const int64_t* target, const uint8_t* valid) {
  int64_t counted = 0;
  for (int64_t u = 0; u < problem.units; ++u) {
    if (!counts(u, target, valid, problem.ignore_index)) continue;
    ++counted;
    if (target[u] >= 0 && target[u] < problem.classes) continue;
    raise_error({static_cast<double>(target[u]), u, 0, 0, ErrorKind::label}, op, problem.classes,
                problem.ignore_index);
  }
  return counted;
}

void check_labels(const Inputs& inputs, int64_t classes) {
  if (inputs.target.device() != kCpu) return;
  const Problem problem{
      .units = inputs.target.numel(), .classes = classes, .ignore_index = inputs.options.ignore_index};
  count_labels(inputs.op, problem, inputs.targets(), inputs.valid());
}

void raise_error(const UnitError& error, const char* op, int64_t classes, int64_t ignore_index) {
  constexpr const char* kernel = "rdrop_cross_entropy";
  const auto& [value, unit, index, pass, kind] = error;
  switch (kind) {
    case ErrorKind::label:  // the losses of torch have positions, not units
      raise<ValueError>("{}: target is {} at {}{}, expected a class in [0, {}) or ignore_index {}", op,
                        static_cast<int64_t>(value), std::string_view(op).ends_with(kernel) ? "unit " : "",
                        unit, classes, ignore_index);
    case ErrorKind::logit:
      raise<NonFiniteError>("{}: logit is {} at unit {}, class {}, pass {}, expected a finite value or -inf",
                            kernel, value, unit, index, pass);
    case ErrorKind::some_passes:
      raise<ValueError>(
          "{}: logit is {} at unit {}, class {}, pass {} but not in all passes, expected a class to be "
          "excluded in all passes or in none",
          kernel, value, unit, index, pass);
    case ErrorKind::target_excluded:
      raise<NonFiniteError>(
          "{}: the target's logit is {} at unit {}, class {}, pass {}, expected a finite value", kernel,
          value, unit, index, pass);
    case ErrorKind::target_number:
      raise<NonFiniteError>("rdrop_mse: target is {} at unit {}, expected a finite value", value, unit);
    case ErrorKind::prediction:
      raise<NonFiniteError>("rdrop_mse: y is {} at unit {}, pass {}, expected a finite value", value, unit,
                            pass);
    default:
      raise<NonFiniteError>(
          "{}: all logits are {} at unit {}, pass {} (class 0 to {}), expected a finite one", kernel, value,
          unit, pass, index);
  }
}

}  // namespace tandem::rdrop
