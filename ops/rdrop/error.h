// What can be wrong with a unit of an R-Drop loss.
#pragma once

#include <cstdint>

namespace tandem::detail {

enum class RDropError : int32_t {
  none,
  label,            // `value` is not a class
  logit,            // `value` is NaN or +inf
  some_passes,      // a class at -inf, but not in all passes
  target_excluded,  // the target's logit is -inf
  empty_row,        // all logits are -inf
  target_number,    // of regression: `value` is not finite
  prediction,       // of regression: `value` is not finite
};

// The functions that look for it, by the name that a message gives them.
enum class RDropCaller : int32_t { rdrop_cross_entropy, rdrop_mse, linear_rdrop, cross_entropy, nll_loss };

const char* name_of(RDropCaller caller);

// Found by a kernel, raised by the thread that called it, which knows the module.
struct RDropFault {
  RDropError error = RDropError::none;
  int64_t unit = 0, pass = 0, index = 0;  // index: the class
  double value = 0;

  // ValueError; `classes` and `ignore_index` are told where a label is none.
  [[noreturn]] void raise_error(RDropCaller caller, int64_t classes = 0, int64_t ignore_index = 0) const;
};

}  // namespace tandem::detail
