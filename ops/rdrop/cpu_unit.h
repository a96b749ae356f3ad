// One unit of the R-Drop cross-entropy on the CPU: the steps around the loops of cpu_blocks.h, where the
// formulas and the notation are. Memory is read once: what follows is in the caches.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ops/loops/scratch.h"
#include "ops/loops/stream.h"
#include "ops/rdrop/cpu_blocks.h"
#include "ops/rdrop/kernel.h"

namespace tandem::rdrop {

template <class T> bool counts(const CrossEntropyUnits<T>& units, int64_t unit) {
  return (units.valid == nullptr || units.valid[unit] != 0) &&
         units.target[unit] != units.problem.ignore_index;
}

// Scratch for a unit, used for one after another on one thread, and the steps.
template <class T> class CrossEntropyUnit {
  using C = compute_t<T>;
  static constexpr bool kNarrow = !std::is_same_v<T, C>;

 public:
  explicit CrossEntropyUnit(const CrossEntropyUnits<T>& units)
      : units_(units),
        m_(units.problem.passes),
        v_(units.problem.classes),
        blocks_((v_ + kBlockSize - 1) / kBlockSize),
        streams_(units.grad.data != units.x.data &&
                 m_ * units.problem.units * v_ * int64_t{sizeof(T)} >= detail::kStreamBytes),
        rows_(detail::scratch_of<C>(detail::Slot::loss, blocks_ * ClassBlock<C>::rows(m_) * kBlockSize)),
        g_(m_),
        max_(m_),
        shift_(m_),
        offset_(m_),
        p_weight_(m_),
        block_max_(m_ * blocks_),
        block_sum_(m_ * blocks_),
        block_inner_(m_ * blocks_),
        block_scale_(m_ * blocks_),
        sum_(m_),
        log_sum_(m_),
        inner_(m_),
        total_(m_) {}

  ~CrossEntropyUnit() {
    if (streams_) detail::stream_end();
  }
  CrossEntropyUnit(const CrossEntropyUnit&) = delete;
  CrossEntropyUnit& operator=(const CrossEntropyUnit&) = delete;

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
    const auto row = [&](int64_t pass) { return units_.x.row(pass, unit); };
    if (read_statistics(unit, row, total_.data())) {
      combine_blocks(row, label, part);
    } else {
      part.error = exclude_classes(unit);
      if (part.error.kind != ErrorKind::none) return;
      // The copies' totals are known, without the classes that are left out.
      const auto copy = [&](int64_t pass) -> const C* { return copies_.data() + pass * v_; };
      std::vector<double> unused(m_);
      read_statistics(unit, copy, unused.data());
      combine_blocks(copy, label, part);
    }
    part.kl += kl_and_gradient(unit, label, gradient);
  }

