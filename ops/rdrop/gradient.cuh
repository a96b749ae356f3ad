// KL and gradient of a unit's cross-entropy on a device, class by class, once the statistics of its rows are
// known (unit.cuh). Formulas and notation: cpu_blocks.h.
#pragma once

#include <limits>

#include "cuda/map.cuh"
#include "ops/rdrop/kernel.h"

namespace tandem::cuda {

// What is known of one pass of the unit.
template <class C> struct PassState {
  double sum, inner, total;     // over the tiles so far: of e, of e (x - mean x), of the logits
  double tile_sum, tile_inner;  // of the last tile
  double ce;
  C max, tile_max;
  int argmax, tile_argmax;  // the class of the largest logit, the first of equals
  C scale, offset, p_weight;
};

// Some classes of all passes, in shared memory.
template <class T> struct LogitTile {
  const T* data;
  int pitch;
  __device__ compute_t<T> logit(int pass, int column) const {
    return static_cast<compute_t<T>>(data[static_cast<int64_t>(pass) * pitch + column]);
  }
};

// M: the number of passes, when it is small; 0: any. Threads take neighbouring classes. The gradient may take
// the logits' place: a thread has read a class of all passes, or of one pass, before it writes it.
template <class T, int M, int threads> struct KlAndGradient {
  using C = compute_t<T>;
  static constexpr C kInf = std::numeric_limits<C>::infinity();
  static constexpr int kSome = M > 0 ? M : 1;

  LogitTile<T> tile;
  int passes = 1, label = 0;  // label: relative to the tile, perhaps outside
  const PassState<C>* state;
  C kl_weight = 0, smoothing = 0, label_weight = 0;

  // This thread's part of sum_c sum_i (P_i - mean P) d_i over n classes; and the gradient, whose passes are
  // `stride` apart.
  template <bool gradient> __device__ double run(int n, T* g, int64_t stride) const {
    Factors of[kSome];
#pragma unroll
    for (int i = 0; i < kSome; ++i) of[i] = factors(i);
    C total = 0;
    for (int c = threadIdx.x; c < n; c += threads) {
      const C z0 = tile.logit(0, c);
      if (z0 == -kInf) {  // excluded
        if constexpr (gradient)
          for (int i = 0; i < (M > 0 ? M : passes); ++i) g[i * stride + c] = T(0);
      } else if constexpr (M > 0) {
        total += few<gradient>(of, z0, c, g, stride);
      } else {
        total += many<gradient>(of[0], z0, c, g, stride);
      }
    }
    return total;
  }

 private:
  struct Factors {
    C max, scale, offset, p_weight;
  };
  __device__ Factors factors(int i) const {
    return {state[i].max, state[i].scale, state[i].offset, state[i].p_weight};
  }

  struct Terms {
    C p, t, difference;  // P_i, t_i, P_i - P_0
  };
  __device__ Terms terms(int i, int c, C z0, C p0, const Factors& f) const {
    const C z = tile.logit(i, c), p = exp(z - f.max) * f.scale, t = (z - z0) - f.offset;
    return {p, t, rdrop::probability_difference(p, p0, t)};
  }
  __device__ C gradient_at(int c, const Terms& at, C p_weight, C mean_t, C common) const {
    const C g = at.p * (p_weight + kl_weight * (at.t - mean_t)) - common;
    return c == label ? g - label_weight : g;
  }

  template <bool gradient>
  __device__ C few(const Factors (&of)[kSome], C z0, int c, T* g, int64_t stride) const {
    constexpr C share = C(1) / C(kSome);
    Terms at[kSome];
    at[0] = {exp(z0 - of[0].max) * of[0].scale, 0, 0};
    C mean_t = 0, mean_difference = 0, mean_p = at[0].p * share, total = 0;
#pragma unroll
    for (int i = 1; i < M; ++i) {
      at[i] = terms(i, c, z0, at[0].p, of[i]);
      mean_t += at[i].t * share, mean_difference += at[i].difference * share, mean_p += at[i].p * share;
    }
    if constexpr (M == 2) {
      total = at[1].difference * at[1].t * share;  // what the sum below comes to
    } else {
#pragma unroll
      for (int i = 0; i < M; ++i) total += (at[i].difference - mean_difference) * (at[i].t - mean_t);
    }
    if constexpr (gradient) {
      const C common = kl_weight * mean_p + smoothing;
#pragma unroll
      for (int i = 0; i < M; ++i) g[i * stride + c] = gradient_at(c, at[i], of[i].p_weight, mean_t, common);
    }
    return total;
  }

  // The same for any number, computed twice rather than kept.
  template <bool gradient> __device__ C many(const Factors& first, C z0, int c, T* g, int64_t stride) const {
    const C share = C(1) / C(passes), p0 = exp(z0 - first.max) * first.scale;
    C mean_t = 0, mean_difference = 0, mean_p = 0, total = 0;
    for (int i = 0; i < passes; ++i) {
      const Terms at = terms(i, c, z0, p0, factors(i));
      mean_t += at.t * share, mean_difference += at.difference * share, mean_p += at.p * share;
    }
    const C common = kl_weight * mean_p + smoothing;
    for (int i = 0; i < passes; ++i) {
      const Factors f = factors(i);
      const Terms at = terms(i, c, z0, p0, f);
      total += (at.difference - mean_difference) * (at.t - mean_t);
      if constexpr (gradient) g[i * stride + c] = gradient_at(c, at, f.p_weight, mean_t, common);
    }
    return total;
  }
};

}  // namespace tandem::cuda
