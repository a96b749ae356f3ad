#include "ops/rdrop/inputs.h"

#include <cmath>

#include "autograd/tensor_impl.h"
#include "ops/arithmetic.h"

namespace tandem::detail {
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

void check_units(const char* op, const char* what, const Shape& units, const Tensor& x) {
  check<ShapeError>(x.shape() == units && x.passes() == 1, "{}: {} is {}, expected one pass of {}", op, what,
                    describe(x), units);
}

}  // namespace

RDropUnits rdrop_units(const char* op, const Shape& units, const Tensor& mask, const RDropOptions& options) {
  check_options(op, options);
  RDropUnits result;
  const int64_t count = units.numel();
  if (mask.defined()) {
    check_units(op, "valid_mask", units, mask);
    check<DTypeError>(mask.dtype() == DType::boolean || mask.dtype() == DType::u8,
                      "{}: valid_mask is {}, expected bool or u8", op, describe(mask));
    result.mask = dense(mask.detach());
  }
  if (result.mask.defined() && result.mask.device() != kCpu) return result;
  const uint8_t* valid = result.valid();
  for (int64_t u = 0; u < count; ++u) result.counted += !valid || valid[u] != 0;
  return result;
}

RDropUnits rdrop_units(const char* op, const Shape& units, const Tensor& target, const Tensor& mask,
                       const RDropOptions& options) {
  RDropUnits result = rdrop_units(op, units, mask, options);
  check_units(op, "target", units, target);
  check<DTypeError>(target.dtype() == DType::i64 || target.dtype() == DType::i32,
                    "{}: target is {}, expected class indices (i64 or i32)", op, describe(target));
  result.target = dense(target.to(DType::i64));
  check_device(op, "valid_mask", result.mask, target);
  if (target.device() != kCpu) return result;
  const uint8_t* valid = result.valid();
  result.counted = 0;
  for (int64_t u = 0; u < units.numel(); ++u)
    result.counted += (!valid || valid[u] != 0) && result.targets()[u] != options.ignore_index;
  return result;
}

RDropRows rdrop_rows(const RDropOptions& options, const RDropUnits& units, int passes, int64_t count,
                     int64_t classes) {
  const double counted = static_cast<double>(std::max<int64_t>(1, units.counted));
  return {.passes = passes,
          .units = count,
          .classes = classes,
          .alpha = options.alpha,
          .divisor = options.divisor > 0 ? options.divisor : counted,
          .label_smoothing = options.label_smoothing,
          .ignore_index = options.ignore_index};
}

Shape without_last(const char* op, const Tensor& x) {
  check<ShapeError>(x.dim() >= 1 && x.size(-1) > 0, "{}: expected [units..., n] with n >= 1, got {}", op,
                    describe(x));
  Shape units = x.shape();
  units.erase(x.dim() - 1);
  return units;
}

void check_passes(const char* op, int own, int passes) {
  check<ShapeError>(passes >= 0 && (passes == 0 || own == 1 || own == passes),
                    "{}: a tensor of {} passes in a step of {}", op, own, passes);
}

void check_device(const char* op, const char* what, const Tensor& x, const Tensor& like) {
  check<DeviceError>(!x.defined() || x.device() == like.device(), "{}: {} on {}, expected {}", op, what,
                     name_of(x.defined() ? x.device() : kCpu), name_of(like.device()));
}

Tensor scale_gradient(const Tensor& gradient, const Tensor& cotangent) {
  if (!gradient.defined() || holds_one(cotangent)) return gradient;
  if (gradient.device() != kCpu) return mul(gradient, cotangent).to(gradient.dtype());
  const double factor = cotangent.item();
  return factor == 1 ? gradient : affine(gradient, factor, 0);
}

LossParts loss_parts(Tensor loss, const RDropOutcome& outcome) {
  const RDropSums& sums = outcome.sums;
  return {std::move(loss), sums.fit, sums.distance, sums.valid, sums.correct, outcome.device};
}

}  // namespace tandem::detail
