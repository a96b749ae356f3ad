// Attention whose scores never leave registers: a block has 64 queries of a head, reads the keys and values
// in tiles of 64, the next while it works at one, and corrects its sums whenever a row's maximum grows
// (Milakov, Gimelshein, arXiv 1805.02867; Dao, "FlashAttention-2", arXiv 2307.08691).
#include "autograd/device_kernel.h"
#include "ops/flash_attention/scores.cuh"

namespace tandem::flash {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The larger, or the sum, of what the four lanes of a row have.
__device__ float max_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ float sum_of_row(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

template <int D> constexpr int64_t kTileBytes = int64_t{kKeys} * D * 2;

// Blocks that a multiprocessor shall have room for; 0: as many as the assembler sees fit. None spills so.
template <int D> constexpr int kBlocks = D <= 64 ? 4 : 0;

template <int D>
__global__ void __launch_bounds__(kThreads, kBlocks<D>)
    forward_kernel(const __grid_constant__ FlashForward a) {
  extern __shared__ __align__(16) char room[];  // two tiles of keys, two of values
  __shared__ __align__(4) uint8_t hidden[2][kKeys];
  const Lane lane;
  const Block block(a, a.queries, a.causal);
  const Ignored ignored(a, block);
  const HeadNoise noise(a, block);
  const auto keys_at = [&](int stage) { return room + stage * kTileBytes<D>; };
  const auto values_at = [&](int stage) { return room + (2 + stage) * kTileBytes<D>; };

  const int keys = static_cast<int>(a.causal ? min(a.keys, int64_t{block.first_row} + kRows) : a.keys);
  const auto load = [&](int first, int stage) {
    const auto hides = [&](int row) { return ignored(first + row); };
    const int count = static_cast<int>(a.keys) - first;
    Tile<D>::template load<kKeys>(cuda::shared_address(keys_at(stage)), block.row(a.k, first), a.k.row, count,
                                  a.dim, hides);
    Tile<D>::template load<kKeys>(cuda::shared_address(values_at(stage)), block.row(a.v, first), a.v.row,
                                  count, a.value_dim, hides);
    if (ignored.data) note_hidden(hidden[stage], ignored, first, a.keys);
  };

  // The queries pass through the room of the second tile of keys.
  Tile<D>::template load<kRows>(cuda::shared_address(keys_at(1)), block.row(a.q, block.first_row), a.q.row,
                                static_cast<int>(a.queries) - block.first_row, a.dim,
                                [](int) { return false; });
  if (keys > 0) load(0, 0);
  cuda::wait_for_copies();
  __syncthreads();
  LeftFactor queries[D / 16];
#pragma unroll
  for (int step = 0; step < D / 16; ++step)
    lane.left<D>(queries[step], cuda::shared_address(keys_at(1)), lane.warp * 16, step);

  const float by_two = a.scale * kLog2e;  // of scores in exponents of 2
  float largest[2] = {-kInf, -kInf}, total[2] = {};
  Sums out[D / 8];
  for (int first = 0, stage = 0; first < keys; first += kKeys, stage ^= 1) {
    cuda::wait_for_copies();
    __syncthreads();  // the tile is there, and nobody reads the other one any more
    if (first + kKeys < keys) load(first + kKeys, stage ^ 1);
    const Sight sight(a, lane, block.first_row, first,
                      ignored.data ? reinterpret_cast<const uint32_t*>(hidden[stage]) : nullptr);

    Group scores[kGroups];
    const uint32_t key_tile = cuda::shared_address(keys_at(stage));
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group < sight.groups) {
#pragma unroll
        for (int step = 0; step < D / 16; ++step) {
          uint32_t right[4];
          lane.key_columns<D>(right, key_tile, group * 16, step);
          multiply_add(scores[group].first, scores[group].second, queries[step], right);
        }
      }
      if (!sight.all) {
        const uint32_t seen[2] = {sight.bits(lane, group, 0), sight.bits(lane, group, 1)};
        each_score(scores[group], [&](int half, int key, float& s) {
          if ((seen[half] >> key & 1) == 0) s = -kInf;
        });
      }
    }

    float shift[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float max = largest[half];
#pragma unroll
      for (Group& group : scores)
        each_score(group, [&](int h, int, float s) {
          if (h == half) max = fmaxf(max, s);
        });
      max = max_of_row(max);
      shift[half] = max == -kInf ? 0 : max * by_two;
      const float correction = cuda::fast_exp2(largest[half] * by_two - shift[half]);
      largest[half] = max;
      total[half] *= correction;
#pragma unroll
      for (Sums& sums : out) sums.at[2 * half] *= correction, sums.at[2 * half + 1] *= correction;
    }

    if (a.causal && first + kKeys > block.first_row)
      separate_not_finite<D, false>(lane, values_at(stage), sight, out);
    const uint32_t value_tile = cuda::shared_address(values_at(stage));
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group >= sight.groups) continue;
      each_score(scores[group], [&](int half, int, float& s) {
        s = cuda::fast_exp2(fmaf(s, by_two, -shift[half]));
        total[half] += s;
      });
      if (noise.threshold != 0) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const std::array<uint32_t, 4> words = noise.words(
              block.first_row + lane.warp * 16 + lane.g + 8 * half, first + group * 16 + lane.q * 4);
          each_score(scores[group], [&](int h, int key, float& s) {
            if (h == half && words[key] < noise.threshold) s = 0;
          });
        }
      }
      const LeftFactor probabilities = rounded(scores[group].first, scores[group].second);
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        uint32_t right[4];
        lane.key_rows<D>(right, value_tile, group * 16, step);
        multiply_add(out[2 * step], out[2 * step + 1], probabilities, right);
      }
    }
  }

  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = sum_of_row(total[half]);
    const bool none = largest[half] == -kInf && sum == 0;  // not of NaN
    factor[half] = none ? 0 : noise.kept / sum;
    const int query = block.first_row + lane.warp * 16 + lane.g + 8 * half;
    if (lane.q == 0 && query < a.queries)
      a.log_sums[block.sums + query] = none ? kInf : largest[half] * a.scale + logf(sum);
  }
  __syncthreads();  // the last tile was read
  store_rows<D>(lane, room, out, factor[0], factor[1], block.row(a.out, block.first_row), a.out.row,
                static_cast<int>(a.queries) - block.first_row, a.value_dim);
}

void forward(const FlashForward& a) {
  with_dim(std::max(a.dim, a.value_dim),
           [&]<int D>() { launch<forward_kernel<D>>(a, a.queries, 4 * kTileBytes<D>); });
}

const RegisterKernels registered{[] { register_kernel(forward); }};

}  // namespace
}  // namespace tandem::flash
