#include "ops/rdrop/error.h"

#include "autograd/error.h"

namespace tandem::detail {

const char* name_of(RDropCaller caller) {
  constexpr const char* names[] = {"rdrop_cross_entropy", "rdrop_mse", "linear_rdrop_cross_entropy",
                                   "cross_entropy", "nll_loss"};
  return names[static_cast<int>(caller)];
}

void RDropFault::raise_error(RDropCaller caller, int64_t classes, int64_t ignore_index) const {
  constexpr const char* op = "rdrop_cross_entropy";
  switch (error) {
    case RDropError::label:
      raise<ValueError>("{}: target is {} at {}{}, expected a class in [0, {}) or ignore_index {}",
                        name_of(caller), static_cast<int64_t>(value),
                        caller < RDropCaller::cross_entropy ? "unit " : "", unit, classes, ignore_index);
    case RDropError::logit:
      raise<ValueError>("{}: logit is {} at unit {}, class {}, pass {}, expected a finite value or -inf", op,
                        value, unit, index, pass);
    case RDropError::some_passes:
      raise<ValueError>(
          "{}: logit is {} at unit {}, class {}, pass {} but not in all passes, expected a class to be "
          "excluded in all passes or in none",
          op, value, unit, index, pass);
    case RDropError::target_excluded:
      raise<ValueError>("{}: the target's logit is {} at unit {}, class {}, pass {}, expected a finite value",
                        op, value, unit, index, pass);
    case RDropError::target_number:
      raise<ValueError>("rdrop_mse: target is {} at unit {}, expected a finite value", value, unit);
    case RDropError::prediction:
      raise<ValueError>("rdrop_mse: y is {} at unit {}, pass {}, expected a finite value", value, unit, pass);
    default:
      raise<ValueError>("{}: all logits are {} at unit {}, pass {} (class 0 to {}), expected a finite one",
                        op, value, unit, pass, index);
  }
}

}  // namespace tandem::detail
