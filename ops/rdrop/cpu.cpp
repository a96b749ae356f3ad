#include "ops/rdrop/cpu.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "autograd/error.h"
#include "autograd/parallel.h"
#include "ops/rdrop/cpu_lanes.h"
#include "ops/rdrop/cpu_unit.h"
#include "ops/rdrop/inputs.h"

namespace tandem::rdrop {
namespace {

constexpr const char* kCrossEntropy = "rdrop_cross_entropy";
constexpr const char* kMse = "rdrop_mse";

void check_problem(const char* op, const Problem& problem) {
  check<ValueError>(problem.passes >= 1, "{}: passes is {}, expected >= 1", op, problem.passes);
  check<ValueError>(problem.units >= 0, "{}: units is {}, expected >= 0", op, problem.units);
  check<ValueError>(problem.alpha >= 0 && std::isfinite(problem.alpha),
                    "{}: alpha is {}, expected a finite value >= 0", op, problem.alpha);
}
void check_divisor(const char* op, const Problem& problem) {
  check<ValueError>(problem.divisor > 0 && std::isfinite(problem.divisor),
                    "{}: divisor is {}, expected a finite value > 0", op, problem.divisor);
}

// Units [begin, end) in groups of lanes; one by one where a group cannot, and where it would be small.
template <class T> void run_units(const CrossEntropyUnits<T>& units, int64_t begin, int64_t end, Part& part) {
  std::optional<CrossEntropyUnit<T>> single;
  const auto one_by_one = [&](const int64_t* which, int64_t count) {
    if (!single) single.emplace(units);
    for (int64_t k = 0; k < count && part.error.kind == ErrorKind::none; ++k) single->run(which[k], part);
  };
  if (!CrossEntropyLanes<T>::suits(units.problem)) {
    for (int64_t u = begin; u < end; ++u) one_by_one(&u, 1);
    return;
  }
  CrossEntropyLanes<T> lanes(units);
  std::array<int64_t, CrossEntropyLanes<T>::kLanes> group;
  size_t count = 0;
  for (int64_t u = begin; u < end; ++u) {
    if (counts(units, u)) {
      group[count++] = u;
    } else {
      one_by_one(&u, 1);
    }
    if (count < group.size() && (count == 0 || u + 1 < end)) continue;
    if (!lanes.run(group.data(), count, part)) one_by_one(group.data(), count);
    count = 0;
  }
}

// The parts of chunks, added in order and divided.
LossSums add_parts(const std::vector<Part>& parts, int64_t counted, double divisor) {
  LossSums sums{.valid = counted};
  for (const Part& part : parts) {
    if (part.error.kind != ErrorKind::none) raise_error(part.error, kCrossEntropy);
    sums.ce += part.ce;
    sums.kl += part.kl;
    sums.correct += part.correct;
  }
  if (counted == 0) return sums;
  sums.ce /= divisor;
  sums.kl /= divisor;
  return sums;
}

}  // namespace

template <class T> LossSums cross_entropy_on_cpu(const CrossEntropyUnits<T>& units) {
  const Problem& problem = units.problem;
  check_problem(kCrossEntropy, problem);
  check<ValueError>(problem.classes >= 1, "{}: classes is {}, expected >= 1", kCrossEntropy, problem.classes);
  check<ValueError>(problem.label_smoothing >= 0 && problem.label_smoothing <= 1,
                    "{}: label_smoothing is {}, expected a value in [0, 1]", kCrossEntropy,
                    problem.label_smoothing);
  const int64_t counted = count_labels(kCrossEntropy, problem, units.target, units.valid);
  if (counted > 0) check_divisor(kCrossEntropy, problem);

  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 18) / (problem.passes * problem.classes));
  std::vector<Part> parts((problem.units + grain - 1) / grain);
  parallel_for(problem.units, grain,
               [&](int64_t begin, int64_t end) { run_units(units, begin, end, parts[begin / grain]); });
  for (Part& part : parts) {
    int64_t& unit = part.error.unit;
    if (part.error.kind != ErrorKind::none) unit = units.numbers ? units.numbers[unit] : units.first + unit;
  }
  return add_parts(parts, counted, problem.divisor);
}

template <class T> LossSums mse_on_cpu(const MseUnits<T>& units) {
  const Problem& problem = units.problem;
  const PassView<const T> y = units.x;
  const PassView<T> grad = units.grad;
  const T* target = units.target;
  const uint8_t* valid = units.valid;
  check_problem(kMse, problem);
  const int64_t m = problem.passes;
  int64_t counted = 0;
  for (int64_t u = 0; u < problem.units; ++u) {
    if (valid != nullptr && valid[u] == 0) continue;
    ++counted;
    const auto look = [u](ErrorKind kind, int64_t pass, double value) {
      if (!std::isfinite(value)) raise_error({value, u, 0, static_cast<int32_t>(pass), kind}, kMse);
    };
    look(ErrorKind::target_number, 0, double(target[u]));
    for (int64_t i = 0; i < m; ++i) look(ErrorKind::prediction, i, double(*y.row(i, u)));
  }
  if (counted > 0) check_divisor(kMse, problem);

  const double ce_weight = 2 / (double(m) * problem.divisor);
  const double kl_weight = m > 1 ? 2 * problem.alpha / (double(m - 1) * problem.divisor) : 0;
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / m);
  std::vector<Part> parts((problem.units + grain - 1) / grain);
  parallel_for(problem.units, grain, [&](int64_t begin, int64_t end) {
    Part& part = parts[begin / grain];
    for (int64_t u = begin; u < end; ++u) {
      const bool counts = valid == nullptr || valid[u] != 0;
      double mean = 0, squares = 0, spread = 0;
      for (int64_t i = 0; counts && i < m; ++i) mean += double(*y.row(i, u)) / double(m);
      for (int64_t i = 0; i < m; ++i) {
        T gradient = 0;
        if (counts) {
          const double value = *y.row(i, u), error = value - double(target[u]), deviation = value - mean;
          squares += error * error;
          spread += deviation * deviation;
          gradient = T(ce_weight * error + kl_weight * deviation);
        }
        if (grad.data != nullptr) *grad.row(i, u) = gradient;
      }
      part.ce += squares / double(m);
      if (m > 1) part.kl += 2 * spread / double(m - 1);
    }
  });
  return add_parts(parts, counted, problem.divisor);
}

template LossSums cross_entropy_on_cpu(const CrossEntropyUnits<bf16>&);
template LossSums cross_entropy_on_cpu(const CrossEntropyUnits<float>&);
template LossSums cross_entropy_on_cpu(const CrossEntropyUnits<double>&);
template LossSums mse_on_cpu(const MseUnits<bf16>&);
template LossSums mse_on_cpu(const MseUnits<float>&);
template LossSums mse_on_cpu(const MseUnits<double>&);

}  // namespace tandem::rdrop