 private:
  // Some logit is not finite: -inf in all passes leaves the class out, anything else is an error. Works on a
  // copy in which an excluded class has the same tiny, finite place in every pass: its probability comes out
  // as 0.
  UnitError exclude_classes(int64_t unit) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    const auto error = [unit](ErrorKind kind, int64_t pass, int64_t c, double value) {
      return UnitError{value, unit, c, static_cast<int32_t>(pass), kind};
    };
    const auto z = [&](int64_t pass, int64_t c) { return C(units_.x.row(pass, unit)[c]); };
    const int64_t label = units_.target[unit];
    for (int64_t i = 0; i < m_; ++i) {
      int64_t finite = 0;
      for (int64_t c = 0; c < v_; ++c) {
        if (std::isnan(z(i, c)) || z(i, c) == inf) return error(ErrorKind::logit, i, c, z(i, c));
        finite += z(i, c) != -inf;
      }
      if (finite == 0) return error(ErrorKind::empty_row, i, v_ - 1, -inf);
      if (z(i, label) == -inf) return error(ErrorKind::target_excluded, i, label, -inf);
    }
    for (int64_t c = 0; c < v_; ++c) {
      int64_t passes = 0, last = 0;
      for (int64_t i = 0; i < m_; ++i)
        if (z(i, c) == -inf) ++passes, last = i;
      if (passes == m_)
        excluded_.push_back(c);
      else if (passes > 0)
        return error(ErrorKind::some_passes, last, c, -inf);
    }
    kept_classes_ = v_ - int64_t(excluded_.size());
    copies_.resize(m_ * v_);
    for (int64_t i = 0; i < m_; ++i) {
      C* copy = copies_.data() + i * v_;
      std::copy_n(units_.x.row(i, unit), v_, copy);
      for (int64_t c : excluded_) copy[c] = std::numeric_limits<C>::lowest();
      const C top = *std::max_element(copy, copy + v_);
      for (int64_t c : excluded_) copy[c] = 0;
      total_[i] = std::accumulate(copy, copy + v_, 0.0);
      for (int64_t c : excluded_) copy[c] = top - (C(1e4) + std::abs(top) / 2);
    }
    return {};
  }

  ClassBlock<C> block(int64_t b) {
    return {.passes = m_,
            .n = std::min(kBlockSize, v_ - b * kBlockSize),
            .e_rows = rows_ + b * ClassBlock<C>::rows(m_) * kBlockSize,
            .g = g_.data(),
            .scale = &block_scale_[b * m_],
            .offset = offset_.data(),
            .mean_offset = mean_offset_,
            .p_weight = p_weight_.data(),
            .kl_weight = kl_weight_,
            .smoothing = smoothing_};
  }

  // The logits that are read one block later, maybe of the next unit: reading stops at each block to compute,
  // and hardware prefetchers lose the track.
  void prefetch_next(int64_t unit, int64_t pass, int64_t b) const {
    const bool last = b + 1 == blocks_;
    if (last && unit + 1 == units_.problem.units) return;
    const int64_t begin = last ? 0 : (b + 1) * kBlockSize;
    const T* z = units_.x.row(pass, unit + last) + begin;
    constexpr int64_t line = 64 / sizeof(T);
    for (int64_t c = 0; c < std::min(kBlockSize, v_ - begin); c += line) __builtin_prefetch(z + c);
  }

  // Block by block and pass by pass, from the rows that `row` gives: maxima, totals, exponentials and what
  // there is to know of them. False if a logit is not finite.
  template <class Row> bool read_statistics(int64_t unit, const Row& row, double* total) {
    const C share = C(1) / C(m_);
    std::fill_n(total, m_, 0.0);
    for (int64_t b = 0; b < blocks_; ++b) {
      const ClassBlock<C> classes = block(b);
      const int64_t begin = b * kBlockSize, n = classes.n;
      C *max = &block_max_[b * m_], *sum = &block_sum_[b * m_], *inner = &block_inner_[b * m_];
      for (int64_t i = 0; i < m_; ++i) {
        const auto* z = row(i) + begin;
        prefetch_next(unit, i, b);
        max[i] = largest<C>(z, n, total[i]);
        if (b == 0) shift_[i] = max[i] - max[0];
        if (m_ == 2) continue;
        if (i == 0) {
          sum[0] = exponentials(z, max[0], n, classes.e(0));
          if (m_ > 1) std::fill_n(classes.mean(), n, C(0));
        } else {
          sum[i] = exponentials(z, row(0) + begin, max[i], shift_[i], share, n, classes.e(i), classes.t(i),
                                classes.mean());
        }
      }
      if (m_ == 2) {
        exponentials_pair(row(0) + begin, row(1) + begin, n, max, shift_[1], classes.e(0), classes.e(1),
                          classes.t(1), sum, inner);
      } else if (m_ > 1) {
        for (int64_t i = 0; i < m_; ++i)
          inner[i] = inner_product(classes.e(i), i == 0 ? nullptr : classes.t(i), classes.mean(), n);
      }
    }
    return std::all_of(total, total + m_, [](double sum) { return std::isfinite(sum); });
  }

  // From the blocks' statistics those of the rows, the cross-entropies, and the factors of the gradient.
  template <class Row> void combine_blocks(const Row& row, int64_t label, Part& part) {
    const Problem& problem = units_.problem;
    std::fill(max_.begin(), max_.end(), std::numeric_limits<C>::lowest());
    std::fill(sum_.begin(), sum_.end(), 0.0);
    std::fill(inner_.begin(), inner_.end(), 0.0);
    for (int64_t b = 0; b < blocks_; ++b)
      for (int64_t i = 0; i < m_; ++i) max_[i] = std::max(max_[i], block_max_[b * m_ + i]);
    for (int64_t b = 0; b < blocks_; ++b)
      for (int64_t i = 0; i < m_; ++i) block_scale_[b * m_ + i] = block_max_[b * m_ + i] - max_[i];
    for (C& scale : block_scale_) scale = exp_nonpositive(scale);
    for (int64_t b = 0; b < blocks_; ++b)
      for (int64_t i = 0; i < m_; ++i) {
        const double factor = block_scale_[b * m_ + i];
        sum_[i] += factor * block_sum_[b * m_ + i];
        inner_[i] += factor * block_inner_[b * m_ + i];
      }
    const double share = 1 / double(m_);
    double mean_offset = 0, ce = 0;
    kl_ = 0;
    for (int64_t i = 0; i < m_; ++i) {
      log_sum_[i] = std::log(sum_[i]);
      mean_offset += share * offset(i);
    }
    const double ce_weight = share / problem.divisor, label_share = 1 - problem.label_smoothing;
    const double kl_weight = m_ > 1 ? problem.alpha / (2 * double(m_ - 1) * problem.divisor) : 0;
    const double smoothing = problem.label_smoothing / double(kept_classes_);
    for (int64_t i = 0; i < m_; ++i) {
      const auto* z = row(i);
      const double max = max_[i], scale = 1 / sum_[i];
      ce += label_share * (log_sum_[i] + (max - double(z[label])));
      if (smoothing > 0)
        ce += problem.label_smoothing * (log_sum_[i] + (max - total_[i] / double(kept_classes_)));
      part.correct += is_first(z, label, max_[i]);
      const double inner = m_ > 1 ? inner_[i] * scale - (offset(i) - mean_offset) : 0;
      kl_ += inner;
      offset_[i] = C(offset(i));
      p_weight_[i] = C(ce_weight + kl_weight * (1 - inner));
      for (int64_t b = 0; b < blocks_; ++b) block_scale_[b * m_ + i] *= C(scale);
    }
    mean_offset_ = C(mean_offset);
    kl_weight_ = C(kl_weight);
    smoothing_ = C(ce_weight * smoothing);
    part.ce += share * ce;
  }
  // Of the normalisers of a pass and the first, but for the shift that t has had already.
  double offset(int64_t i) const {
    return (double(max_[i]) - double(max_[0]) - double(shift_[i])) + (log_sum_[i] - log_sum_[0]);
  }

  // The target's and the excluded classes' entries are set afterwards; 16-bit gradients are rounded once.
  double kl_and_gradient(int64_t unit, int64_t label, bool gradient) {
    const Problem& problem = units_.problem;
    const bool careful = m_ > 1 && kl_ < kClearKl;
    if (!careful && !gradient) return m_ > 1 ? kl_ / double(m_ - 1) : 0;
    const C label_weight = C((1 - problem.label_smoothing) / (double(m_) * problem.divisor));
    double total = 0;
    for (int64_t b = 0; b < blocks_; ++b) {
      const ClassBlock<C> classes = block(b);
      const int64_t begin = b * kBlockSize;
      for (int64_t i = 0; gradient && i < m_; ++i) {
        if constexpr (kNarrow) {
          g_[i] = classes.e(i);
        } else {
          g_[i] = streams_ ? classes.e(i) : units_.grad.row(i, unit) + begin;
        }
      }
      total += !careful   ? kl_of_block<false, true>(classes)
               : gradient ? kl_of_block<true, true>(classes)
                          : kl_of_block<true, false>(classes);
      for (int64_t i = 0; gradient && i < m_; ++i) {
        if (label >= begin && label < begin + classes.n) g_[i][label - begin] -= label_weight;
        if constexpr (kNarrow) {
          std::copy_n(g_[i], classes.n, units_.grad.row(i, unit) + begin);
        } else if (streams_) {
          detail::stream_copy(units_.grad.row(i, unit) + begin, g_[i], classes.n * int64_t{sizeof(T)});
        }
      }
    }
    for (int64_t i = 0; gradient && i < m_; ++i)
      for (int64_t c : excluded_) units_.grad.row(i, unit)[c] = T(0);
    return m_ == 1 ? 0 : (careful ? total : kl_) / double(m_ - 1);
  }

  const CrossEntropyUnits<T>& units_;
  int64_t m_, v_, blocks_;
  bool streams_;  // the gradient, where it is more than the caches hold and nothing is there yet
  C* rows_;       // of each block
  // Of the unit: a number for each pass; then one for each block and pass.
  std::vector<C*> g_;
  std::vector<C> max_, shift_, offset_, p_weight_;
  std::vector<C> block_max_, block_sum_, block_inner_, block_scale_;
  std::vector<double> sum_, log_sum_, inner_, total_;
  double kl_ = 0;  // sum of the inner products
  C mean_offset_ = 0, kl_weight_ = 0, smoothing_ = 0;
  int64_t kept_classes_ = 0;  // those that are not excluded
  std::vector<int64_t> excluded_;
  std::vector<C> copies_;
};

}  // namespace tandem::rdrop
