// One unit of the R-Drop cross-entropy: the steps around the loops of rdrop_sweep.h, and what can be wrong.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "ops/rdrop/cpu.h"
#include "ops/rdrop/cpu_blocks.h"
#include "ops/rdrop/error.h"

namespace tandem::detail {

struct RDropChunk {
  double fit = 0, distance = 0;
  int64_t correct = 0;
  std::optional<RDropFault> fault;
};

// What every unit of a call shares.
template <class T>
struct RDropTask {
  const RDropRows& rows;
  PassRows<const T> logits;
  PassRows<T> grad;
  const int64_t* target;
  const uint8_t* valid;

  bool counted(int64_t unit) const {
    return (valid == nullptr || valid[unit] != 0) && target[unit] != rows.ignore_index;
  }
};

// Scratch of one chunk, and the steps of one unit.
template <class T>
class RDropWorker {
  using C = compute_t<T>;
  static constexpr bool kNarrow = !std::is_same_v<T, C>;
  static constexpr int64_t kLine = 64 / sizeof(T);

 public:
  explicit RDropWorker(const RDropTask<T>& task)
      : task_(task),
        m_(task.rows.passes),
        v_(task.rows.classes),
        blocks_((v_ + kClassBlock - 1) / kClassBlock),
        z_(m_),
        e_(m_),
        g_(m_),
        max_(m_),
        offset_(m_),
        own_(m_),
        scratch_(m_ > 4 ? 2 * m_ * kClassBlock : 0),
        block_max_(m_ * blocks_),
        block_shift_(m_ * blocks_),
        block_sum_(m_ * blocks_),
        block_inner_(m_ * blocks_),
        block_scale_(m_ * blocks_),
        sum_(m_),
        inner_(m_),
        total_(m_) {}

  // Adds the unit's loss to `sums`, writes its gradient.
  std::optional<RDropFault> run(int64_t unit, RDropChunk& sums) {
    const bool gradient = task_.grad.data != nullptr;
    classes_ = v_;
    excluded_.clear();
    place(unit, gradient);
    if (!first_sweep(unit)) {
      if (auto fault = exclude(unit)) return fault;
      second_look();
    }
    const int64_t label = task_.target[unit];
    combine_blocks(label, sums);
    sums.correct += hits(label);
    const double distance = last_sweep(gradient);
    if (m_ > 1) sums.distance += distance / double(m_ - 1);
    if (gradient) finish(unit, label);
    return {};
  }

 private:
  C* room(std::unique_ptr<C[]>& scratch, int64_t pass) {
    if (!scratch) scratch = std::make_unique_for_overwrite<C[]>(m_ * v_);
    return scratch.get() + pass * v_;
  }
  C* copy(int64_t pass) { return room(z_copy_, pass); }

  // Where the exponentials and the gradient go: into the gradient's own rows where those are C and not the
  // logits.
  void place(int64_t unit, bool gradient) {
    const bool in_place = static_cast<const void*>(task_.grad.data) == task_.logits.data;
    for (int64_t i = 0; i < m_; ++i) {
      if constexpr (!kNarrow) {
        z_[i] = task_.logits.row(i, unit);
        g_[i] = gradient ? task_.grad.row(i, unit) : nullptr;
        e_[i] = gradient && !in_place ? g_[i] : room(e_scratch_, i);
      } else {
        z_[i] = copy(i);
        g_[i] = e_[i] = room(e_scratch_, i);
      }
    }
  }

  // Some logit is not finite: -inf in all passes leaves the class out, anything else is a fault. Works on a
  // copy in which an excluded class has the same tiny, finite place in every pass: its probability comes out
  // as 0.
  std::optional<RDropFault> exclude(int64_t unit) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    const int64_t label = task_.target[unit];
    for (int64_t i = 0; i < m_; ++i) {
      int64_t finite = 0;
      for (int64_t c = 0; c < v_; ++c) {
        const double z = z_[i][c];
        if (std::isnan(z) || z == inf) return RDropFault{RDropError::logit, unit, i, c, z};
        finite += z != -inf;
      }
      if (finite == 0) return RDropFault{RDropError::empty_row, unit, i, v_ - 1, -inf};
      if (z_[i][label] == -inf) return RDropFault{RDropError::target_excluded, unit, i, label, -inf};
    }
    for (int64_t c = 0; c < v_; ++c) {
      int64_t passes = 0, last = 0;
      for (int64_t i = 0; i < m_; ++i)
        if (z_[i][c] == -inf) ++passes, last = i;
      if (passes == m_)
        excluded_.push_back(c);
      else if (passes > 0)
        return RDropFault{RDropError::some_passes, unit, last, c, -inf};
    }
    classes_ = v_ - int64_t(excluded_.size());
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

  int64_t hits(int64_t label) const {
    int64_t count = 0;
    for (int64_t i = 0; i < m_; ++i)
      count += z_[i][label] == max_[i] && std::find(z_[i], z_[i] + label, max_[i]) == z_[i] + label;
    return count;
  }

