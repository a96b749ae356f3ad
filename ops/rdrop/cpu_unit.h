// One unit of the R-Drop cross-entropy on the CPU: the steps around the loops of cpu_blocks.h, where the
// formulas and the notation are. Memory is read once: what follows is in the caches.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "ops/rdrop/cpu_blocks.h"
#include "ops/rdrop/kernel.h"

namespace tandem::rdrop {

template <class T> bool counts(const CrossEntropyUnits<T>& units, int64_t unit) {
  return (units.valid == nullptr || units.valid[unit] != 0) &&
         units.target[unit] != units.problem.ignore_index;
}

// Scratch for a unit, used for one after another, and the steps.
template <class T> class CrossEntropyUnit {
  using C = compute_t<T>;
  static constexpr bool kNarrow = !std::is_same_v<T, C>;
  static constexpr int64_t kLine = 64 / sizeof(T);

 public:
  explicit CrossEntropyUnit(const CrossEntropyUnits<T>& units)
      : units_(units),
        m_(units.problem.passes),
        v_(units.problem.classes),
        blocks_((v_ + kBlockSize - 1) / kBlockSize),
        z_(m_),
        e_(m_),
        g_(m_),
        max_(m_),
        offset_(m_),
        p_weight_(m_),
        scratch_(m_ > 4 ? 2 * m_ * kBlockSize : 0),
        block_max_(m_ * blocks_),
        block_shift_(m_ * blocks_),
        block_sum_(m_ * blocks_),
        block_inner_(m_ * blocks_),
        block_scale_(m_ * blocks_),
        sum_(m_),
        log_sum_(m_),
        inner_(m_),
        total_(m_) {}

  // Adds the unit's loss to `part`, or what is wrong with it; writes its gradient.
  void run(int64_t unit, Part& part) {
    const bool gradient = units_.grad.data != nullptr;
    const int64_t label = units_.target[unit];
    if (!counts(units_, unit)) {
      for (int64_t i = 0; gradient && i < m_; ++i) std::fill_n(units_.grad.row(i, unit), v_, T(0));
      return;
    }
    kept_classes_ = v_;
    excluded_.clear();
    place(unit, gradient);
    if (!read_statistics(unit)) {
      part.error = exclude_classes(unit);
      if (part.error.kind != ErrorKind::none) return;
      statistics_of_copies();
    }
    combine_blocks(label, part);
    part.correct += correct(label);
    const double kl = kl_and_gradient(gradient);
    if (m_ > 1) part.kl += kl / double(m_ - 1);
    if (gradient) finish_gradient(unit, label);
  }

 private:
  C* row_of(std::unique_ptr<C[]>& scratch, int64_t pass) {
    if (!scratch) scratch = std::make_unique_for_overwrite<C[]>(m_ * v_);
    return scratch.get() + pass * v_;
  }
  C* copy(int64_t pass) { return row_of(z_copy_, pass); }

  // Where the exponentials and the gradient go: into the gradient's own rows where those are C and not the
  // logits.
  void place(int64_t unit, bool gradient) {
    const bool in_place = static_cast<const void*>(units_.grad.data) == units_.x.data;
    for (int64_t i = 0; i < m_; ++i) {
      if constexpr (!kNarrow) {
        z_[i] = units_.x.row(i, unit);
        g_[i] = gradient ? units_.grad.row(i, unit) : nullptr;
        e_[i] = gradient && !in_place ? g_[i] : row_of(e_scratch_, i);
      } else {
        z_[i] = copy(i);
        g_[i] = e_[i] = row_of(e_scratch_, i);
      }
    }
  }

  // Some logit is not finite: -inf in all passes leaves the class out, anything else is an error. Works on a
  // copy in which an excluded class has the same tiny, finite place in every pass: its probability comes out
  // as 0.
  UnitError exclude_classes(int64_t unit) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    const auto error = [unit](ErrorKind kind, int64_t pass, int64_t c, double value) {
      return UnitError{value, unit, c, static_cast<int32_t>(pass), kind};
    };
    const int64_t label = units_.target[unit];
    for (int64_t i = 0; i < m_; ++i) {
      int64_t finite = 0;
      for (int64_t c = 0; c < v_; ++c) {
        const double z = z_[i][c];
        if (std::isnan(z) || z == inf) return error(ErrorKind::logit, i, c, z);
        finite += z != -inf;
      }
      if (finite == 0) return error(ErrorKind::empty_row, i, v_ - 1, -inf);
      if (z_[i][label] == -inf) return error(ErrorKind::target_excluded, i, label, -inf);
    }
    for (int64_t c = 0; c < v_; ++c) {
      int64_t passes = 0, last = 0;
      for (int64_t i = 0; i < m_; ++i)
        if (z_[i][c] == -inf) ++passes, last = i;
      if (passes == m_)
        excluded_.push_back(c);
      else if (passes > 0)
        return error(ErrorKind::some_passes, last, c, -inf);
    }
    kept_classes_ = v_ - int64_t(excluded_.size());
    for (int64_t i = 0; i < m_; ++i) {
      C* z = copy(i);
      if (z != z_[i]) std::copy_n(z_[i], v_, z);
      z_[i] = z;
      for (int64_t c : excluded_) z[c] = std::numeric_limits<C>::lowest();
      const C top = *std::max_element(z, z + v_);
      for (int64_t c : excluded_) z[c] = 0;
      total_[i] = std::accumulate(z, z + v_, 0.0);
      for (int64_t c : excluded_) z[c] = top - (C(1e4) + std::abs(top) / 2);
    }
    return {};
  }

