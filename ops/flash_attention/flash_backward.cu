// Gradients of attention, from scores made again. With P = exp(s - log_sum), A = keep P / (1 - p), dA = g v^T
// and i = <out, g> of each query, which is <A, dA> and so <P, dP>:
//   dv = A^T g,   dS = P (keep dA / (1 - p) - i),   dq = scale dS k,   dk = scale dS^T q.
// Every sum has one block, which adds in the order of the tiles: the same bits in every run.
#include "autograd/device_kernel.h"
#include "ops/flash_attention/scores.cuh"

namespace tandem::flash {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// <out, g> of each query, of which half a warp has eight elements a lane.
constexpr int kInnerLanes = kFlashDim / 8;
__global__ void __launch_bounds__(cuda::kThreads) inner_kernel(const __grid_constant__ FlashBackward a) {
  const int64_t rows = a.passes * a.batch * a.heads * a.queries;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * cuda::kThreads + threadIdx.x) / kInnerLanes;
  const int column = threadIdx.x % kInnerLanes * 8;
  float sum = 0;
  if (row < rows && column < a.value_dim) {
    const auto queries = static_cast<unsigned>(a.queries), heads = static_cast<unsigned>(a.heads),
               batch = static_cast<unsigned>(a.batch);
    auto rest = static_cast<uint64_t>(row);
    const int64_t query = rest % queries;
    auto item = static_cast<unsigned>(rest / queries);
    const int64_t head = item % heads, sample = item / heads % batch, pass = item / heads / batch;
    const auto vector = [&](const HeadRows<const bf16>& x) {
      return *reinterpret_cast<const uint4*>(x.data + pass * x.pass + sample * x.batch + head * x.head +
                                             query * x.row + column);
    };
    const uint4 out = vector(a.out), g = vector(a.g);
    const auto add = [&](uint32_t x, uint32_t y) {
      sum += __uint_as_float(x << 16) * __uint_as_float(y << 16);
      sum += __uint_as_float(x & 0xffff0000) * __uint_as_float(y & 0xffff0000);
    };
    add(out.x, g.x), add(out.y, g.y), add(out.z, g.z), add(out.w, g.w);
  }
#pragma unroll
  for (int lanes = kInnerLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (row < rows && threadIdx.x % kInnerLanes == 0) a.inner[row] = sum;
}

template <int D> constexpr int64_t kTileBytes = int64_t{kKeys} * D * 2;

// Blocks that a multiprocessor shall have room for; 0: as many as the assembler sees fit. None spills so.
template <int D> constexpr int kBlocks = D <= 64 ? 0 : 2;

// dq: a block has 64 queries, and goes over the keys as the forward does.
template <int D>
__global__ void __launch_bounds__(kThreads, kBlocks<D>)
    queries_kernel(const __grid_constant__ FlashBackward a) {
  extern __shared__ __align__(16) char room[];  // two tiles of keys, two of values
  __shared__ __align__(4) uint8_t hidden[2][kKeys];
  const Lane lane;
  const Block block(a, a.queries, a.causal);
  const Ignored ignored(a, block);
  const HeadNoise noise(a, block);
  const auto keys_at = [&](int stage) { return room + stage * kTileBytes<D>; };
  const auto values_at = [&](int stage) { return room + (2 + stage) * kTileBytes<D>; };

  const int keys = static_cast<int>(a.causal ? min(a.keys, int64_t{block.first_row} + kRows) : a.keys);
  const int queries = static_cast<int>(a.queries) - block.first_row;
  const auto load = [&](int first, int stage) {
    const auto hides = [&](int row) { return ignored(first + row); };
    const int count = static_cast<int>(a.keys) - first;
    Tile<D>::template load<kKeys>(cuda::shared_address(keys_at(stage)), block.row(a.k, first), a.k.row, count,
                                  a.dim, hides);
    Tile<D>::template load<kKeys>(cuda::shared_address(values_at(stage)), block.row(a.v, first), a.v.row,
                                  count, a.value_dim, hides);
    if (ignored.data) note_hidden(hidden[stage], ignored, first, a.keys);
  };

  // Queries and cotangents pass through the room of the second tiles.
  const auto none = [](int) { return false; };
  Tile<D>::template load<kRows>(cuda::shared_address(keys_at(1)), block.row(a.q, block.first_row), a.q.row,
                                queries, a.dim, none);
  Tile<D>::template load<kRows>(cuda::shared_address(values_at(1)), block.row(a.g, block.first_row), a.g.row,
                                queries, a.value_dim, none);
  load(0, 0);
  cuda::wait_for_copies();
  __syncthreads();
  LeftFactor query[D / 16], cotangent[D / 16];
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    lane.left<D>(query[step], cuda::shared_address(keys_at(1)), lane.warp * 16, step);
    lane.left<D>(cotangent[step], cuda::shared_address(values_at(1)), lane.warp * 16, step);
  }

