// One unit of the R-Drop cross-entropy, by one block of a device. The m rows of the unit are copied to shared
// memory, as a whole or, where they are longer, tile by tile (a tile is some classes of all passes): once for
// the statistics (statistics.cuh), and a second time for KL and gradient (gradient.cuh). While a whole unit's
// gradient is written, the next unit's rows are on their way to its place. Formulas and notation:
// cpu_blocks.h.
#pragma once

#include <climits>

#include "ops/rdrop/gradient.cuh"
#include "ops/rdrop/statistics.cuh"

namespace tandem::cuda {

using rdrop::ErrorKind;
using rdrop::Part;

// M: the number of passes, when it is small; 0: any.
template <class T, int M, int threads> class CrossEntropyUnit {
  using C = compute_t<T>;
  static constexpr C kInf = std::numeric_limits<C>::infinity();
  static constexpr int V = 16 / sizeof(T);

 public:
  __device__ CrossEntropyUnit(const rdrop::CrossEntropyUnits<T>& args, const TileLayout& tiles, char* shared)
      : a_(args), tiles_(tiles), classes_(static_cast<int>(args.problem.classes)) {
    const bool apart = M == 0 && tiles.states;
    const int states = m() * static_cast<int>(sizeof(PassState<C>));
    state_ = reinterpret_cast<PassState<C>*>(apart ? tiles.states + static_cast<int64_t>(blockIdx.x) * states
                                                   : shared);
    tile_ = {reinterpret_cast<T*>(shared + (apart ? 0 : (states + 15) / 16 * 16)), tiles.pitch};
    means_ = reinterpret_cast<C*>(tile_.row(m()));
    const double divisor = args.problem.current_divisor(args.sums), passes = m();
    each_pass([&](PassState<C>& s, int) {
      s.ce_weight = 1 / (passes * divisor);
      s.kl_weight = m() > 1 ? args.problem.current_alpha() / (2 * (passes - 1) * divisor) : 0;
    });
    gradient_.label_weight = static_cast<C>((1 - args.problem.label_smoothing) / (passes * divisor));
    gradient_.tile = tile_, gradient_.passes = m(), gradient_.state = state_;
  }

  // Units first, first + step, ..
  __device__ void run(unsigned first, unsigned step) {
    next_label_ = label_of(first);
    for (unit_ = first; unit_ < a_.problem.units; unit_ += step) {
      label_ = next_label_;
      next_label_ = unit_ + step < a_.problem.units ? label_of(unit_ + step) : kNotCounted;
      if (label_ == kNotCounted) {
        leave({});
        fill(T(0));
      } else if (!compute()) {
        // A step that is recorded goes on after an error: its gradient must not pass for one.
        __syncthreads();  // the logits, which may lie there, have been looked at
        fill(T(NAN));
      }
    }
  }

 private:
  // Labels of units without a class.
  static constexpr int kNotCounted = -1, kNoClass = -2;
  __device__ int label_of(unsigned unit) const {
    const int64_t label = a_.target[unit];
    if ((a_.valid && a_.valid[unit] == 0) || label == a_.problem.ignore_index) return kNotCounted;
    return label >= 0 && label < classes_ ? static_cast<int>(label) : kNoClass;
  }

  __device__ void leave(const Part& part) const {
    if (threadIdx.x == 0) a_.parts[unit_] = part;
  }
  // Leaves an error behind.
  __device__ bool fail(ErrorKind kind, double value, int index = 0, int pass = 0) const {
    leave({.ce = 0,
           .kl = 0,
           .error = {value, a_.first + unit_, index, pass, kind},
           .counted = 1,
           .correct = 0});
    return false;
  }

  __device__ int m() const { return M > 0 ? M : static_cast<int>(a_.problem.passes); }
  __device__ bool smoothed() const { return a_.problem.label_smoothing > 0; }
  template <class F> __device__ void each_pass(F f) const {  // a thread for each
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (M > 0) {
      if (thread < M) f(state_[thread], thread);
    } else {
#pragma unroll 1
      for (int i = thread; i < m(); i += threads) f(state_[i], i);
    }
  }
  // Calls f(the first class, how many) for each tile, once it is in shared memory.
  template <class F> __device__ void each_tile(F f) {
    for (int begin = 0; begin < classes_; begin += tiles_.columns) {
      hold(begin);
      f(begin, min(tiles_.columns, classes_ - begin));
    }
  }

  // Has the tile's classes from `begin` on in shared memory.
  __device__ void hold(int begin) {
    if (held_ == begin) return;
    if (!comes_) {
      __syncthreads();  // all are done with what lies there
      copy(begin, min(tiles_.columns, classes_ - begin));
    }
    comes_ = false, held_ = begin;
    if constexpr (kAsync) wait_for_copies();
    __syncthreads();
  }
  __device__ void copy(int begin, int n) const {
    for (int i = 0; i < m(); ++i) {
      const T* from = a_.x.row(i, unit_) + begin;
      T* to = tile_.row(i);
      if (tiles_.vectors) {
#pragma unroll 1
        for (int k = threadIdx.x; k < n / V; k += threads) copy_vector(to + k * V, from + k * V);
      } else {
#pragma unroll 4
        for (int c = threadIdx.x; c < n; c += threads) to[c] = from[c];
      }
    }
  }

  // The unit's loss and gradient. False where the unit is wrong.
  __device__ bool compute() {
    if (label_ == kNoClass) return fail(ErrorKind::label, static_cast<double>(a_.target[unit_]));
    kept_classes_ = classes_;
    held_ = -1;
    careful_ = false;
    while (!read_statistics() && !careful_) {
      if (!exclude_classes()) return false;
      __syncthreads();  // the states have been looked at
      careful_ = true;
    }
    cross_entropies();
    __syncthreads();
    C kl = m() > 1 || a_.grad.data ? kl_and_gradient() : 0;
    if (m() > 1) kl = block_sum<threads>(kl) / (m() - 1);
    Part part{.ce = 0, .kl = kl, .error = {}, .counted = 1, .correct = 0};
    for (int i = 0; i < m(); ++i) {
      const PassState<C>& s = state_[i];
      part.ce += s.ce / m();
      part.correct += s.label == s.max && s.before < s.label;  // the first of equals
    }
    leave(part);
    return true;
  }

  // Maxima, sums of exponentials and inner products. False if some logit may not be finite.
  __device__ bool read_statistics() {
    const TileStatistics<T, M, threads> statistics{tile_, m(), state_, means_, careful_, smoothed()};
    bool finite = true;
    each_tile([&](int begin, int n) {
      const int label = label_ - begin;
      each_pass([&](PassState<C>& s, int i) {
        if (begin == 0) s.sum = s.inner = s.total = 0, s.max = s.before = -kInf;
        if (label >= 0 && label < n) s.label = tile_.logit(i, label);
      });
      statistics.find_maxima(n, label);
      __syncthreads();
      finite &= statistics.sum(n);
      __syncthreads();
      add_tile();
      __syncthreads();
    });
    for (int i = 0; i < m(); ++i) finite &= state_[i].label - state_[i].label == 0;
    return finite;
  }

  // Joins the tile's sums to those of the tiles before it: both move to the larger maximum.
  __device__ void add_tile() {
    each_pass([&](PassState<C>& s, int) {
      s.total += s.tile_total;
      if (s.tile_sum == 0) return;
      if (s.sum == 0) {
        s.sum = s.tile_sum, s.inner = s.tile_inner;
        return;
      }
      double mean_old = 0, mean_new = 0;
#pragma unroll 1
      for (int j = 0; j < m(); ++j) {
        const double by = static_cast<double>(state_[j].max) - state_[j].tile_max;
        mean_old += min(by, 0.0) / m();
        mean_new += min(-by, 0.0) / m();
      }
      const double by = static_cast<double>(s.max) - s.tile_max, factor = exp(-abs(by));
      const double inner_old = s.inner + s.sum * (min(by, 0.0) - mean_old),
                   inner_new = s.tile_inner + s.tile_sum * (min(-by, 0.0) - mean_new);
      s.inner = by < 0 ? factor * inner_old + inner_new : inner_old + factor * inner_new;
      s.sum = by < 0 ? factor * s.sum + s.tile_sum : s.sum + factor * s.tile_sum;
    });
    __syncthreads();
    each_pass([](PassState<C>& s, int) {
      s.max = max(s.max, s.tile_max), s.before = max(s.before, s.tile_before);
    });
  }

  // This thread's part of the KL (times m - 1); writes the gradient.
  __device__ C kl_and_gradient() {
    // Classes in vectors go right to the gradient, others by way of the logits' place.
    const bool direct = M > 0 && tiles_.vectors && !careful_;
    const bool brings_next = kAsync && direct && next_label_ >= 0 && tiles_.columns == classes_;
    const T* const next = brings_next ? a_.x.row(0, unit_ + gridDim.x) : nullptr;
    gradient_.careful = careful_;
    gradient_.kl_weight = static_cast<C>(state_[0].kl_weight);
    if (smoothed())
      gradient_.smoothing =
          static_cast<C>(state_[0].ce_weight) * static_cast<C>(a_.problem.label_smoothing) / kept_classes_;
    C kl = 0;
    each_tile([&](int begin, int n) {
      gradient_.label = label_ - begin;
      T* const g = !a_.grad.data ? nullptr : direct ? a_.grad.row(0, unit_) + begin : tile_.data;
      kl += gradient_.run(n, g, direct ? a_.grad.pass_stride : tile_.pitch, [&](int c) {
        if constexpr (kAsync && M > 0) {  // by the thread that has these classes there, too
          if (!brings_next) return;
          for (int i = 0; i < M; ++i) copy_vector(tile_.row(i) + c, next + i * a_.x.pass_stride + c);
        }
      });
      if (!g || direct) return;
      __syncthreads();
      write_tile(begin, n);
    });
    comes_ = brings_next;
    return kl;
  }

  // Copies the tile to the gradient.
  __device__ void write_tile(int begin, int n) const {
    for (int i = 0; i < m(); ++i) {
      const T* from = tile_.row(i);
      T* to = a_.grad.row(i, unit_) + begin;
      if (tiles_.vectors) {
#pragma unroll 1
        for (int k = threadIdx.x; k < n / V; k += threads)
          store_vector<V>(to + k * V, load_vector<V>(from + k * V));
      } else {
#pragma unroll 1
        for (int c = threadIdx.x; c < n; c += threads) to[c] = from[c];
      }
    }
  }

  // One value for the whole gradient of the unit.
  __device__ void fill(T value) const {
    if (!a_.grad.data) return;
    for (int i = 0; i < m(); ++i) {
      T* row = a_.grad.row(i, unit_);
      if (tiles_.vectors) {
        Vector<T, V> values;
#pragma unroll
        for (int v = 0; v < V; ++v) values.at[v] = value;
#pragma unroll 1
        for (int k = threadIdx.x; k < classes_ / V; k += threads) store_vector<V>(row + k * V, values);
      } else {
#pragma unroll 1
        for (int c = threadIdx.x; c < classes_; c += threads) row[c] = value;
      }
    }
  }

  // Some logit is not finite: -inf in all passes leaves the class out, anything else is an error (false).
  __device__ bool exclude_classes() {
    struct Row {
      int first_bad, finite;
    };
    for (int i = 0; i < m(); ++i) {
      const T* row = a_.x.row(i, unit_);
      Row found{INT_MAX, 0};
#pragma unroll 1
      for (int c = threadIdx.x; c < classes_; c += threads) {
        const C z = static_cast<C>(row[c]);
        if (z != z || z == kInf) found.first_bad = min(found.first_bad, c);
        found.finite += z != -kInf;
      }
      found = block_reduce<threads>(found, [](Row p, Row q) {
        return Row{min(p.first_bad, q.first_bad), p.finite + q.finite};
      });
      const auto error = [&](ErrorKind kind, int index) {
        return fail(kind, static_cast<double>(row[index]), index, i);
      };
      if (found.first_bad != INT_MAX) return error(ErrorKind::logit, found.first_bad);
      if (found.finite == 0) return error(ErrorKind::empty_row, classes_ - 1);
      if (static_cast<C>(row[label_]) == -kInf) return error(ErrorKind::target_excluded, label_);
    }
    struct Classes {
      int excluded, first, last_pass;  // the first class that some passes exclude, the last of these
    } found{0, INT_MAX, 0};
#pragma unroll 1
    for (int c = threadIdx.x; c < classes_; c += threads) {
      int passes = 0, last = 0;
      for (int i = 0; i < m(); ++i)
        if (static_cast<C>(a_.x.row(i, unit_)[c]) == -kInf) ++passes, last = i;
      found.excluded += passes == m();
      if (passes > 0 && passes < m() && found.first == INT_MAX) found.first = c, found.last_pass = last;
    }
    found = block_reduce<threads>(found, [](Classes p, Classes q) {
      const bool later = q.first < p.first;
      return Classes{p.excluded + q.excluded, later ? q.first : p.first, later ? q.last_pass : p.last_pass};
    });
    kept_classes_ = classes_ - found.excluded;
    if (found.first == INT_MAX) return true;
    return fail(ErrorKind::some_passes, -kInf, found.first, found.last_pass);
  }

  // The cross-entropies, and the factors of the gradient.
  __device__ void cross_entropies() {
    each_pass([](PassState<C>& s, int) { s.tile_sum = log(s.sum); });  // tiles are done with
    __syncthreads();
    double mean_log = 0;
#pragma unroll 1
    for (int i = 0; i < m(); ++i) mean_log += state_[i].tile_sum / m();
    each_pass([&](PassState<C>& s, int) {
      const double log_sum = s.tile_sum, max = s.max, smoothing = a_.problem.label_smoothing;
      s.ce = (1 - smoothing) * (log_sum + (max - s.label));
      if (smoothed()) s.ce += smoothing * (log_sum + (max - s.total / kept_classes_));
      const double inner = m() > 1 ? s.inner / s.sum - (log_sum - mean_log) : 0;
      s.offset = static_cast<C>((max - static_cast<double>(state_[0].max)) + (log_sum - state_[0].tile_sum));
      s.p_weight = static_cast<C>(s.ce_weight + s.kl_weight * (1 - inner));
      s.log_sum = static_cast<C>(log_sum * Exponential<C>::kUnit);
    });
  }

  const rdrop::CrossEntropyUnits<T>& a_;
  const TileLayout& tiles_;
  PassState<C>* state_;
  LogitTile<T> tile_;
  C* means_;  // any number of passes: of x, by column
  int classes_, kept_classes_ = 0, label_ = 0, next_label_ = 0;
  bool careful_ = false;  // the unit has classes at -inf
  unsigned unit_ = 0;
  int held_ = -1;       // the first class in the tile
  bool comes_ = false;  // the unit's first tile is on its way there
  KlAndGradient<T, M, threads> gradient_;
};

}  // namespace tandem::cuda
