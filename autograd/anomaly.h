// Where a number that is not finite comes from: torch.autograd.detect_anomaly(), and of outputs, too.
// Example:
//
//   Tensor x = tensor({1, -1}).requires_grad_();
//   try {
//     const DetectAnomalyGuard guard;
//     sqrt(x).sum().backward();
//   } catch (const NonFiniteError& error) {
//     fmt::print("{}\n", error.what());  // sqrt made nan in 1 of 2 elements of f32[2], of none in its inputs
//   }
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "autograd/tensor.h"

namespace tandem {

// While it lives, what every op of this thread makes is looked through, forward and backward; a device is
// waited for at each. NonFiniteError at the first NaN, naming the op that made the first infinity, if there
// was one, then the op that made the NaN, and the modules that they ran in (of a backward: in which the
// forward ran, if that was within the guard). An infinity alone is no error, since masks have them.
class DetectAnomalyGuard {
 public:
  [[nodiscard("it acts while it lives: give it a name")]] DetectAnomalyGuard();
  ~DetectAnomalyGuard();
  DetectAnomalyGuard(const DetectAnomalyGuard&) = delete;
  DetectAnomalyGuard& operator=(const DetectAnomalyGuard&) = delete;

  // Which op made an infinity of finite numbers first, and in which module; "" where none did.
  const std::string& first_infinity() const { return first_infinity_; }

 private:
  friend class AnomalyCheck;
  std::string first_infinity_;
  std::unordered_map<uint64_t, std::string> modules_;  // by the sequence numbers of the ops that ran in them
  DetectAnomalyGuard* outer_;
};

// Used by record() and the engine: one run of one op. The ops that it calls are not looked at: their numbers
// are its own affair.
class AnomalyCheck {
 public:
  AnomalyCheck();
  ~AnomalyCheck() {
    if (guard_) [[unlikely]]
      go_on();
  }
  AnomalyCheck(const AnomalyCheck&) = delete;
  AnomalyCheck& operator=(const AnomalyCheck&) = delete;

  // NonFiniteError as of DetectAnomalyGuard.
  void forward(const char* op, const Tensors& inputs, const Tensor& output) const {
    if (guard_) [[unlikely]]
      check_forward(op, inputs, output);
  }
  // The op got this number on the tape.
  void recorded(uint64_t sequence) const {
    if (guard_) [[unlikely]]
      remember(sequence);
  }
  // The same of the cotangents that the op made of `gradient`.
  void backward(const Op& op, uint64_t sequence, const Tensor& gradient, const Tensors& cotangents) const {
    if (guard_) [[unlikely]]
      check_backward(op, sequence, gradient, cotangents);
  }

 private:
  void go_on() noexcept;
  void check_forward(const char* op, const Tensors& inputs, const Tensor& output) const;
  void remember(uint64_t sequence) const;
  void check_backward(const Op& op, uint64_t sequence, const Tensor& gradient,
                      const Tensors& cotangents) const;

  DetectAnomalyGuard* guard_;
};

// How many elements of a tensor, of all its passes, are NaN and infinite; 0 of a dtype that has none.
struct NonFinite {
  int64_t nan = 0, infinite = 0;  // how many
  // "nan" where there is one, "inf", or "" where all are finite.
  const char* worst() const { return nan > 0 ? "nan" : infinite > 0 ? "inf" : ""; }
};
NonFinite count_non_finite(const Tensor& x);  // waits for the device

}  // namespace tandem