  const float by_two = a.scale * kLog2e;
  float log_sum[2], inner[2];  // of the lane's queries, the first in exponents of 2
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane.warp * 16 + lane.g + 8 * half;
    const int64_t at = block.sums + block.first_row + row;
    log_sum[half] = row < queries ? a.log_sums[at] * kLog2e : kInf;
    inner[half] = row < queries ? a.inner[at] : 0;
  }

  Sums dq[D / 8];
  for (int first = 0, stage = 0; first < keys; first += kKeys, stage ^= 1) {
    cuda::wait_for_copies();
    __syncthreads();  // the tile is there, and nobody reads the other one any more
    if (first + kKeys < keys) load(first + kKeys, stage ^ 1);
    const Sight sight(a, lane, block.first_row, first,
                      ignored.data ? reinterpret_cast<const uint32_t*>(hidden[stage]) : nullptr);
    const uint32_t key_tile = cuda::shared_address(keys_at(stage)),
                   value_tile = cuda::shared_address(values_at(stage));
    // The scores want the keys as they are, NaN and all, the products with them not.
    LeftFactor ds[kGroups];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group >= sight.groups) continue;
      Group scores, grads;
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        uint32_t right[4];
        lane.key_columns<D>(right, key_tile, group * 16, step);
        multiply_add(scores.first, scores.second, query[step], right);
        lane.key_columns<D>(right, value_tile, group * 16, step);
        multiply_add(grads.first, grads.second, cotangent[step], right);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::array<uint32_t, 4> words{};
        if (noise.threshold != 0)
          words = noise.words(block.first_row + lane.warp * 16 + lane.g + 8 * half,
                              first + group * 16 + lane.q * 4);
        each_score(scores, [&](int h, int key, float& s) {
          if (h != half) return;
          const float p = cuda::fast_exp2(fmaf(s, by_two, -log_sum[half]));
          const float da = grads.at(key / 2).at[2 * half + key % 2];
          s = p * (words[key] >= noise.threshold ? fmaf(da, noise.kept, -inner[half]) : -inner[half]);
        });
      }
      if (!sight.all) {
        const uint32_t seen[2] = {sight.bits(lane, group, 0), sight.bits(lane, group, 1)};
        each_score(scores, [&](int half, int key, float& s) {
          if ((seen[half] >> key & 1) == 0) s = 0;
        });
      }
      ds[group] = rounded(scores.first, scores.second);
    }
    if (a.causal && first + kKeys > block.first_row) {
      __syncthreads();  // everyone has their scores
      separate_not_finite<D, true>(lane, keys_at(stage), sight, dq);
    }
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      if (group >= sight.groups) continue;
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        uint32_t right[4];
        lane.key_rows<D>(right, key_tile, group * 16, step);
        multiply_add(dq[2 * step], dq[2 * step + 1], ds[group], right);
      }
    }
  }
  __syncthreads();  // the last tile was read
  store_rows<D>(lane, room, dq, a.scale, a.scale, block.row(a.dq, block.first_row), a.dq.row, queries, a.dim);
}

// dk and dv: a block has 64 keys, and goes over the queries. Scores lie the other way round, with keys as
// rows.
template <int D> constexpr int kQueries = D <= 64 ? 64 : 32;  // of a tile
template <int D> constexpr int64_t kQueryBytes = int64_t{kQueries<D>} * D * 2;
template <int D> constexpr int64_t kKeysRoom = 2 * kTileBytes<D> + 4 * kQueryBytes<D>;

