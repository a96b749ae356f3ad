// What the two implementations of the R-Drop losses have in common, the CPU's (cpu.h) and the device's
// (rdrop.cu): what they are given, what they leave behind, and the one formula that rounding could spoil.
// Compiled for the host and for the device.
#pragma once

#include <cmath>
#include <cstdint>

#include "autograd/step_scalars.h"

namespace tandem::rdrop {

// p - q for t = log p - log q. Near equality p - q is lost to rounding, but p - q = (p + q) tanh(t / 2) is
// not, and has t's sign, so that every class adds a KL term >= 0. Where p and q are far apart, t is not
// asked: of large logits (2^30 in f32) it may have lost all digits of that distance.
template <class C> constexpr C probability_difference(C p, C q, C t) {
  const C x = t * C(0.5), y = x * x, difference = p - q;
  // Of f32 the later terms, y < 1/256, are lost to rounding.
  const C rest = sizeof(C) == 4 ? C(2) / 15 : C(2) / 15 - y * (C(17) / 315 - y * (C(62) / 2835));
  const C tanh = x * (1 - y * (C(1) / 3 - y * rest));
  const bool close = std::abs(x) < C(1) / 16, alike = std::abs(difference) < (p + q) * (C(1) / 8);
  return (close & alike) ? (p + q) * tanh : difference;
}

// The memory of a tensor [passes, units, classes] whose classes are dense; strides in elements.
template <class T> struct PassView {
  T* data = nullptr;
  int64_t pass_stride = 0, unit_stride = 0;
  constexpr T* row(int64_t pass, int64_t unit) const {
    return data + pass * pass_stride + unit * unit_stride;
  }
};

// What can be wrong with a unit. Kernels find it; the thread that called them raises it.
enum class ErrorKind : int32_t {
  none,
  label,            // `value` is not a class
  logit,            // `value` is NaN or +inf
  some_passes,      // a class at -inf, but not in all passes
  target_excluded,  // the target's logit is -inf
  empty_row,        // all logits are -inf
  target_number,    // of regression: `value` is not finite
  prediction,       // of regression: `value` is not finite
};
struct UnitError {
  double value;
  int64_t unit, index;  // index: the class
  int32_t pass;
  ErrorKind kind;
};

// Of one unit or several: sums that are not divided yet, and the first error.
struct Part {
  double ce, kl;  // means over passes, and over pairs of passes
  UnitError error;
  int32_t counted, correct;
};

// The sums of a call on a device, all of them f64: what LossParts::device_sums holds.
struct DeviceSums {
  double ce, kl, valid, correct;            // LossSums
  double divisor;                           // what ce and kl were divided by
  double error, unit, pass, index, value;   // the first UnitError
  double op_number, classes, ignore_index;  // what its message needs (loss.cpp)
};

// The sizes and options of a call.
struct Problem {
  int64_t passes = 1, units = 0, classes = 1;
  double alpha = 0;             // >= 0, in the units of the paper's Eq. 4
  double divisor = 1;           // counted units of the whole optimizer step; 0: those that a device counts
  double label_smoothing = 0;   // in [0, 1]; of the cross-entropy only
  int64_t ignore_index = -100;  // a unit with this target does not count
  // Set in a recorded step: where its alpha and divisor are, of which those above are multiples.
  const StepScalars* alpha_of = nullptr;
  const StepScalars* divisor_of = nullptr;

  constexpr double current_alpha() const { return alpha_of ? alpha * alpha_of->alpha : alpha; }
  constexpr double current_divisor(const DeviceSums* sums) const {
    return divisor == 0 ? sums->divisor : divisor_of ? divisor * divisor_of->divisor : divisor;
  }
};

// Units whose loss and gradient are computed, all of a call's or some.
template <class T, class Target> struct Units {
  Problem problem;       // of these units
  PassView<const T> x;   // logits; of regression predictions
  PassView<T> grad;      // like x, receives dL/dx; null data: the value alone
  const Target* target;  // [units]: a class; of regression a value
  const uint8_t* valid;  // [units], 0 = does not count; null: all count
  // What errors call the first of these units; on the CPU also what they call each, where some are left out.
  int64_t first = 0;
  const int64_t* numbers = nullptr;
  // On a device:
  DeviceSums* sums = nullptr;  // divisor, if it was counted
  Part* parts = nullptr;       // one for each unit; of regression for each kPartUnits
};
template <class T> using CrossEntropyUnits = Units<T, int64_t>;
template <class T> using MseUnits = Units<T, T>;
inline constexpr int64_t kPartUnits = 256;

// On a device, before: fills the sums with the number of units that count, and the first label that is no
// class.
struct CountUnits {
  Problem problem;
  const int64_t* target;  // null: there are no labels
  const uint8_t* valid;
  double op_number;
  DeviceSums* sums;
};

// On a device, afterwards: adds the parts in their order and fills the sums and the loss.
struct FinishLoss {
  Problem problem;
  const Part* parts;
  int64_t part_count;
  double op_number;
  double copies;  // passes for which one pass of the logits stands, for `correct`
  DeviceSums* sums;
  float* loss;  // one of the two
  double* wide_loss;
};

}  // namespace tandem::rdrop
