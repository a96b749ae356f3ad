// Maxima, sums of exponentials and inner products of a unit's tile on a device. Formulas and notation:
// cpu_blocks.h.
#pragma once

#include <limits>

#include "ops/rdrop/tile.cuh"

namespace tandem::cuda {

// M: the number of passes, when it is small; 0: any, one after another. What is found goes to the states.
template <class T, int M, int threads> struct TileStatistics {
  using C = compute_t<T>;
  static constexpr C kInf = std::numeric_limits<C>::infinity();
  static constexpr int kSome = M > 0 ? M : 1, V = M > 0 ? 16 / static_cast<int>(sizeof(T)) : 1;

  LogitTile<T> tile;
  int passes;
  PassState<C>* state;
  C* means;       // any number of passes: of x, by column
  bool careful;   // some classes are excluded, at -inf in all passes
  bool smoothed;  // the logits' sum is asked for

  // The largest logits of n classes. `label`: relative to the tile, perhaps outside.
  __device__ void find_maxima(int n, int label) const {
    struct Top {
      C max[kSome], before[kSome];
    };
    for (int first = 0; first < (M > 0 ? 1 : passes); ++first) {
      Largest<T> all[kSome], before[kSome];
      each_class<threads, V>(n, careful, [&]<int W>(Classes<W>, int c) {
#pragma unroll
        for (int i = 0; i < kSome; ++i) {
          const Vector<T, W> z = tile.template vector<W>(first + i, c);
          const Largest<T> most(z);
          all[i].add(most);
          if (c + W <= label) {
            before[i].add(most);
          } else if (c < label) {
#pragma unroll
            for (int w = 0; w + 1 < W; ++w)
              if (c + w < label) before[i].add(Largest<T>(Vector<T, 1>{z.at[w]}));
          }
        }
      });
      Top top;
#pragma unroll
      for (int i = 0; i < kSome; ++i) top.max[i] = all[i].value(), top.before[i] = before[i].value();
      top = block_reduce<threads>(top, [](const Top& p, const Top& q) {
        Top result;
#pragma unroll
        for (int i = 0; i < kSome; ++i) {
          result.max[i] = max(p.max[i], q.max[i]);
          result.before[i] = max(p.before[i], q.before[i]);
        }
        return result;
      });
      if (threadIdx.x != 0) continue;
#pragma unroll
      for (int i = 0; i < kSome; ++i)
        state[first + i].tile_max = top.max[i], state[first + i].tile_before = top.before[i];
    }
  }

  // Sums over n classes. False where one is not finite, as where a logit is not (but for -inf in one pass
  // alone, where it takes no part).
  __device__ bool sum(int n) const {
    if constexpr (M == 0) {
      for (int c = threadIdx.x; c < n; c += threads) {
        C mean = 0;
        for (int i = 0; i < passes; ++i) mean += (tile.logit(i, c) - shift(i)) * (C(1) / C(passes));
        means[c] = mean;
      }
    }
    bool finite = true;
    for (int first = 0; first < (M > 0 ? 1 : passes); ++first)
      finite &= smoothed ? sum_of<true>(n, first) : sum_of<false>(n, first);
    return finite;
  }

 private:
  template <bool totals> struct Sums {
    C sum[kSome] = {}, inner[kSome] = {}, total[totals ? kSome : 1] = {};
    __device__ Sums operator+(const Sums& other) const {
      Sums result;
#pragma unroll
      for (int i = 0; i < kSome; ++i) {
        result.sum[i] = sum[i] + other.sum[i];
        if (M != 1) result.inner[i] = inner[i] + other.inner[i];
        if (totals) result.total[i] = total[i] + other.total[i];
      }
      return result;
    }
  };

  // What a pass's logits of the tile are relative to: their maximum, or 0 where all of them are excluded.
  __device__ C shift(int i) const { return state[i].tile_max == -kInf ? C(0) : state[i].tile_max; }

  template <bool totals> __device__ bool sum_of(int n, int first) const {
    C max[kSome];
#pragma unroll
    for (int i = 0; i < kSome; ++i) max[i] = shift(first + i);
    Sums<totals> sums;
    each_class<threads, V>(n, careful, [&]<int W>(Classes<W>, int c) {
      Vector<C, W> z[kSome];
#pragma unroll
      for (int i = 0; i < kSome; ++i) z[i] = tile.template logits<W>(first + i, c);
#pragma unroll
      for (int w = 0; w < W; ++w) {
        C x[kSome];
        [[maybe_unused]] C deviation[kSome];
#pragma unroll
        for (int i = 0; i < kSome; ++i) x[i] = z[i].at[w] - max[i];
        if (W == 1 && careful && x[0] == -kInf) return;
        if constexpr (M > 1) deviations(x, deviation);
        if constexpr (M == 0) deviation[0] = x[0] - means[c];
#pragma unroll
        for (int i = 0; i < kSome; ++i) {
          const C e = Exponential<C>::of(x[i] * Exponential<C>::kUnit);
          sums.sum[i] += e;
          if constexpr (M != 1) sums.inner[i] += e * deviation[i];
          if constexpr (totals) sums.total[i] += z[i].at[w];
        }
      }
    });
    sums = block_sum<threads>(sums);
    bool finite = true;
#pragma unroll
    for (int i = 0; i < kSome; ++i) {
      const C parts = sums.sum[i] + sums.inner[i] + sums.total[totals ? i : 0];
      finite &= parts - parts == 0;
      if (threadIdx.x != 0) continue;
      PassState<C>& s = state[first + i];
      s.tile_sum = sums.sum[i], s.tile_inner = sums.inner[i], s.tile_total = sums.total[totals ? i : 0];
    }
    return finite;
  }
};

}  // namespace tandem::cuda