  BlockRows<C> block(int64_t b) {
    const int64_t begin = b * kClassBlock, at = b * m_;
    return {m_,
            std::min(kClassBlock, v_ - begin),
            z_.data(),
            e_.data(),
            g_.data(),
            begin,
            &block_max_[at],
            &block_sum_[at],
            &block_inner_[at],
            &block_scale_[at],
            offset_.data(),
            own_.data(),
            mean_weight_,
            smoothing_,
            scratch_.data()};
  }

  // Maxima, sums and exponentials, block by block. False if a logit is not finite.
  bool first_sweep(int64_t unit) {
    std::fill(total_.begin(), total_.end(), 0.0);
    for (int64_t b = 0; b < blocks_; ++b) {
      const BlockRows<C> rows = block(b);
      for (int64_t i = 0; i < m_; ++i) {
        const T* row = task_.logits.row(i, unit);
        // One block ahead: reading stops at each block to compute, and hardware prefetchers lose the track.
        for (int64_t c = rows.begin + kClassBlock; c < std::min(rows.begin + 2 * kClassBlock, v_); c += kLine)
          __builtin_prefetch(row + c);
        C* wide = kNarrow ? copy(i) + rows.begin : nullptr;
        block_max_[b * m_ + i] = scan_block(row + rows.begin, wide, rows.n, total_[i]);
      }
      m_ == 2 ? exponentials_pair(rows) : exponentials_any(rows);
    }
    return std::all_of(total_.begin(), total_.end(), [](double total) { return std::isfinite(total); });
  }
  // The same on the copies that exclude() made.
  void second_look() {
    double unused = 0;
    for (int64_t b = 0; b < blocks_; ++b) {
      const BlockRows<C> rows = block(b);
      for (int64_t i = 0; i < m_; ++i)
        block_max_[b * m_ + i] = scan_block<C, C>(z_[i] + rows.begin, nullptr, rows.n, unused);
      m_ == 2 ? exponentials_pair(rows) : exponentials_any(rows);
    }
  }

  // The cross-entropies, and what the last sweep needs of the first.
  void combine_blocks(int64_t label, RDropChunk& sums) {
    const RDropRows& rows = task_.rows;
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
    double mean_log = 0, fit = 0;
    for (int64_t i = 0; i < m_; ++i) mean_log += share * std::log(sum_[i]);
    const double fit_weight = 1 / (double(m_) * rows.divisor);
    const double weight = m_ > 1 ? rows.alpha / (2 * double(m_ - 1) * rows.divisor) : 0;
    for (int64_t i = 0; i < m_; ++i) {
      const double log_sum = std::log(sum_[i]), max = max_[i];
      fit += (1 - rows.label_smoothing) * (log_sum + (max - double(z_[i][label])));
      if (rows.label_smoothing > 0)
        fit += rows.label_smoothing * (log_sum + (max - total_[i] / double(classes_)));
      const double distance = m_ > 1 ? inner_[i] / sum_[i] - (log_sum - mean_log) : 0;
      offset_[i] = C((max - double(max_[0])) + (log_sum - std::log(sum_[0])));
      own_[i] = C(fit_weight + weight * (1 - distance));
      const C scale = C(1 / sum_[i]);
      for (int64_t b = 0; b < blocks_; ++b) block_scale_[b * m_ + i] *= scale;
    }
    mean_weight_ = C(weight);
    smoothing_ = C(fit_weight * rows.label_smoothing / double(classes_));
    sums.fit += fit / double(m_);
  }

  double last_sweep(bool gradient) {
    if (m_ == 1 && !gradient) return 0;
    double total = 0;
    for (int64_t b = 0; b < blocks_; ++b) {
      const BlockRows<C> rows = block(b);
      total += gradient ? distances<true>(rows) : distances<false>(rows);
    }
    return total;
  }

  // The target's and the excluded classes' entries; 16-bit gradients are rounded once, here.
  void finish(int64_t unit, int64_t label) {
    const RDropRows& rows = task_.rows;
    for (int64_t i = 0; i < m_; ++i) {
      g_[i][label] -= C((1 - rows.label_smoothing) / (double(m_) * rows.divisor));
      for (int64_t c : excluded_) g_[i][c] = 0;
      if constexpr (kNarrow) {
        T* out = task_.grad.row(i, unit);
        const C* g = g_[i];
        for (int64_t c = 0; c < v_; ++c) out[c] = g[c];
      }
    }
  }

  const RDropTask<T>& task_;
  int64_t m_, v_, blocks_, classes_ = 0;
  std::vector<const C*> z_;
  std::vector<C*> e_, g_;
  std::vector<C> max_, offset_, own_, scratch_, block_max_, block_shift_, block_sum_, block_inner_,
      block_scale_;
  std::vector<double> sum_, inner_, total_;
  C mean_weight_ = 0, smoothing_ = 0;
  std::vector<int64_t> excluded_;
  std::unique_ptr<C[]> z_copy_, e_scratch_;
};

}  // namespace tandem::detail