  // Passes whose prediction is right: the first of the largest logits is the label's.
  int32_t correct(int64_t label) const {
    int32_t count = 0;
    for (int64_t i = 0; i < m_; ++i)
      count += z_[i][label] == max_[i] && std::find(z_[i], z_[i] + label, max_[i]) == z_[i] + label;
    return count;
  }

  ClassBlock<C> block(int64_t b) {
    const int64_t begin = b * kBlockSize, at = b * m_;
    return {.passes = m_,
            .n = std::min(kBlockSize, v_ - begin),
            .z = z_.data(),
            .e = e_.data(),
            .g = g_.data(),
            .begin = begin,
            .max = &block_max_[at],
            .sum = &block_sum_[at],
            .inner = &block_inner_[at],
            .scale = &block_scale_[at],
            .offset = offset_.data(),
            .p_weight = p_weight_.data(),
            .kl_weight = kl_weight_,
            .smoothing = smoothing_,
            .scratch = scratch_.data()};
  }

  // Maxima, exponentials and their sums, block by block. False if a logit is not finite.
  bool read_statistics(int64_t unit) {
    std::fill(total_.begin(), total_.end(), 0.0);
    for (int64_t b = 0; b < blocks_; ++b) {
      const ClassBlock<C> classes = block(b);
      for (int64_t i = 0; i < m_; ++i) {
        const T* row = units_.x.row(i, unit);
        // One block ahead: reading stops at each block to compute, and hardware prefetchers lose the track.
        for (int64_t c = classes.begin + kBlockSize; c < std::min(classes.begin + 2 * kBlockSize, v_);
             c += kLine)
          __builtin_prefetch(row + c);
        C* wide = kNarrow ? copy(i) + classes.begin : nullptr;
        block_max_[b * m_ + i] = scan_block(row + classes.begin, wide, classes.n, total_[i]);
      }
      m_ == 2 ? exponentials_pair(classes) : exponentials_any(classes);
    }
    return std::all_of(total_.begin(), total_.end(), [](double total) { return std::isfinite(total); });
  }
  // The same of the copies that exclude_classes() made, which has their totals.
  void statistics_of_copies() {
    double unused = 0;
    for (int64_t b = 0; b < blocks_; ++b) {
      const ClassBlock<C> classes = block(b);
      for (int64_t i = 0; i < m_; ++i)
        block_max_[b * m_ + i] = scan_block<C, C>(z_[i] + classes.begin, nullptr, classes.n, unused);
      m_ == 2 ? exponentials_pair(classes) : exponentials_any(classes);
    }
  }

