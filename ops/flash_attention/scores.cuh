// What becomes of a warp's scores in registers: which keys a query sees, and what dropout keeps. A tile has
// 64 keys in groups of sixteen; of a group and a query a lane has four keys in a row (Lane::key_columns).
#pragma once

#include <limits>

#include "ops/flash_attention/tiles.cuh"

namespace tandem::flash {

inline constexpr int kKeys = 64, kGroups = kKeys / 16;
inline constexpr float kLog2e = 1.4426950408889634f;

// Scores of 16 queries and 16 keys: of key 4 q + 2 i + e, for query g + 8 h, the lane has at(i).at[2 h + e].
struct Group {
  Sums first, second;
  __device__ Sums& at(int i) { return i == 0 ? first : second; }
};

// Calls f(half, key of the lane's four, score).
template <class F> __device__ void each_score(Group& group, F f) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int key = 0; key < 4; ++key) f(half, key, group.at(key / 2).at[2 * half + key % 2]);
}

// Which keys of a tile the warp's queries see.
struct Sight {
  int ends[2];             // of the lane's two queries: keys before these
  int groups;              // of sixteen keys, of which the warp's queries see any
  const uint32_t* hidden;  // a byte for each key, in shared memory; null: none is
  bool all;                // every query of the warp sees every key

  __device__ Sight(const FlashProblem& p, const Lane& lane, int first_query, int first_key,
                   const uint32_t* hidden)
      : hidden(hidden) {
    const int keys = static_cast<int>(p.keys) - first_key, query = first_query + lane.warp * 16 - first_key;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      ends[half] = p.causal ? min(keys, query + lane.g + 8 * half + 1) : keys;
    const int most = p.causal ? min(keys, query + 16) : keys, least = p.causal ? min(keys, query + 1) : keys;
    groups = min(kGroups, (most + 15) / 16);
    all = least >= kKeys && !hidden;
  }

  // Bits of the lane's four keys of a group, for one of its queries.
  __device__ uint32_t bits(const Lane& lane, int group, int half) const {
    const int key = group * 16 + lane.q * 4, seen = min(4, max(0, ends[half] - key));
    uint32_t result = (1u << seen) - 1;
    if (hidden) {
      const uint32_t bytes = hidden[key / 4];  // each 0 or 1
      result &= ~(bytes | bytes >> 7 | bytes >> 14 | bytes >> 21);
    }
    return result;
  }
};

// Which keys of a tile are hidden from every query, for Sight.
__device__ inline void note_hidden(uint8_t* to, const Ignored& ignored, int first_key, int64_t keys) {
  if (threadIdx.x < kKeys) {
    const int key = first_key + static_cast<int>(threadIdx.x);
    to[threadIdx.x] = key < keys && ignored(key) ? 1 : 0;
  }
}

// Dropout's words for scores of the block's head.
class HeadNoise {
 public:
  __device__ HeadNoise(const FlashProblem& p, const Block& block)
      : threshold(p.drops ? p.threshold[block.pass] : 0), kept(p.drops ? p.kept[block.pass] : 1.0f) {
    if (threshold == 0) return;
    draws_ = p.noise.draws();
    const auto rows = static_cast<unsigned>(p.samples_per_item);
    pass_ = static_cast<uint32_t>(block.pass);
    sample_ = static_cast<unsigned>(block.batch) / rows;
    const auto row = static_cast<unsigned>(block.batch) % rows;
    first_ = (static_cast<uint64_t>(row) * static_cast<uint64_t>(p.heads) + static_cast<uint64_t>(block.head))
             << 38;
  }
  // Of the keys key .. key + 3, `key` a multiple of 4.
  __device__ std::array<uint32_t, 4> words(int query, int key) const {
    return draws_.block(pass_, sample_,
                        first_ + (static_cast<uint64_t>(query) << 18) + static_cast<uint64_t>(key / 4));
  }

  uint32_t threshold;  // 0: nothing is dropped
  float kept;          // what is kept is multiplied by

 private:
  DeviceNoise::Draws draws_ = {};
  uint32_t pass_ = 0;
  uint64_t sample_ = 0, first_ = 0;
};

__device__ inline bool not_finite(uint32_t bits) { return (bits & 0x7f80) == 0x7f80; }

// For a tile of rows of keys of which some queries see a part only: what is not finite in it is 0 from then
// on, as 0 times it were not, and is added to the sums of those queries that see it; `spoils` them: as NaN.
// All of the block call it; the keys are those of the tile's diagonal.
template <int D, bool spoils>
__device__ void separate_not_finite(const Lane& lane, char* tile, const Sight& sight, Sums (&sums)[D / 8]) {
  const auto each_of_thread = [&](auto f) {
    for (int i = threadIdx.x; i < kKeys * D / 2; i += kThreads) f(reinterpret_cast<uint32_t*>(tile)[i]);
  };
  bool any = false;
  each_of_thread([&](uint32_t pair) { any |= not_finite(pair) || not_finite(pair >> 16); });
  if (!__syncthreads_or(any)) return;
  for (int key = 0; key < kKeys; ++key) {
#pragma unroll
    for (int piece = 0; piece < D / 8; ++piece) {
      const uint32_t pair =
          *reinterpret_cast<const uint32_t*>(tile + Tile<D>::place(key, piece) + lane.q * 4);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const uint32_t bits = e == 0 ? pair & 0xffff : pair >> 16;
        if (!not_finite(bits)) continue;
        const float value = __uint_as_float(bits << 16);
#pragma unroll
        for (int half = 0; half < 2; ++half)
          if (key < sight.ends[half]) sums[piece].at[2 * half + e] += spoils ? value - value : value;
      }
    }
  }
  __syncthreads();
  each_of_thread([&](uint32_t& pair) {
    pair = (not_finite(pair) ? 0 : pair & 0xffff) | (not_finite(pair >> 16) ? 0 : pair & 0xffff0000);
  });
  __syncthreads();
}

}  // namespace tandem::flash