// What dropout keeps of 16 keys and 8 queries: bit 4 (2 h + e) for key g + 8 h and query 2 q + e. Four lanes
// have the keys of one block of words: each draws one of the four that they need together.
__device__ uint32_t kept_bits(const HeadNoise& noise, const Lane& lane, int first_key, int first_query) {
  const int mine = lane.g % 4;  // key half mine / 2, query mine % 2
  const std::array<uint32_t, 4> words =
      noise.words(first_query + lane.q * 2 + mine % 2, first_key + mine / 2 * 8 + lane.g / 4 * 4);
  uint32_t kept = 0;  // of the key, and of all lanes
#pragma unroll
  for (int key = 0; key < 4; ++key) {
    const uint32_t all = __ballot_sync(0xffffffffu, words[key] >= noise.threshold);
    if (key == mine) kept = all;
  }
  return kept >> (lane.g / 4 * 16 + lane.q);  // bit 4 i: what the i-th of the four lanes drew
}

template <int D>
__global__ void __launch_bounds__(kThreads, kBlocks<D>) keys_kernel(const __grid_constant__ FlashBackward a) {
  constexpr int kTile = kQueries<D>;
  constexpr bool kHeld = D <= 64;               // keys and values, in registers
  extern __shared__ __align__(16) char room[];  // a tile of keys, one of values; two of queries, two of g
  __shared__ float log_sums[2][kTile], less_inner[2][kTile];
  const Lane lane;
  const Block block(a, a.keys, false);
  const Ignored ignored(a, block);
  const HeadNoise noise(a, block);
  char *const keys = room, *const values = room + kTileBytes<D>;
  const auto queries_at = [&](int stage) { return values + kTileBytes<D> + stage * kQueryBytes<D>; };
  const auto cotangents_at = [&](int stage) { return queries_at(2 + stage); };

  const int count = static_cast<int>(a.keys) - block.first_row, queries = static_cast<int>(a.queries);
  const auto load = [&](int first, int stage) {
    const auto none = [](int) { return false; };
    Tile<D>::template load<kTile>(cuda::shared_address(queries_at(stage)), block.row(a.q, first), a.q.row,
                                  queries - first, a.dim, none);
    Tile<D>::template load<kTile>(cuda::shared_address(cotangents_at(stage)), block.row(a.g, first), a.g.row,
                                  queries - first, a.value_dim, none);
    if (threadIdx.x < kTile) {
      const int query = first + static_cast<int>(threadIdx.x);
      const bool there = query < queries;
      log_sums[stage][threadIdx.x] = there ? a.log_sums[block.sums + query] * kLog2e : kInf;
      less_inner[stage][threadIdx.x] = there ? -a.inner[block.sums + query] : 0;
    }
  };

  const auto hides = [&](int row) { return ignored(block.first_row + row); };
  Tile<D>::template load<kRows>(cuda::shared_address(keys), block.row(a.k, block.first_row), a.k.row, count,
                                a.dim, hides);
  Tile<D>::template load<kRows>(cuda::shared_address(values), block.row(a.v, block.first_row), a.v.row, count,
                                a.value_dim, hides);
  const int begin = a.causal ? block.first_row : 0;  // queries before do not see these keys
  if (begin < queries) load(begin, 0);

  LeftFactor key[kHeld ? D / 16 : 1], value[kHeld ? D / 16 : 1];
  const auto load_keys = [&](int step, int at) {
    lane.left<D>(key[at], cuda::shared_address(keys), lane.warp * 16, step);
    lane.left<D>(value[at], cuda::shared_address(values), lane.warp * 16, step);
  };
  if constexpr (kHeld) {
    cuda::wait_for_copies();
    __syncthreads();
#pragma unroll
    for (int step = 0; step < D / 16; ++step) load_keys(step, step);
  }
  const int first_key = block.first_row + lane.warp * 16;
  bool seen[2];  // the lane's keys
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int at = first_key + lane.g + 8 * half;
    seen[half] = at < a.keys && !ignored(at);
  }
  const bool all_seen = __all_sync(0xffffffffu, seen[0] && seen[1]);

  const float by_two = a.scale * kLog2e;
  Sums dk[D / 8], dv[D / 8];
  for (int first = begin, stage = 0; first < queries; first += kTile, stage ^= 1) {
    cuda::wait_for_copies();
    __syncthreads();  // the tile is there, and nobody reads the other one any more
    if (first + kTile < queries) load(first + kTile, stage ^ 1);
    const uint32_t query_tile = cuda::shared_address(queries_at(stage)),
                   cotangent_tile = cuda::shared_address(cotangents_at(stage));
#pragma unroll 2
    for (int group = 0; group < kTile / 16; ++group) {
      const int first_query = first + group * 16;
      if (first_query >= queries) break;
      if (a.causal && first_query + 16 <= first_key) continue;
      // Every one of the queries sees all of the warp's keys.
      const bool whole = all_seen && (!a.causal || first_query >= first_key + 15);
      Group scores, grads;  // of key g + 8 h and query 8 i + 2 q + e: at(i).at[2 h + e]
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        const int at = kHeld ? step : 0;
        if constexpr (!kHeld) load_keys(step, 0);
        uint32_t right[4];
        lane.columns<D>(right, query_tile, group * 16, step);
        multiply_add(scores.first, scores.second, key[at], right);
        lane.columns<D>(right, cotangent_tile, group * 16, step);
        multiply_add(grads.first, grads.second, value[at], right);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int query = group * 16 + 8 * i + 2 * lane.q;  // in the tile
        const uint32_t keeps =
            noise.threshold == 0 ? ~0u : kept_bits(noise, lane, first_key, first_query + 8 * i);
#pragma unroll
        for (int at = 0; at < 4; ++at) {
          float &s = scores.at(i).at[at], &d = grads.at(i).at[at];
          const float p = cuda::fast_exp2(fmaf(s, by_two, -log_sums[stage][query + at % 2]));
          const float less = less_inner[stage][query + at % 2];
          const bool keep = keeps >> 4 * at & 1;
          s = keep ? p : p * 0;  // NaN stays
          d = p * (keep ? fmaf(d, noise.kept, less) : less);
        }
        if (whole) continue;
#pragma unroll
        for (int at = 0; at < 4; ++at) {
          const int half = at / 2;
          if (seen[half] && (!a.causal || first_key + lane.g + 8 * half <= first + query + at % 2)) continue;
          scores.at(i).at[at] = grads.at(i).at[at] = 0;
        }
      }
      const LeftFactor probabilities = rounded(scores.first, scores.second),
                       ds = rounded(grads.first, grads.second);
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        uint32_t right[4];
        lane.rows<D>(right, cotangent_tile, group * 16, step);
        multiply_add(dv[2 * step], dv[2 * step + 1], probabilities, right);
        lane.rows<D>(right, query_tile, group * 16, step);
        multiply_add(dk[2 * step], dk[2 * step + 1], ds, right);
      }
    }
  }
  cuda::wait_for_copies();  // of keys that no query sees
  __syncthreads();          // everyone has read the keys and values
  if (a.dk.data)
    store_rows<D>(lane, keys, dk, a.scale, a.scale, block.row(a.dk, block.first_row), a.dk.row, count, a.dim);
  if (a.dv.data)
    store_rows<D>(lane, values, dv, noise.kept, noise.kept, block.row(a.dv, block.first_row), a.dv.row, count,
                  a.value_dim);
}

void backward(const FlashBackward& a) {
  const int64_t lanes = a.passes * a.batch * a.heads * a.queries * kInnerLanes;
  cuda::launch<inner_kernel>(
      "attention",
      cuda::Grid{static_cast<unsigned>((lanes + cuda::kThreads - 1) / cuda::kThreads), cuda::kThreads}, a);
  with_dim(std::max(a.dim, a.value_dim), [&]<int D>() {
    if (a.dq.data) launch<queries_kernel<D>>(a, a.queries, 4 * kTileBytes<D>);
    if (a.dk.data || a.dv.data) launch<keys_kernel<D>>(a, a.keys, kKeysRoom<D>);
  });
}

const RegisterKernels registered{[] { register_kernel(backward); }};

}  // namespace
}  // namespace tandem::flash