  // From the blocks' statistics those of the rows, the cross-entropies, and the factors of the gradient.
  void combine_blocks(int64_t label, Part& part) {
    const Problem& problem = units_.problem;
    std::fill(max_.begin(), max_.end(), std::numeric_limits<C>::lowest());
    std::fill(sum_.begin(), sum_.end(), 0.0);
    std::fill(inner_.begin(), inner_.end(), 0.0);
    for (int64_t b = 0; b < blocks_; ++b)
      for (int64_t i = 0; i < m_; ++i) max_[i] = std::max(max_[i], block_max_[b * m_ + i]);
    for (int64_t b = 0; b < blocks_; ++b)
      for (int64_t i = 0; i < m_; ++i) block_shift_[b * m_ + i] = block_max_[b * m_ + i] - max_[i];
    for (int64_t at = 0; at < m_ * blocks_; ++at) block_scale_[at] = exp_nonpositive(block_shift_[at]);
    const double share = 1 / double(m_);
    for (int64_t b = 0; b < blocks_; ++b) {
      const int64_t begin = b * m_;
      double mean_shift = 0;
      for (int64_t i = 0; i < m_; ++i) mean_shift += share * block_shift_[begin + i];
      for (int64_t i = 0; i < m_; ++i) {
        const double factor = block_scale_[begin + i], sum = block_sum_[begin + i];
        sum_[i] += factor * sum;
        inner_[i] += factor * (block_inner_[begin + i] + sum * (block_shift_[begin + i] - mean_shift));
      }
    }
    double mean_log = 0, ce = 0;
    for (int64_t i = 0; i < m_; ++i) mean_log += share * (log_sum_[i] = std::log(sum_[i]));
    const double ce_weight = share / problem.divisor, label_share = 1 - problem.label_smoothing;
    const double kl_weight = m_ > 1 ? problem.alpha / (2 * double(m_ - 1) * problem.divisor) : 0;
    const double smoothing = problem.label_smoothing / double(kept_classes_);
    for (int64_t i = 0; i < m_; ++i) {
      const double max = max_[i], from_first = log_sum_[i] - log_sum_[0], scale = 1 / sum_[i];
      ce += label_share * (log_sum_[i] + (max - double(z_[i][label])));
      if (smoothing > 0)
        ce += problem.label_smoothing * (log_sum_[i] + (max - total_[i] / double(kept_classes_)));
      const double inner = m_ > 1 ? inner_[i] * scale - (log_sum_[i] - mean_log) : 0;
      offset_[i] = C((max - double(max_[0])) + from_first);
      p_weight_[i] = C(ce_weight + kl_weight * (1 - inner));
      for (int64_t b = 0; b < blocks_; ++b) block_scale_[b * m_ + i] *= C(scale);
    }
    kl_weight_ = C(kl_weight);
    smoothing_ = C(ce_weight * smoothing);
    part.ce += share * ce;
  }

  double kl_and_gradient(bool gradient) {
    if (m_ == 1 && !gradient) return 0;
    double total = 0;
    for (int64_t b = 0; b < blocks_; ++b) {
      const ClassBlock<C> classes = block(b);
      total += gradient ? kl_of_block<true>(classes) : kl_of_block<false>(classes);
    }
    return total;
  }

  // The target's and the excluded classes' entries; 16-bit gradients are rounded once, here.
  void finish_gradient(int64_t unit, int64_t label) {
    const Problem& problem = units_.problem;
    for (int64_t i = 0; i < m_; ++i) {
      g_[i][label] -= C((1 - problem.label_smoothing) / (double(m_) * problem.divisor));
      for (int64_t c : excluded_) g_[i][c] = 0;
      if constexpr (kNarrow) {
        T* out = units_.grad.row(i, unit);
        const C* g = g_[i];
        for (int64_t c = 0; c < v_; ++c) out[c] = g[c];
      }
    }
  }

  const CrossEntropyUnits<T>& units_;
  int64_t m_, v_, blocks_;
  // Of the unit: rows, one for each pass; then a number for each pass; then one for each block and pass.
  std::vector<const C*> z_;
  std::vector<C*> e_, g_;
  std::vector<C> max_, offset_, p_weight_, scratch_;
  std::vector<C> block_max_, block_shift_, block_sum_, block_inner_, block_scale_;
  std::vector<double> sum_, log_sum_, inner_, total_;
  C kl_weight_ = 0, smoothing_ = 0;
  int64_t kept_classes_ = 0;  // those that are not excluded
  std::vector<int64_t> excluded_;
  std::unique_ptr<C[]> z_copy_, e_scratch_;
};

}  // namespace tandem::rdrop
