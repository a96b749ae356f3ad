// The R-Drop losses as a device's kernels are told of them. Units leave their parts behind, which are then
// added in their order; what is wrong with a unit is among them, since a kernel cannot throw.
#pragma once

#include <cstdint>

#include "autograd/step_scalars.h"
#include "ops/rdrop/cpu.h"
#include "ops/rdrop/error.h"

namespace tandem::detail {

// Of one unit or several: sums that are not divided yet, and the first error.
struct RDropPart {
  double fit, distance;  // means over passes and over pairs
  double value;
  int64_t unit, index;  // of the error; index: the class
  int32_t pass;
  RDropError error;
  int32_t counted, correct;
};

// Where the numbers are among the device's sums, f64 [count]. Fit, distance, valid and correct are those of
// RDropSums; divisor is what was divided by.
namespace rdrop_slot {
enum : int {
  fit,
  distance,
  valid,
  correct,
  divisor,
  error,
  unit,
  pass,
  index,
  value,
  caller,
  classes,
  ignored,
  count
};
}

// alpha and the divisor of a call, where it runs. In a recorded step they are so many times those of the
// step.
struct RDropWeights {
  double alpha;
  double divisor;               // 0: that among the sums
  const StepScalars* alpha_of;  // null: `alpha` itself
  const StepScalars* divisor_of;

  constexpr double alpha_now() const { return alpha_of ? alpha * alpha_of->alpha : alpha; }
  constexpr double divisor_now(const double* sums) const {
    return divisor == 0 ? sums[rdrop_slot::divisor] : divisor_of ? divisor * divisor_of->divisor : divisor;
  }
};

// Counts the units, and looks for labels that are none (target null: there are no labels): fills the sums.
struct RDropCount {
  int64_t units, classes, ignore_index;
  const int64_t* target;
  const uint8_t* valid;
  double caller;
  double* sums;
};

// rdrop_cross_entropy_rows, one part for each unit. rows.alpha and rows.divisor play no part.
template <class T>
struct RDropUnitRows {
  RDropRows rows;
  RDropWeights weights;
  PassRows<const T> logits;
  PassRows<T> grad;
  const int64_t* target;
  const uint8_t* valid;
  int64_t first_unit;  // the number of the first of these rows among the units
  const double* sums;
  RDropPart* parts;
};

// rdrop_mse_rows, one part for every kRDropMseUnits.
inline constexpr int64_t kRDropMseUnits = 256;
template <class T>
struct RDropMseUnits {
  RDropRows rows;
  RDropWeights weights;
  PassRows<const T> y;
  PassRows<T> grad;
  const T* target;
  const uint8_t* valid;
  const double* sums;
  RDropPart* parts;
};

// Adds the parts in their order and fills the sums and the loss.
struct RDropFinish {
  int64_t parts_count, classes, ignore_index;
  RDropWeights weights;
  const RDropPart* parts;
  double caller;
  double copies;  // how many passes one pass of the logits stands for, for `correct`
  double* sums;
  float* loss;  // one of the two
  double* wide_loss;
};

}  // namespace tandem::detail
