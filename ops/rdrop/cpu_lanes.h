// The R-Drop cross-entropy on the CPU where classes are few: sixteen units at a time, one in each lane of the
// vectors, since rows of ten classes would not fill one. Steps, formulas and notation are those of
// cpu_unit.h and cpu_blocks.h.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "ops/products/tile_gemm.h"
#include "ops/rdrop/cpu_blocks.h"
#include "ops/rdrop/kernel.h"

namespace tandem::rdrop {

// log(x) of a normal number x > 0 but for 1e-15, of the result where that is larger than 1: in plain
// arithmetic, so that loops vectorise, which the library's is not.
[[gnu::always_inline]] inline double plain_log(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x),
                 field = bits - std::bit_cast<uint64_t>(0.7071067811865476);
  // 2^52 + an exponent is a double whose low bits are the exponent's.
  constexpr uint64_t one = 1023, shifter = std::bit_cast<uint64_t>(0x1p52);
  const double exponent = std::bit_cast<double>((field + (one << 52)) >> 52 | shifter) - (0x1p52 + 1023);
  const double part = std::bit_cast<double>(bits - (field & (uint64_t{0xfff} << 52)));  // in [0.707, 1.414)
  const double s = (part - 1) / (part + 1), y = s * s;  // log(part) = 2 artanh(s)
  const double series =
      y * (1. / 3 +
           y * (1. / 5 +
                y * (1. / 7 + y * (1. / 9 + y * (1. / 11 + y * (1. / 13 + y * (1. / 15 + y * (1. / 17))))))));
  return exponent * 0.6931471805599453 + 2 * (s + s * series);
}

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
        rows_(std::make_unique_for_overwrite<Lanes[]>((2 * m_ + 1) * v_)),
        passes_(m_) {}

  // Adds the loss of `count` <= kLanes units that count to `part` and writes their gradient. False, with
  // nothing done, if a logit is not finite.
  bool run(const int64_t* units, int64_t count, Part& part) {
    for (int k = 0; k < kLanes; ++k) unit_[k] = units[k < count ? k : 0];
    if (!read_statistics()) return false;
    combine(count, part);
    const bool clear = std::all_of(kl_, kl_ + kLanes, [](double kl) { return kl >= kClearKl; });
    clear ? gradient<false>() : gradient<true>();
    if (m_ > 1)
      for (int k = 0; k < count; ++k) part.kl += kl_[k] / double(m_ - 1);
    if (units_.grad.data != nullptr) write_gradient(count);
    return true;
  }

 private:
  struct alignas(64) Lanes {
    C value[kLanes];
    C& operator[](int k) { return value[k]; }
  };
  struct alignas(64) Pass {
    Lanes max, sum, inner, total, offset, scale, p_weight;
    double log_sum[kLanes];
  };
  // Of each class: logits, then t; exponentials, then the gradient; the mean over passes of t.
  Lanes* t(int64_t pass) { return rows_.get() + pass * v_; }
  Lanes* e(int64_t pass) { return rows_.get() + (m_ + pass) * v_; }
  Lanes* mean() { return rows_.get() + 2 * m_ * v_; }

  bool read_statistics() {
    C unordered = 0;  // 0, or NaN
    for (int64_t i = 0; i < m_; ++i) {
      Lanes* z = t(i);
      read_rows(i, z);
      Lanes max, total = {};
      std::fill_n(max.value, kLanes, std::numeric_limits<C>::lowest());
      for (int64_t c = 0; c < v_; ++c) {
        Lanes& z_c = z[c];
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) {
          max[k] = z_c[k] > max[k] ? z_c[k] : max[k];
          total[k] += z_c[k];
        }
      }
      for (int k = 0; k < kLanes; ++k) unordered += total[k] * 0;
      passes_[i].max = max, passes_[i].total = total;
    }
    if (unordered != 0) return false;
    const C share = C(1) / C(m_);
    Lanes* sums = mean();
    std::fill_n(sums->value, v_ * kLanes, C(0));
    // Backwards: pass 0 is what the others are held against.
    for (int64_t i = m_; i-- > 0;) {
      Lanes *z = t(i), *z0 = t(0), *exponentials = e(i);
      Lanes max = passes_[i].max, shift, sum = {};
      for (int k = 0; k < kLanes; ++k) shift[k] = max[k] - passes_[0].max[k];
      for (int64_t c = 0; c < v_; ++c) {
        Lanes &z_c = z[c], &first = z0[c], &e_c = exponentials[c], &mean_c = sums[c];
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) {
          const C value = z_c[k], y = exp_nonpositive(value - max[k]),
                  from_first = (value - first[k]) - shift[k];
          e_c[k] = y;
          sum[k] += y;
          z_c[k] = from_first;
          mean_c[k] += from_first * share;
        }
      }
      passes_[i].sum = sum;
    }
    for (int64_t i = 0; i < m_; ++i) {
      Lanes *from_first = t(i), *exponentials = e(i), inner = {};
      for (int64_t c = 0; c < v_; ++c) {
        Lanes &t_c = from_first[c], &e_c = exponentials[c], &mean_c = sums[c];
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) inner[k] += e_c[k] * (t_c[k] - mean_c[k]);
      }
      passes_[i].inner = inner;
    }
    return true;
  }

  void combine(int64_t count, Part& part) {
    const Problem& problem = units_.problem;
    const double share = 1 / double(m_), ce_weight = share / problem.divisor, s = problem.label_smoothing;
    const double kl_weight = m_ > 1 ? problem.alpha / (2 * double(m_ - 1) * problem.divisor) : 0;
    kl_weight_ = C(kl_weight);
    smoothing_ = C(ce_weight * s / double(v_));
    double mean_offset[kLanes] = {};
    std::fill_n(kl_, kLanes, 0.0);
    for (Pass& p : passes_) {
      const Pass& first = passes_[0];
#pragma omp simd
      for (int k = 0; k < kLanes; ++k) {
        p.log_sum[k] = plain_log(double(p.sum.value[k]));
        mean_offset[k] += share * (p.log_sum[k] - first.log_sum[k]);
      }
    }
    for (int k = 0; k < kLanes; ++k) mean_offset_[k] = C(mean_offset[k]);
    for (Pass& p : passes_) {
      const Pass& first = passes_[0];
#pragma omp simd
      for (int k = 0; k < kLanes; ++k) {
        const double offset = p.log_sum[k] - first.log_sum[k];
        p.offset.value[k] = C(offset);
        p.scale.value[k] = C(1) / p.sum.value[k];
        const double inner = double(p.inner.value[k] * p.scale.value[k]) - (offset - mean_offset[k]);
        kl_[k] += inner;
        p.p_weight.value[k] = C(ce_weight + (kl_weight > 0 ? kl_weight * (1 - inner) : 0));
      }
    }
    for (int64_t i = 0; i < m_; ++i) {
      const Pass& p = passes_[i];
      for (int k = 0; k < count; ++k) {
        const int64_t label = units_.target[unit_[k]];
        const T* row = units_.x.row(i, unit_[k]);
        const double base = p.log_sum[k] + double(p.max.value[k]);
        double ce = base - double(row[label]);
        if (s > 0) ce = (1 - s) * ce + s * (base - double(p.total.value[k]) / double(v_));
        part.ce += share * ce;
        part.correct += is_first(row, label, p.max.value[k]);
      }
    }
  }

  // In place of the exponentials; and, where they are small, KLs.
  template <bool kKl> void gradient() {
    if (!kKl && units_.grad.data == nullptr) return;
    Lanes kl = {};
    const C weight = kl_weight_, mean_weight = kl_weight_ / C(m_), smoothing = smoothing_;
    Lanes& mean_offset = mean_offset_;
    Pass& first = passes_[0];
    for (int64_t c = 0; c < v_; ++c) {
      Lanes common, p0, mean_t;
      Lanes &mean_c = mean()[c], &e_0 = e(0)[c];
#pragma omp simd
      for (int k = 0; k < kLanes; ++k) {
        common[k] = smoothing;
        p0[k] = e_0[k] * first.scale[k];
        mean_t[k] = mean_c[k] - mean_offset[k];
      }
      for (int64_t i = 0; i < m_; ++i) {
        Pass& p = passes_[i];
        Lanes &t_c = t(i)[c], &e_c = e(i)[c];
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) {
          const C probability = e_c[k] * p.scale[k], from_first = t_c[k] - p.offset[k],
                  d = from_first - mean_t[k];
          if (kKl) kl[k] += probability_difference(probability, p0[k], from_first) * d;
          common[k] += mean_weight * probability;
          e_c[k] = probability * (p.p_weight[k] + weight * d);
        }
      }
      for (int64_t i = 0; i < m_; ++i) {
        Lanes& e_c = e(i)[c];
#pragma omp simd
        for (int k = 0; k < kLanes; ++k) e_c[k] -= common[k];
      }
    }
    for (int k = 0; kKl && k < kLanes; ++k)
      if (kl_[k] < kClearKl) kl_[k] = kl[k];
  }

  void write_gradient(int64_t count) {
    const Problem& problem = units_.problem;
    const C label_weight = C((1 - problem.label_smoothing) / (double(m_) * problem.divisor));
    for (int64_t i = 0; i < m_; ++i) {
      Lanes* gradient = e(i);
      for (int k = 0; k < count; ++k) gradient[units_.target[unit_[k]]][k] -= label_weight;
      if constexpr (std::is_same_v<T, C>) {
        if (neighbours() && units_.grad.unit_stride == v_) {
          detail::tile_transpose(v_, kLanes, gradient->value, kLanes, C(1), units_.grad.row(i, unit_[0]), v_);
          continue;
        }
      }
      for (int k = 0; k < count; ++k) {
        T* out = units_.grad.row(i, unit_[k]);
        for (int64_t c = 0; c < v_; ++c) out[c] = gradient[c][k];
      }
    }
  }

  // Whether the lanes' units follow one another: then small squares of them are transposed in registers.
  bool neighbours() const { return unit_[kLanes - 1] - unit_[0] == kLanes - 1; }
  void read_rows(int64_t pass, Lanes* z) const {
    if constexpr (std::is_same_v<T, C>) {
      if (neighbours())
        return detail::tile_transpose(kLanes, v_, units_.x.row(pass, unit_[0]), units_.x.unit_stride, C(1),
                                      z->value, kLanes);
    }
    for (int k = 0; k < kLanes; ++k) {
      const T* row = units_.x.row(pass, unit_[k]);
      for (int64_t c = 0; c < v_; ++c) z[c][k] = row[c];
    }
  }

  const CrossEntropyUnits<T>& units_;
  int64_t m_, v_;
  std::array<int64_t, kLanes> unit_{};
  std::unique_ptr<Lanes[]> rows_;
  std::vector<Pass> passes_;
  Lanes mean_offset_ = {};
  double kl_[kLanes] = {};  // over pairs of passes, but for a factor
  C kl_weight_ = 0, smoothing_ = 0;
};

}  // namespace tandem::rdrop
