// The last sweep over the rows of a unit of the R-Drop cross-entropy, in shared memory: what the distance and
// the gradient need when the sums of the first one are known. See rdrop_sweep.h for formulas and notation.
#pragma once

#include <limits>

#include "cuda/map.cuh"
#include "ops/rdrop/gap.h"
#include "ops/rdrop/kernel.h"

namespace tandem::cuda {

// What is known of one pass of the unit.
template <class C>
struct PassState {
  double sum, inner, total;     // over the tiles so far: of e, of e (x - mean x), of the logits
  double tile_sum, tile_inner;  // of the last tile
  double fit;
  C max, tile_max;
  int hit, tile_hit;  // the class of the largest logit, the first of equals
  C scale, offset, own;
};

// Some classes of all passes.
template <class T>
struct RDropTile {
  const T* data;
  int pitch;
  __device__ compute_t<T> logit(int pass, int column) const {
    return static_cast<compute_t<T>>(data[static_cast<int64_t>(pass) * pitch + column]);
  }
};

// M: the number of passes, when it is small; 0: any. Threads take neighbouring classes. The gradient may take
// the logits' place: a thread has read a class of all passes, or of one pass, before it writes it.
template <class T, int M, int threads>
struct RDropLastSweep {
  using C = compute_t<T>;
  static constexpr C kInf = std::numeric_limits<C>::infinity();
  static constexpr int kSome = M > 0 ? M : 1;

  RDropTile<T> tile;
  int passes = 1, label = 0;  // label: relative to the tile, perhaps outside
  const PassState<C>* state;
  C mean_weight = 0, smoothing = 0, hit_weight = 0;

  // This thread's part of sum_c sum_i (P_i - mean P) d_i over n classes; and the gradient, whose passes are
  // `stride` apart.
  template <bool gradient>
  __device__ double run(int n, T* g, int64_t stride) const {
    Weights of[kSome];
#pragma unroll
    for (int i = 0; i < kSome; ++i) of[i] = weights(i);
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
  struct Weights {
    C max, scale, offset, own;
  };
  __device__ Weights weights(int i) const {
    return {state[i].max, state[i].scale, state[i].offset, state[i].own};
  }

  struct Gap {
    C p, t, gap;
  };
  __device__ Gap gap(int i, int c, C z0, C p0, const Weights& w) const {
    const C z = tile.logit(i, c), p = exp(z - w.max) * w.scale, t = (z - z0) - w.offset;
    return {p, t, detail::probability_gap(p, p0, t)};
  }
  __device__ C slope(const Gap& at, C own, C mean_t, C common, int c) const {
    const C g = at.p * (own + mean_weight * (at.t - mean_t)) - common;
    return c == label ? g - hit_weight : g;
  }

  template <bool gradient>
  __device__ C few(const Weights (&of)[kSome], C z0, int c, T* g, int64_t stride) const {
    constexpr C share = C(1) / C(kSome);
    Gap at[kSome];
    at[0] = {exp(z0 - of[0].max) * of[0].scale, 0, 0};
    C mean_t = 0, mean_gap = 0, mean_p = at[0].p * share, total = 0;
#pragma unroll
    for (int i = 1; i < M; ++i) {
      at[i] = gap(i, c, z0, at[0].p, of[i]);
      mean_t += at[i].t * share, mean_gap += at[i].gap * share, mean_p += at[i].p * share;
    }
    if constexpr (M == 2) {
      total = at[1].gap * at[1].t * share;  // what the sum below comes to
    } else {
#pragma unroll
      for (int i = 0; i < M; ++i) total += (at[i].gap - mean_gap) * (at[i].t - mean_t);
    }
    if constexpr (gradient) {
      const C common = mean_weight * mean_p + smoothing;
#pragma unroll
      for (int i = 0; i < M; ++i) g[i * stride + c] = slope(at[i], of[i].own, mean_t, common, c);
    }
    return total;
  }

  // The same for any number, computed twice rather than kept.
  template <bool gradient>
  __device__ C many(const Weights& first, C z0, int c, T* g, int64_t stride) const {
    const C share = C(1) / C(passes), p0 = exp(z0 - first.max) * first.scale;
    C mean_t = 0, mean_gap = 0, mean_p = 0, total = 0;
    for (int i = 0; i < passes; ++i) {
      const Gap at = gap(i, c, z0, p0, weights(i));
      mean_t += at.t * share, mean_gap += at.gap * share, mean_p += at.p * share;
    }
    const C common = mean_weight * mean_p + smoothing;
    for (int i = 0; i < passes; ++i) {
      const Weights w = weights(i);
      const Gap at = gap(i, c, z0, p0, w);
      total += (at.gap - mean_gap) * (at.t - mean_t);
      if constexpr (gradient) g[i * stride + c] = slope(at, w.own, mean_t, common, c);
    }
    return total;
  }
};

}  // namespace tandem::cuda
