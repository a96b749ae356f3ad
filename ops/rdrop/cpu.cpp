#include "ops/rdrop/cpu.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "autograd/error.h"
#include "autograd/parallel.h"
#include "ops/rdrop/cpu_unit.h"

namespace tandem::detail {
namespace {

constexpr const char* kCrossEntropy = "rdrop_cross_entropy";
constexpr const char* kMse = "rdrop_mse";

void check_options(const char* op, const RDropRows& rows) {
  check<ValueError>(rows.passes >= 1, "{}: passes is {}, expected >= 1", op, rows.passes);
  check<ValueError>(rows.units >= 0, "{}: units is {}, expected >= 0", op, rows.units);
  check<ValueError>(rows.alpha >= 0 && std::isfinite(rows.alpha),
                    "{}: alpha is {}, expected a finite value >= 0", op, rows.alpha);
}
void check_divisor(const char* op, const RDropRows& rows) {
  check<ValueError>(rows.divisor > 0 && std::isfinite(rows.divisor),
                    "{}: divisor is {}, expected a finite value > 0", op, rows.divisor);
}

// Sums of the chunks, in their order.
RDropSums combine(const std::vector<RDropChunk>& chunks, int64_t valid, double divisor) {
  RDropSums sums{.valid = valid};
  for (const RDropChunk& chunk : chunks) {
    if (chunk.fault) chunk.fault->raise_error(RDropCaller::rdrop_cross_entropy);
    sums.fit += chunk.fit;
    sums.distance += chunk.distance;
    sums.correct += chunk.correct;
  }
  if (valid == 0) return sums;
  sums.fit /= divisor;
  sums.distance /= divisor;
  return sums;
}

}  // namespace

template <class T>
RDropSums rdrop_cross_entropy_rows(const RDropRows& rows, PassRows<const T> logits, PassRows<T> grad,
                                   const int64_t* target, const uint8_t* valid) {
  check_options(kCrossEntropy, rows);
  check<ValueError>(rows.classes >= 1, "{}: classes is {}, expected >= 1", kCrossEntropy, rows.classes);
  check<ValueError>(rows.label_smoothing >= 0 && rows.label_smoothing <= 1,
                    "{}: label_smoothing is {}, expected a value in [0, 1]", kCrossEntropy,
                    rows.label_smoothing);
  const RDropTask<T> task{rows, logits, grad, target, valid};
  int64_t counted = 0;
  for (int64_t u = 0; u < rows.units; ++u) {
    if (!task.counted(u)) continue;
    ++counted;
    if (target[u] >= 0 && target[u] < rows.classes) continue;
    RDropFault{.error = RDropError::label, .unit = u, .value = static_cast<double>(target[u])}.raise_error(
        RDropCaller::rdrop_cross_entropy, rows.classes, rows.ignore_index);
  }
  if (counted > 0) check_divisor(kCrossEntropy, rows);

  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 18) / (rows.passes * rows.classes));
  std::vector<RDropChunk> chunks((rows.units + grain - 1) / grain);
  parallel_for(rows.units, grain, [&](int64_t begin, int64_t end) {
    RDropWorker<T> worker(task);
    RDropChunk& sums = chunks[begin / grain];
    for (int64_t u = begin; u < end && !sums.fault; ++u) {
      if (task.counted(u)) {
        sums.fault = worker.run(u, sums);
      } else if (grad.data != nullptr) {
        for (int64_t i = 0; i < rows.passes; ++i) std::fill_n(grad.row(i, u), rows.classes, T(0));
      }
    }
  });
  return combine(chunks, counted, rows.divisor);
}

template <class T>
RDropSums rdrop_mse_rows(const RDropRows& rows, PassRows<const T> y, PassRows<T> grad, const T* target,
                         const uint8_t* valid) {
  check_options(kMse, rows);
  const int64_t m = rows.passes;
  int64_t counted = 0;
  for (int64_t u = 0; u < rows.units; ++u) {
    if (valid != nullptr && valid[u] == 0) continue;
    ++counted;
    const auto look = [u](RDropError error, int64_t pass, double value) {
      if (!std::isfinite(value)) RDropFault{error, u, pass, 0, value}.raise_error(RDropCaller::rdrop_mse);
    };
    look(RDropError::target_number, 0, double(target[u]));
    for (int64_t i = 0; i < m; ++i) look(RDropError::prediction, i, double(*y.row(i, u)));
  }
  if (counted > 0) check_divisor(kMse, rows);

  const double fit_weight = 2 / (double(m) * rows.divisor);
  const double weight = m > 1 ? 2 * rows.alpha / (double(m - 1) * rows.divisor) : 0;
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / m);
  std::vector<RDropChunk> chunks((rows.units + grain - 1) / grain);
  parallel_for(rows.units, grain, [&](int64_t begin, int64_t end) {
    RDropChunk& sums = chunks[begin / grain];
    for (int64_t u = begin; u < end; ++u) {
      const bool counts = valid == nullptr || valid[u] != 0;
      double mean = 0, fit = 0, spread = 0;
      for (int64_t i = 0; counts && i < m; ++i) mean += double(*y.row(i, u)) / double(m);
      for (int64_t i = 0; i < m; ++i) {
        T out = 0;
        if (counts) {
          const double value = *y.row(i, u), error = value - double(target[u]), deviation = value - mean;
          fit += error * error;
          spread += deviation * deviation;
          out = T(fit_weight * error + weight * deviation);
        }
        if (grad.data != nullptr) *grad.row(i, u) = out;
      }
      sums.fit += fit / double(m);
      if (m > 1) sums.distance += 2 * spread / double(m - 1);
    }
  });
  return combine(chunks, counted, rows.divisor);
}

template RDropSums rdrop_cross_entropy_rows(const RDropRows&, PassRows<const bf16>, PassRows<bf16>,
                                            const int64_t*, const uint8_t*);
template RDropSums rdrop_cross_entropy_rows(const RDropRows&, PassRows<const float>, PassRows<float>,
                                            const int64_t*, const uint8_t*);
template RDropSums rdrop_cross_entropy_rows(const RDropRows&, PassRows<const double>, PassRows<double>,
                                            const int64_t*, const uint8_t*);
template RDropSums rdrop_mse_rows(const RDropRows&, PassRows<const bf16>, PassRows<bf16>, const bf16*,
                                  const uint8_t*);
template RDropSums rdrop_mse_rows(const RDropRows&, PassRows<const float>, PassRows<float>, const float*,
                                  const uint8_t*);
template RDropSums rdrop_mse_rows(const RDropRows&, PassRows<const double>, PassRows<double>, const double*,
                                  const uint8_t*);

}  // namespace tandem::detail
