// One unit of the R-Drop cross-entropy, by one block of a device. The m rows of the unit are copied to shared
// memory, as a whole or, where they are longer, tile by tile (a tile is some classes of all passes): once for
// the statistics, here, and a second time for KL and gradient (gradient.cuh). Formulas and notation:
// cpu_blocks.h.
#pragma once

#include <climits>

#include "cuda/reduce.cuh"
#include "ops/rdrop/gradient.cuh"

namespace tandem::cuda {

using rdrop::ErrorKind;
using rdrop::Part;

// How units are laid out in shared memory.
struct TileLayout {
  int columns;   // of a tile; a multiple of 16 bytes where there are several
  int pitch;     // from a pass of the tile to the next, in elements
  bool vectors;  // rows may be read 16 bytes at a time
  char* states;  // for many passes: memory for the states of each block; or null
};

// M: the number of passes, when it is small; 0: any.
template <class T, int M, int threads> class CrossEntropyUnit {
  using C = compute_t<T>;
  static constexpr C kInf = std::numeric_limits<C>::infinity();
  static constexpr int V = 16 / sizeof(T);
  static constexpr int kBig = M > 0 ? M : 1;

 public:
  __device__ CrossEntropyUnit(const rdrop::CrossEntropyUnits<T>& args, const TileLayout& tiles, char* shared)
      : a_(args), tiles_(tiles), classes_(static_cast<int>(args.problem.classes)) {
    const int64_t states = tiles.states ? 0 : m() * static_cast<int64_t>(sizeof(PassState<C>));
    state_ = reinterpret_cast<PassState<C>*>(
        tiles.states ? tiles.states + blockIdx.x * m() * sizeof(PassState<C>) : shared);
    tile_ = reinterpret_cast<T*>(shared + (states + 15) / 16 * 16);
    means_ = reinterpret_cast<C*>(tile_ + static_cast<int64_t>(m()) * tiles.pitch);
    gradient_.tile = {tile_, tiles.pitch};
    gradient_.passes = m(), gradient_.state = state_;
    divisor_ = args.problem.current_divisor(args.sums);
    alpha_ = args.problem.current_alpha();
  }

  __device__ void run(int64_t unit) {
    unit_ = unit;
    Part part{};
    part.error.unit = a_.first + unit;
    const int64_t label = a_.target[unit];
    if ((a_.valid && a_.valid[unit] == 0) || label == a_.problem.ignore_index) {
      fill(T(0));
    } else if (label < 0 || label >= classes_) {
      part.counted = 1;
      part.error.kind = ErrorKind::label, part.error.value = static_cast<double>(label);
      fill(T(NAN));
    } else {
      part.counted = 1;
      label_ = static_cast<int>(label);
      // A step that is recorded goes on after an error: its gradient must not pass for one.
      if (!compute(part)) {
        __syncthreads();  // the logits, which may lie there, have been looked at
        fill(T(NAN));
      }
    }
    if (threadIdx.x == 0) a_.parts[unit] = part;
    __syncthreads();  // the next unit takes the memory
  }

 private:
  __device__ int m() const { return M > 0 ? M : static_cast<int>(a_.problem.passes); }
  __device__ C logit(int pass, int column) const { return gradient_.tile.logit(pass, column); }
  __device__ bool smoothed() const { return a_.problem.label_smoothing > 0; }
  template <class F> __device__ void each_pass(F f) const {  // a thread for each
    for (int i = threadIdx.x; i < m(); i += threads) f(state_[i], i);
  }

  // The unit's loss and gradient. False where the unit is wrong, as part.error tells.
  __device__ bool compute(Part& part) {
    kept_classes_ = classes_;
    if (!read_statistics() && !exclude_classes(part)) return false;
    cross_entropies();
    __syncthreads();
    double ce = 0;
    for (int i = 0; i < m(); ++i) {
      ce += state_[i].ce;
      part.correct += state_[i].argmax == label_;
    }
    part.ce = ce / m();
    if (m() == 1 && !a_.grad.data) return true;
    const double kl = kl_and_gradient();
    if (m() > 1) part.kl = block_sum<threads>(kl) / (m() - 1);
    return true;
  }

  // Maxima, sums of exponentials and inner products, tile by tile. False if some logit is not finite.
  __device__ bool read_statistics() {
    each_pass([](PassState<C>& s, int) { s = {.max = -kInf, .argmax = -1}; });
    bool not_finite = false;
    for (int begin = 0; begin < classes_; begin += tiles_.columns) {
      __syncthreads();
      not_finite |= load_tile(begin);
      __syncthreads();
      sum_tile(begin);
      __syncthreads();
      add_tile();
      __syncthreads();
    }
    return !not_finite;
  }

  // This thread's part of the KL (times m - 1); writes the gradient.
  __device__ double kl_and_gradient() {
    double kl = 0;
    for (int begin = 0; begin < classes_; begin += tiles_.columns) {
      if (tiles_.columns < classes_) {
        __syncthreads();
        load_tile_again(begin);
        __syncthreads();
      }
      const int n = min(tiles_.columns, classes_ - begin);
      gradient_.label = label_ - begin;
      if (!a_.grad.data) {
        kl += gradient_.template run<false>(n, nullptr, 0);
        continue;
      }
      // Narrow elements go into the place of the logits, from where they are written as vectors.
      const bool staged = sizeof(T) < 4 && tiles_.vectors;
      T* to = staged ? tile_ : a_.grad.row(0, unit_) + begin;
      kl += gradient_.template run<true>(n, to, staged ? tiles_.pitch : a_.grad.pass_stride);
      if (!staged) continue;
      __syncthreads();
      write_tile(begin, n);
    }
    return kl;
  }

  // Copies the tile to the gradient.
  __device__ void write_tile(int begin, int n) const {
    for (int i = 0; i < m(); ++i) {
      const T* from = tile_ + static_cast<int64_t>(i) * tiles_.pitch;
      T* row = a_.grad.row(i, unit_) + begin;
#pragma unroll 1  // unrolled, it takes registers that more blocks have a use for
      for (int k = threadIdx.x; k < n / V; k += threads)
        store_vector<V>(row + k * V, reinterpret_cast<const Vector<T, V>*>(from)[k]);
    }
  }

  // One value for the whole gradient of the unit.
  __device__ void fill(T value) const {
    if (!a_.grad.data) return;
    Vector<T, V> values;
#pragma unroll
    for (int v = 0; v < V; ++v) values.at[v] = value;
    for (int i = 0; i < m(); ++i) {
      T* row = a_.grad.row(i, unit_);
      if (tiles_.vectors) {
        for (int k = threadIdx.x; k < classes_ / V; k += threads)
          reinterpret_cast<Vector<T, V>*>(row)[k] = values;
      } else {
        for (int c = threadIdx.x; c < classes_; c += threads) row[c] = value;
      }
    }
  }

  // Of a row, or of a thread's part of it (no padding: all of it goes through shared memory).
  struct Top {
    double total, max;
    int argmax, not_finite;
  };
  struct LargerTop {
    __device__ Top operator()(const Top& a, const Top& b) const {
      const bool later = b.max > a.max || (b.max == a.max && b.argmax < a.argmax);
      return {a.total + b.total, later ? b.max : a.max, later ? b.argmax : a.argmax,
              a.not_finite | b.not_finite};
    }
  };

  // Copies pass i of the tile; `first`: and looks for its Top.
  template <bool first> __device__ Top copy_pass(int begin, int i) {
    const int n = min(tiles_.columns, classes_ - begin);
    const T* from = a_.x.row(i, unit_) + begin;
    T* to = tile_ + static_cast<int64_t>(i) * tiles_.pitch;
    C total = 0, max = -kInf;
    int argmax = INT_MAX, not_finite = 0;
    const bool sums = smoothed();
    const auto look = [&](T value, int column) {
      if constexpr (first) {
        const C z = static_cast<C>(value);
        if (z > max) max = z, argmax = column;
        const bool finite = z - z == 0;
        not_finite |= !finite;
        if (finite && sums) total += z;
      }
    };
    if (tiles_.vectors) {
#pragma unroll 4
      for (int k = threadIdx.x; k < n / V; k += threads) {
        const auto values = load_vector<V>(from + k * V);
        reinterpret_cast<Vector<T, V>*>(to)[k] = values;
#pragma unroll
        for (int l = 0; l < V; ++l) look(values.at[l], begin + k * V + l);
      }
    } else {
#pragma unroll 4
      for (int c = threadIdx.x; c < n; c += threads) look(to[c] = from[c], begin + c);
    }
    return {total, max, argmax, not_finite};
  }

  __device__ void load_tile_again(int begin) {
    for (int i = 0; i < m(); ++i) copy_pass<false>(begin, i);
  }

  // Copies a tile, finds its maxima, and says whether some logit is not finite.
  __device__ bool load_tile(int begin) {
    bool not_finite = false;
    const auto keep = [&](int i, const Top& top) {
      not_finite |= top.not_finite != 0;
      if (threadIdx.x != 0) return;
      state_[i].tile_max = static_cast<C>(top.max), state_[i].tile_argmax = top.argmax;
      state_[i].total += top.total;
    };
    if constexpr (M > 0) {
      struct Tops {
        Top at[M];
      } tops;
#pragma unroll
      for (int i = 0; i < M; ++i) tops.at[i] = copy_pass<true>(begin, i);
      tops = block_reduce<threads>(tops, [](const Tops& p, const Tops& q) {
        Tops result;
#pragma unroll
        for (int i = 0; i < M; ++i) result.at[i] = LargerTop{}(p.at[i], q.at[i]);
        return result;
      });
#pragma unroll
      for (int i = 0; i < M; ++i) keep(i, tops.at[i]);
    } else {
      for (int i = 0; i < m(); ++i) keep(i, block_reduce<threads>(copy_pass<true>(begin, i), LargerTop{}));
    }
    return not_finite;
  }

  // What a pass's logits of the tile are relative to: their maximum, or 0 where all of them are excluded.
  __device__ C shift(int i) const { return state_[i].tile_max == -kInf ? C(0) : state_[i].tile_max; }

  // Sums of the tile's exponentials, and the inner products.
  __device__ void sum_tile(int begin) {
    const int n = min(tiles_.columns, classes_ - begin);
    const C share = C(1) / C(m());
    struct Sums {
      double sum[kBig], inner[kBig];
    };
    const auto plus = [](const Sums& p, const Sums& q) {
      Sums result;
#pragma unroll
      for (int i = 0; i < kBig; ++i)
        result.sum[i] = p.sum[i] + q.sum[i], result.inner[i] = p.inner[i] + q.inner[i];
      return result;
    };
    if constexpr (M > 0) {
      C max[M], sum[M] = {}, inner[M] = {};
#pragma unroll
      for (int i = 0; i < M; ++i) max[i] = shift(i);
      for (int c = threadIdx.x; c < n; c += threads) {
        C x[M], mean = 0;
#pragma unroll
        for (int i = 0; i < M; ++i) mean += (x[i] = logit(i, c) - max[i]) * share;
        if (x[0] == -kInf) continue;  // excluded
#pragma unroll
        for (int i = 0; i < M; ++i) {
          const C e = exp(x[i]);
          sum[i] += e;
          if (M > 1) inner[i] += e * (x[i] - mean);
        }
      }
      Sums sums;
#pragma unroll
      for (int i = 0; i < M; ++i) sums.sum[i] = sum[i], sums.inner[i] = inner[i];
      sums = block_reduce<threads>(sums, plus);
      if (threadIdx.x == 0) {
#pragma unroll
        for (int i = 0; i < M; ++i) state_[i].tile_sum = sums.sum[i], state_[i].tile_inner = sums.inner[i];
      }
    } else {
      for (int c = threadIdx.x; c < n; c += threads) {
        C mean = 0;
        for (int i = 0; i < m(); ++i) mean += (logit(i, c) - shift(i)) * share;
        means_[c] = mean;
      }
      for (int i = 0; i < m(); ++i) {
        const C max = shift(i);
        C sum = 0, inner = 0;
        for (int c = threadIdx.x; c < n; c += threads) {
          const C x = logit(i, c) - max;
          if (x == -kInf) continue;
          const C e = exp(x);
          sum += e;
          inner += e * (x - means_[c]);
        }
        const Sums sums = block_reduce<threads>(Sums{{sum}, {inner}}, plus);
        if (threadIdx.x == 0) state_[i].tile_sum = sums.sum[0], state_[i].tile_inner = sums.inner[0];
      }
    }
  }

  // Joins the tile's sums to those of the tiles before it: both move to the larger maximum.
  __device__ void add_tile() {
    each_pass([&](PassState<C>& s, int) {
      if (s.tile_sum == 0) return;
      if (s.sum == 0) {
        s.sum = s.tile_sum, s.inner = s.tile_inner;
        return;
      }
      double mean_old = 0, mean_new = 0;
      for (int j = 0; j < m(); ++j) {
        const double largest = max(state_[j].max, state_[j].tile_max);
        mean_old += (state_[j].max - largest) / m();
        mean_new += (state_[j].tile_max - largest) / m();
      }
      const double largest = max(s.max, s.tile_max);
      const double by_old = s.max - largest, by_new = s.tile_max - largest;
      s.inner = exp(by_old) * (s.inner + s.sum * (by_old - mean_old)) +
                exp(by_new) * (s.tile_inner + s.tile_sum * (by_new - mean_new));
      s.sum = exp(by_old) * s.sum + exp(by_new) * s.tile_sum;
    });
    __syncthreads();
    each_pass([](PassState<C>& s, int) {
      if (s.tile_max > s.max) s.max = s.tile_max, s.argmax = s.tile_argmax;
    });
  }

  // Some logit is not finite: -inf in all passes leaves the class out, anything else is an error (false).
  __device__ bool exclude_classes(Part& part) {
    struct Row {
      int first_bad, finite;
    };
    for (int i = 0; i < m(); ++i) {
      const T* row = a_.x.row(i, unit_);
      Row found{INT_MAX, 0};
      for (int c = threadIdx.x; c < classes_; c += threads) {
        const C z = static_cast<C>(row[c]);
        if (z != z || z == kInf) found.first_bad = min(found.first_bad, c);
        found.finite += z != -kInf;
      }
      found = block_reduce<threads>(found, [](Row p, Row q) {
        return Row{min(p.first_bad, q.first_bad), p.finite + q.finite};
      });
      const auto error = [&](ErrorKind kind, int index) {
        part.error = {static_cast<double>(row[index]), part.error.unit, index, i, kind};
        return false;
      };
      if (found.first_bad != INT_MAX) return error(ErrorKind::logit, found.first_bad);
      if (found.finite == 0) return error(ErrorKind::empty_row, classes_ - 1);
      if (static_cast<C>(row[label_]) == -kInf) return error(ErrorKind::target_excluded, label_);
    }
    struct Classes {
      int excluded, first, last_pass;  // the first class that some passes exclude, the last of these
    } found{0, INT_MAX, 0};
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
    part.error = {-kInf, part.error.unit, found.first, found.last_pass, ErrorKind::some_passes};
    return false;
  }

  // The cross-entropies, and the factors of the gradient.
  __device__ void cross_entropies() {
    each_pass([](PassState<C>& s, int) { s.tile_sum = log(s.sum); });  // tiles are done with
    __syncthreads();
    const double passes = m(), smoothing = a_.problem.label_smoothing;
    const double ce_weight = 1 / (passes * divisor_);
    const double kl_weight = m() > 1 ? alpha_ / (2 * (passes - 1) * divisor_) : 0;
    double mean_log = 0;
    for (int i = 0; i < m(); ++i) mean_log += state_[i].tile_sum / passes;
    each_pass([&](PassState<C>& s, int i) {
      const double log_sum = s.tile_sum, max = s.max, label = static_cast<C>(a_.x.row(i, unit_)[label_]);
      s.ce = (1 - smoothing) * (log_sum + (max - label));
      if (smoothed()) s.ce += smoothing * (log_sum + (max - s.total / kept_classes_));
      const double inner = m() > 1 ? s.inner / s.sum - (log_sum - mean_log) : 0;
      s.offset = static_cast<C>((max - static_cast<double>(state_[0].max)) + (log_sum - state_[0].tile_sum));
      s.p_weight = static_cast<C>(ce_weight + kl_weight * (1 - inner));
      s.scale = static_cast<C>(1 / s.sum);
    });
    gradient_.kl_weight = static_cast<C>(kl_weight);
    gradient_.smoothing = static_cast<C>(ce_weight * smoothing / kept_classes_);
    gradient_.label_weight = static_cast<C>((1 - smoothing) / (passes * divisor_));
  }

  const rdrop::CrossEntropyUnits<T>& a_;
  const TileLayout& tiles_;
  PassState<C>* state_;
  T* tile_;
  C* means_;  // any number of passes: of x, by column
  double divisor_, alpha_;
  int classes_, kept_classes_ = 0, label_ = 0;
  int64_t unit_ = 0;
  KlAndGradient<T, M, threads> gradient_;
};

}  // namespace tandem::cuda
