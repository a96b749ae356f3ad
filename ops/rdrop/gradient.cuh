// KL and gradient of a unit's cross-entropy on a device, class by class, once the statistics of its rows are
// known (unit.cuh). Formulas and notation: cpu_blocks.h.
#pragma once

#include <limits>

#include "ops/rdrop/tile.cuh"

namespace tandem::cuda {

// M: the number of passes, when it is small; 0: any.
template <class T, int M, int threads> struct KlAndGradient {
  using C = compute_t<T>;
  static constexpr C kInf = std::numeric_limits<C>::infinity();
  static constexpr int kSome = M > 0 ? M : 1, V = M > 0 ? 16 / static_cast<int>(sizeof(T)) : 1;

  LogitTile<T> tile;
  int passes = 1, label = 0;  // label: relative to the tile, perhaps outside
  const PassState<C>* state;
  bool careful = false;  // some classes are excluded, at -inf in all passes
  C kl_weight = 0, smoothing = 0, label_weight = 0;

  // This thread's part of sum_c sum_i (P_i - mean P) d_i over n classes; and the gradient, unless g is null,
  // whose passes are `stride` apart. It may take the logits' place: a thread has read a class of all passes,
  // or of one pass, before it writes it. taken(c) is called once they have been read.
  template <class Taken> __device__ C run(int n, T* g, int64_t stride, Taken taken) const {
    Factors of[kSome];
#pragma unroll
    for (int i = 0; i < kSome; ++i) of[i] = factors(i);
    C total = 0;
    bool has_label = false;
    each_class<threads, V>(n, careful, [&]<int W>(Classes<W>, int c) {
      if constexpr (M > 0) {
        Vector<C, W> z[M];
#pragma unroll
        for (int i = 0; i < M; ++i) z[i] = tile.template logits<W>(i, c);
        taken(c);
        has_label |= static_cast<unsigned>(label - c) < W;
#pragma unroll
        for (int w = 0; w < W; ++w) {
          C at[M];
#pragma unroll
          for (int i = 0; i < M; ++i) at[i] = z[i].at[w];
          total += few(at, of);
#pragma unroll
          for (int i = 0; i < M; ++i) z[i].at[w] = at[i];
        }
        if (!g) return;
#pragma unroll
        for (int i = 0; i < M; ++i) store<T, W>(g + i * stride + c, z[i]);
      } else {
        total += many(c, of[0], g, stride);
      }
    });
    if constexpr (M > 0) {
      if (!g || !has_label) return total;
      C at[M];  // once more, by the thread that has written it
#pragma unroll
      for (int i = 0; i < M; ++i) at[i] = state[i].label;
      few(at, of);
#pragma unroll
      for (int i = 0; i < M; ++i) g[i * stride + label] = T(at[i] - label_weight);
    }
    return total;
  }

 private:
  struct Factors {
    C max, log_sum, offset, p_weight;
  };
  __device__ Factors factors(int i) const {
    return {state[i].max, state[i].log_sum, state[i].offset, state[i].p_weight};
  }
  __device__ static C probability(C z, const Factors& of) {
    return Exponential<C>::of((z - of.max) * Exponential<C>::kUnit - of.log_sum);
  }
  __device__ C gradient_at(C p, C deviation, C p_weight, C mean_p) const {
    return p * (p_weight + kl_weight * deviation) - (kl_weight * mean_p + smoothing);
  }

  // A class's part of the sum; its gradient takes the logits' place, but for what is subtracted at the label.
  __device__ C few(C (&z)[kSome], const Factors (&of)[kSome]) const {
    if (careful && z[0] == -kInf) {
#pragma unroll
      for (int i = 0; i < M; ++i) z[i] = 0;
      return 0;
    }
    C p[kSome], t[kSome], d[kSome], difference[kSome], mean_p = 0, mean_difference = 0, sum = 0;
#pragma unroll
    for (int i = 0; i < M; ++i) {
      p[i] = probability(z[i], of[i]);
      t[i] = i == 0 ? 0 : (z[i] - z[0]) - of[i].offset;
      difference[i] = i == 0 ? 0 : rdrop::probability_difference(p[i], p[0], t[i]);
    }
    deviations(t, d);
    if constexpr (M == 2) {
      sum = difference[1] * d[1];  // what the sum below comes to
      mean_p = (p[0] + p[1]) * C(0.5);
    } else {
#pragma unroll
      for (int i = 0; i < M; ++i)
        mean_p += p[i] * (C(1) / C(M)), mean_difference += difference[i] * (C(1) / C(M));
#pragma unroll
      for (int i = 0; i < M; ++i) sum += (difference[i] - mean_difference) * d[i];
    }
#pragma unroll
    for (int i = 0; i < M; ++i) z[i] = gradient_at(p[i], d[i], of[i].p_weight, mean_p);
    return sum;
  }

  // The same for any number, computed twice rather than kept.
  __device__ C many(int c, const Factors& first, T* g, int64_t stride) const {
    const C share = C(1) / C(passes), z0 = tile.logit(0, c), p0 = probability(z0, first);
    const bool excluded = careful && z0 == -kInf;
    struct Terms {
      C p, t, difference;  // P_i, t_i, P_i - P_0
    };
    const auto terms = [&](int i, const Factors& of) {
      const C z = tile.logit(i, c), p = probability(z, of), t = (z - z0) - of.offset;
      return Terms{p, t, rdrop::probability_difference(p, p0, t)};
    };
    C mean_t = 0, mean_difference = 0, mean_p = 0, sum = 0;
    for (int i = 0; i < passes; ++i) {
      const Terms at = terms(i, factors(i));
      mean_t += at.t * share, mean_difference += at.difference * share, mean_p += at.p * share;
    }
    for (int i = 0; i < passes; ++i) {
      const Factors of = factors(i);
      const Terms at = terms(i, of);
      if (!excluded) sum += (at.difference - mean_difference) * (at.t - mean_t);
      if (!g) continue;
      const C value = excluded ? 0 : gradient_at(at.p, at.t - mean_t, of.p_weight, mean_p);
      g[i * stride + c] = T(c == label ? value - label_weight : value);
    }
    return sum;
  }
};

}  // namespace tandem::cuda
