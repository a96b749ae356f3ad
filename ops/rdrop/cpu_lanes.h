// The R-Drop cross-entropy on the CPU where classes are few: sixteen units at a time, one in each lane of the
// vectors, since rows of ten classes would not fill one. Steps, formulas and notation are those of
// cpu_unit.h and cpu_blocks.h.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/rdrop/cpu_blocks.h"
#include "ops/rdrop/kernel.h"

namespace tandem::rdrop {

template <class T> class CrossEntropyLanes {
  using C = compute_t<T>;

 public:
  static constexpr int kLanes = 16;
  // Whether this is the faster way: as measured, and while all of a group stays in the first level cache.
  static bool suits(const Problem& problem) {
    return problem.classes <= 48 && problem.passes * problem.classes <= 256;
  }

  explicit CrossEntropyLanes(const CrossEntropyUnits<T>& units)
      : units_(units),
        m_(units.problem.passes),
        v_(units.problem.classes),
        z_(m_ * v_),
        e_(m_ * v_),
        passes_(m_) {}

  // Adds the loss of `count` <= kLanes units that count to `part` and writes their gradient. False, with
  // nothing done, if a logit is not finite.
  bool run(const int64_t* units, int64_t count, Part& part) {
    for (int k = 0; k < kLanes; ++k) unit_[k] = units[k < count ? k : 0];
    if (!read_statistics()) return false;
    combine(count, part);
    kl_and_gradient(count, part);
    if (units_.grad.data != nullptr) write_gradient(count);
    return true;
  }

 private:
  struct alignas(64) Lanes {
    C value[kLanes];
    C& operator[](int k) { return value[k]; }
  };
  struct Pass {
    Lanes max, sum, inner, total, offset, scale, p_weight;
    int32_t first[kLanes];  // of the largest logits
  };
  Lanes& z(int64_t pass, int64_t c) { return z_[c * m_ + pass]; }
  Lanes& e(int64_t pass, int64_t c) { return e_[c * m_ + pass]; }

  bool read_statistics() {
    C unordered = 0;  // 0, or NaN
    for (int64_t i = 0; i < m_; ++i) {
      for (int k = 0; k < kLanes; ++k) {
        const T* row = units_.x.row(i, unit_[k]);
        for (int64_t c = 0; c < v_; ++c) z(i, c)[k] = row[c];
      }
      Pass& p = passes_[i];
      p = {};
      std::fill_n(p.max.value, kLanes, std::numeric_limits<C>::lowest());
      for (int64_t c = 0; c < v_; ++c) {
        Lanes& z_c = z(i, c);
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) {
          const bool larger = z_c[k] > p.max[k];
          p.first[k] = larger ? static_cast<int32_t>(c) : p.first[k];
          p.max[k] = larger ? z_c[k] : p.max[k];
          p.total[k] += z_c[k];
        }
      }
      for (int k = 0; k < kLanes; ++k) unordered += p.total[k] * 0;
    }
    if (unordered != 0) return false;
    const C share = C(1) / C(m_);
    for (int64_t c = 0; c < v_; ++c) {
      Lanes mean = {};
      for (int64_t i = 0; i < m_; ++i) {
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) mean[k] += (z(i, c)[k] - passes_[i].max[k]) * share;
      }
      for (int64_t i = 0; i < m_; ++i) {
        Pass& p = passes_[i];
        Lanes &z_c = z(i, c), &e_c = e(i, c);
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) {
          const C x = z_c[k] - p.max[k], y = exp_nonpositive(x);
          e_c[k] = y;
          p.sum[k] += y;
          p.inner[k] += y * (x - mean[k]);
        }
      }
    }
    return true;
  }

  void combine(int64_t count, Part& part) {
    const Problem& problem = units_.problem;
    const double share = 1 / double(m_), ce_weight = share / problem.divisor, s = problem.label_smoothing;
    const double kl_weight = m_ > 1 ? problem.alpha / (2 * double(m_ - 1) * problem.divisor) : 0;
    kl_weight_ = C(kl_weight);
    smoothing_ = C(ce_weight * s / double(v_));
    std::array<double, kLanes> mean_log{}, log_first{};
    for (int64_t i = 0; i < m_; ++i) {
      Pass& p = passes_[i];
      for (int k = 0; k < kLanes; ++k) {
        const double log_sum = std::log(double(p.sum[k])), max = p.max[k];
        mean_log[k] += share * log_sum;
        if (i == 0) log_first[k] = log_sum;
        p.offset[k] = C((max - double(passes_[0].max[k])) + (log_sum - log_first[k]));
        p.scale[k] = C(1) / p.sum[k];
        p.p_weight[k] = C(log_sum);  // until its mean is known
        if (k >= count) continue;
        const int64_t label = units_.target[unit_[k]];
        double ce = (1 - s) * (log_sum + (max - double(z(i, label)[k])));
        if (s > 0) ce += s * (log_sum + (max - double(p.total[k]) / double(v_)));
        part.ce += share * ce;
        part.correct += p.first[k] == label;
      }
    }
    for (Pass& p : passes_) {
      for (int k = 0; k < kLanes; ++k) {
        const double inner =
            m_ > 1 ? double(p.inner[k] * p.scale[k]) - (double(p.p_weight[k]) - mean_log[k]) : 0;
        p.p_weight[k] = C(ce_weight + kl_weight * (1 - inner));
      }
    }
  }

  void kl_and_gradient(int64_t count, Part& part) {
    Lanes kl = {};
    const C share = C(1) / C(m_), weight = kl_weight_, smoothing = smoothing_;
    Pass& first = passes_[0];
    for (int64_t c = 0; c < v_; ++c) {
      Lanes mean_t = {}, mean_p = {}, mean_difference = {}, products = {};
      Lanes &z_0 = z(0, c), &e_0 = e(0, c);
      for (int64_t i = 0; i < m_; ++i) {
        Pass& p = passes_[i];
        Lanes &z_c = z(i, c), &e_c = e(i, c);
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) {
          const C probability = e_c[k] * p.scale[k], t = (z_c[k] - z_0[k]) - p.offset[k];
          const C difference = probability_difference(probability, e_0[k] * first.scale[k], t);
          mean_t[k] += t * share, mean_p[k] += probability * share;
          mean_difference[k] += difference * share, products[k] += difference * t;
        }
      }
      // Backwards: pass 0 is what the others are held against.
      for (int64_t i = m_; i-- > 0;) {
        Pass& p = passes_[i];
        Lanes &z_c = z(i, c), &e_c = e(i, c);
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) {
          const C d = ((z_c[k] - z_0[k]) - p.offset[k]) - mean_t[k];
          e_c[k] = e_c[k] * p.scale[k] * (p.p_weight[k] + weight * d) - (weight * mean_p[k] + smoothing);
        }
      }
#pragma omp simd
      for (int k = 0; k < kLanes; ++k) kl[k] += products[k] - C(m_) * mean_difference[k] * mean_t[k];
    }
    if (m_ > 1)
      for (int k = 0; k < count; ++k) part.kl += double(kl[k]) / double(m_ - 1);
  }

  void write_gradient(int64_t count) {
    const Problem& problem = units_.problem;
    const C label_weight = C((1 - problem.label_smoothing) / (double(m_) * problem.divisor));
    for (int64_t i = 0; i < m_; ++i) {
      for (int k = 0; k < count; ++k) {
        e(i, units_.target[unit_[k]])[k] -= label_weight;
        T* out = units_.grad.row(i, unit_[k]);
        for (int64_t c = 0; c < v_; ++c) out[c] = e(i, c)[k];
      }
    }
  }

  const CrossEntropyUnits<T>& units_;
  int64_t m_, v_;
  std::array<int64_t, kLanes> unit_{};
  std::vector<Lanes> z_, e_;  // of each class and pass; the gradient goes where the exponentials were
  std::vector<Pass> passes_;
  C kl_weight_ = 0, smoothing_ = 0;
};

}  // namespace tandem::rdrop
