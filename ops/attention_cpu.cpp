#include "ops/attention_cpu.h"

#include <cmath>
#include <limits>

#include "autograd/parallel.h"
#include "ops/loops/row_reduce.h"
#include "ops/loops/scratch.h"
#include "ops/products/tile_gemm.h"

namespace tandem::detail {
namespace {

constexpr int64_t kTileElements = 16384;  // scores of a tile of queries: half of a core's L2 cache
constexpr int64_t kCausalRows = 24;       // short tiles skip more of the keys that no row can see
constexpr int64_t kChunkProducts = int64_t{1} << 22;
constexpr int64_t kReadingCosts = 8;  // reading keys and values, in queries

// Hands out parts of one thread's scratch memory, each 64-byte aligned.
template <class C> class Pool {
 public:
  explicit Pool(int64_t elements) : next_(scratch_of<C>(Slot::attention, elements)) {}
  C* take(int64_t elements) { return std::exchange(next_, next_ + padded(elements)); }
  static int64_t padded(int64_t elements) { return (elements + 15) / 16 * 16; }

 private:
  C* next_;
};

// The rows of one head as C with dense columns, zeros up to tile_width: copied to `room`.
template <class T, class C = compute_t<T>>
const C* pack(const T* x, int64_t row, int64_t col, int64_t rows, int64_t cols, C* room) {
  const int64_t width = tile_width<C>(cols);
  for (int64_t i = 0; i < rows; ++i, x += row) {
    C* to = room + i * width;
    if (col == 1) {
#pragma omp simd
      for (int64_t j = 0; j < cols; ++j) to[j] = x[j];
    } else {
      for (int64_t j = 0; j < cols; ++j) to[j] = x[j * col];
    }
    std::fill(to + cols, to + width, C(0));
  }
  return room;
}

template <class T, class C = compute_t<T>>
void unpack(const C* x, int64_t width, C factor, int64_t rows, int64_t cols, T* to, int64_t row) {
  for (int64_t i = 0; i < rows; ++i, x += width, to += row) {
#pragma omp simd
    for (int64_t j = 0; j < cols; ++j) to[j] = x[j] * factor;
  }
}

// One (pass, sample, head), and the loops over its tiles of queries.
template <class T> class Head {
  using C = compute_t<T>;
  static constexpr C kInf = std::numeric_limits<C>::infinity();

 public:
  Head(const AttentionProblem& problem, int64_t index) : p_(problem) {
    head_ = index % p_.heads;
    batch_ = index / p_.heads % p_.batch;
    pass_ = index / p_.heads / p_.batch;
    sums_at_ = index * p_.queries;
    if (p_.query_rows.defined()) {
      queries_ = p_.query_rows[batch_], keys_of_ = p_.key_rows[batch_];
      sums_at_ = (pass_ * p_.heads + head_) * p_.query_rows.rows() + queries_.first_row;
      keys_ = keys_of_.rows;
    }
    if (p_.ignored.data) {
      ignored_ = p_.ignored.data + pass_ * p_.ignored.pass + batch_ * p_.ignored.batch +
                 keys_of_.first_row * p_.ignored.col;
      // Keys after the last one that counts are padding: not even multiplied.
      while (keys_ > 0 && ignored_[(keys_ - 1) * p_.ignored.col]) --keys_;
    }
    width_ = tile_width<C>(keys_);
    if (p_.noise) {
      threshold_ = drop_threshold(p_.noise->rates[pass_]);
      kept_ = kept_scale(p_.noise->rates[pass_]);
    }
  }

  static int64_t tile_rows(const AttentionProblem& p) {
    const int64_t fit = kTileElements / std::max<int64_t>(1, tile_width<C>(p.keys)) / kTileRows * kTileRows;
    const int64_t rows = std::clamp(fit, kTileRows, 8 * kCausalRows);
    return std::min(p.queries, p.causal ? std::min(rows, kCausalRows) : rows);
  }

  void forward(const AttentionForward<T>& a) {
    if (!a.recorded && p_.queries == 1 && a.k.col == 1 && a.v.col == 1) return forward_in_place(a);
    const ScoreSums<C> sums{a.sums.shifts + sums_at_, a.sums.sums + sums_at_};
    const int64_t value_width = tile_width<C>(p_.value_dim);
    Pool<C> pool(forward_scratch(p_));
    C* rows = pool.take(std::max(keys_, tile_rows(p_)) * tile_width<C>(p_.dim));
    const C* keys = transposed_keys(a.k, rows, pool.take(p_.dim * width_));
    const C* values = packed_keys(a.v, p_.value_dim, pool.take(keys_ * value_width));
    const int64_t step = step_for(values, value_width, nullptr, 0);
    C *scores = pool.take(step * width_), *result = pool.take(step * value_width);
    uint32_t* words = cleared_words(pool);
    for (int64_t begin = 0; begin < queries_.rows; begin += step) {
      const int64_t n = std::min(step, queries_.rows - begin), seen = visible(begin + n - 1);
      const C* queries = packed(query(a.q, begin), a.q, n, p_.dim, rows);
      tile_gemm(n, seen, p_.dim, queries, tile_width<C>(p_.dim), 1, keys, width_, scores, width_);
      for (int64_t i = 0; i < n; ++i) {
        softmax_row(begin + i, tile_width<C>(seen), scores + i * width_, words, sums);
      }
      tile_gemm(n, p_.value_dim, seen, scores, width_, 1, values, value_width, result, value_width);
      unpack(result, value_width, C(1), n, p_.value_dim, query(a.out, begin), a.out.row);
    }
  }

  // One query, as in a step of decoding: keys and values are read where they are, four at a time, each while
  // the next are fetched, the keys of the next head beside the values of this one.
  void forward_in_place(const AttentionForward<T>& a) {
    if (queries_.rows == 0) return;
    const ScoreSums<C> sums{a.sums.shifts + sums_at_, a.sums.sums + sums_at_};
    Pool<C> pool(forward_scratch(p_));
    const C* query_row = packed(query(a.q, 0), a.q, 1, p_.dim, pool.take(tile_width<C>(p_.dim)));
    C *scores = pool.take(width_), *result = pool.take(p_.value_dim);
    uint32_t* words = cleared_words(pool);
    const int64_t n = visible(0);
    for (int64_t j = 0; j < n; j += 4) {
      const T* rows[4];
      for (int64_t i = 0; i < 4; ++i) {
        rows[i] = key(a.k, std::min(j + i, n - 1));
        prefetch(key(a.v, std::min(j + i, n - 1)), p_.value_dim);
      }
      score_keys(query_row, rows, scores + j);
    }
    softmax_row(0, tile_width<C>(n), scores, words, sums);
    std::fill(result, result + p_.value_dim, C(0));
    const T* rows[4];
    C factors[4];
    int count = 0;
    for (int64_t j = 0; j < n; ++j) {
      prefetch(key(a.k, j) + a.k.head, p_.dim);
      if (ignored_ && ignored_[j * p_.ignored.col]) continue;
      rows[count] = key(a.v, j), factors[count] = scores[j];
      if (++count < 4) continue;
      const T *v0 = rows[0], *v1 = rows[1], *v2 = rows[2], *v3 = rows[3];
      const C f0 = factors[0], f1 = factors[1], f2 = factors[2], f3 = factors[3];
#pragma omp simd
      for (int64_t d = 0; d < p_.value_dim; ++d)
        result[d] = (((result[d] + f0 * C(v0[d])) + f1 * C(v1[d])) + f2 * C(v2[d])) + f3 * C(v3[d]);
      count = 0;
    }
    for (int i = 0; i < count; ++i) {
#pragma omp simd
      for (int64_t d = 0; d < p_.value_dim; ++d) result[d] += factors[i] * C(rows[i][d]);
    }
    unpack(result, 0, C(1), 1, p_.value_dim, query(a.out, 0), 0);
  }
  // scores[i] = scale <query, rows[i]>
  void score_keys(const C* query, const T* const* rows, C* scores) const {
    const T *k0 = rows[0], *k1 = rows[1], *k2 = rows[2], *k3 = rows[3];
    C s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t d = 0; d < p_.dim; ++d) {
      s0 += query[d] * C(k0[d]), s1 += query[d] * C(k1[d]);
      s2 += query[d] * C(k2[d]), s3 += query[d] * C(k3[d]);
    }
    const C scale = C(p_.scale);
    scores[0] = scale * s0, scores[1] = scale * s1, scores[2] = scale * s2, scores[3] = scale * s3;
  }
  static void prefetch(const T* x, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(x + i);
  }

  void backward(const AttentionBackward<T>& a) {
    const ScoreSums<const C> sums{a.sums.shifts + sums_at_, a.sums.sums + sums_at_};
    const int64_t dim = tile_width<C>(p_.dim), value_dim = tile_width<C>(p_.value_dim);
    Pool<C> pool(backward_scratch(p_));
    const C* keys = packed_keys(a.k, p_.dim, pool.take(keys_ * dim));
    C* keys_t = pool.take(p_.dim * width_);
    tile_transpose(keys_, p_.dim, keys, dim, C(p_.scale), keys_t, width_);
    C *values_t = pool.take(p_.value_dim * width_), *dkeys = pool.take(keys_ * dim),
      *dvalues = pool.take(keys_ * value_dim);
    const C* values = packed_keys(a.v, p_.value_dim, dvalues);  // dvalues is free until it is cleared
    const int64_t step = step_for(values, value_dim, keys, dim);
    C *rows = pool.take(step * dim), *out_rows = pool.take(step * value_dim),
      *dqueries = pool.take(step * dim);
    C *probabilities = pool.take(step * width_), *dscores = pool.take(step * width_);
    uint32_t* words = cleared_words(pool);
    tile_transpose(keys_, p_.value_dim, values, value_dim, C(1), values_t, width_);
    std::fill(dkeys, dkeys + keys_ * dim, C(0));
    std::fill(dvalues, dvalues + keys_ * value_dim, C(0));
    for (int64_t begin = 0; begin < queries_.rows; begin += step) {
      const int64_t n = std::min(step, queries_.rows - begin), seen = visible(begin + n - 1);
      const C* queries = packed(query(a.q, begin), a.q, n, p_.dim, rows);
      const C* cotangents = packed(query(a.g, begin), a.g, n, p_.value_dim, out_rows);
      tile_gemm(n, seen, p_.dim, queries, dim, 1, keys_t, width_, probabilities, width_);
      tile_gemm(n, seen, p_.value_dim, cotangents, value_dim, 1, values_t, width_, dscores, width_);
      for (int64_t i = 0; i < n; ++i) {
        backward_row(begin + i, tile_width<C>(seen), sums, probabilities + i * width_, dscores + i * width_,
                     words);
      }
      if (a.dv.data) {
        tile_gemm(seen, p_.value_dim, n, probabilities, 1, width_, cotangents, value_dim, dvalues, value_dim,
                  dvalues, value_dim);
      }
      if (a.dk.data) tile_gemm(seen, p_.dim, n, dscores, 1, width_, queries, dim, dkeys, dim, dkeys, dim);
      if (a.dq.data) {
        tile_gemm(n, p_.dim, seen, dscores, width_, 1, keys, dim, dqueries, dim);
        unpack(dqueries, dim, C(p_.scale), n, p_.dim, query(a.dq, begin), a.dq.row);
      }
    }
    write(a.dk, dkeys, dim, C(p_.scale), p_.dim);
    write(a.dv, dvalues, value_dim, C(1), p_.value_dim);
  }

  static int64_t forward_scratch(const AttentionProblem& p) {
    const int64_t step = tile_rows(p), width = tile_width<C>(p.keys), value_dim = tile_width<C>(p.value_dim);
    return 16 * 6 + std::max(p.keys, step) * tile_width<C>(p.dim) + p.dim * width + p.keys * value_dim +
           step * (width + value_dim) + width;
  }
  static int64_t backward_scratch(const AttentionProblem& p) {
    const int64_t step = tile_rows(p), width = tile_width<C>(p.keys), dim = tile_width<C>(p.dim),
                  value_dim = tile_width<C>(p.value_dim);
    return 16 * 10 + p.keys * (2 * dim + value_dim) + (p.dim + p.value_dim) * width +
           step * (2 * dim + value_dim + 2 * width) + width;
  }

 private:
  uint32_t* cleared_words(Pool<C>& pool) const {
    uint32_t* words = reinterpret_cast<uint32_t*>(pool.take(width_));
    std::fill(words, words + width_, 0);
    return words;
  }
  // Row i of this head's queries, and of what has their rows; of its keys.
  template <class U> U* query(const HeadRows<U>& x, int64_t i) const { return at(x, queries_, i); }
  template <class U> U* key(const HeadRows<U>& x, int64_t i) const { return at(x, keys_of_, i); }
  template <class U> U* at(const HeadRows<U>& x, const PackedRows::Sample& of, int64_t i) const {
    const int64_t batch = p_.query_rows.defined() ? 0 : batch_;
    return x.data + pass_ * x.pass + batch * x.batch + head_ * x.head + (of.first_row + i) * x.row;
  }
  const C* packed(const T* from, const HeadRows<const T>& x, int64_t rows, int64_t cols, C* room) const {
    return pack<T>(from, x.row, x.col, rows, cols, room);
  }
  // Keys or values; those that are ignored are 0, since a probability of 0 does not hide a NaN.
  const C* packed_keys(const HeadRows<const T>& x, int64_t cols, C* room) const {
    packed(key(x, 0), x, keys_, cols, room);
    const int64_t width = tile_width<C>(cols);
    for (int64_t j = 0; ignored_ && j < keys_; ++j)
      if (ignored_[j * p_.ignored.col]) std::fill_n(room + j * width, width, C(0));
    return room;
  }
  const C* transposed_keys(const HeadRows<const T>& k, C* rows, C* room) const {
    tile_transpose(keys_, p_.dim, packed_keys(k, p_.dim, rows), tile_width<C>(p_.dim), C(p_.scale), room,
                   width_);
    return room;
  }
  // The queries of a tile: one alone where a later one sees a number that is not finite, which would reach
  // the others through a probability of 0.
  int64_t step_for(const C* values, int64_t value_width, const C* keys, int64_t key_width) const {
    const auto all_finite = [&](const C* x, int64_t n) {
      C sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < n; ++i) sum += x[i] * 0;
      return sum == 0;
    };
    const bool alone = p_.causal && !(all_finite(values, keys_ * value_width) &&
                                      (!keys || all_finite(keys, keys_ * key_width)));
    return alone ? 1 : tile_rows(p_);
  }
  // Keys that the query sees, not counting the ignored ones before the last.
  int64_t visible(int64_t query) const {
    const int64_t before = queries_.position + query + 1 - keys_of_.position;
    return p_.causal ? std::clamp<int64_t>(before, 0, keys_) : keys_;
  }
  // Of the noise of a query and the first key.
  uint64_t position(int64_t query) const {
    const int64_t head = batch_ % p_.samples_per_item * p_.heads + head_;
    const auto row = static_cast<uint64_t>(head) << 20 | static_cast<uint64_t>(queries_.position + query);
    return row << 20 | static_cast<uint64_t>(keys_of_.position);
  }
  uint64_t sample() const { return p_.noise->sample_offset + batch_ / p_.samples_per_item; }

  // Hides what query row `scores` may not see among its first `end` entries, whole vectors: keys after n, and
  // ignored ones.
  void mask_row(int64_t n, int64_t end, C* scores) const {
    if (ignored_) {
      for (int64_t j = 0; j < n; ++j) scores[j] = ignored_[j * p_.ignored.col] ? -kInf : scores[j];
    }
    std::fill(scores + n, scores + end, -kInf);
  }

  // The words of the noise of a query's row; all are kept where there is no dropout.
  void draw_row(int64_t query, int64_t n, uint32_t* words) const {
    if (threshold_ != 0)
      draw(p_.noise->key, p_.noise->first_pass + pass_, sample(), position(query), n, words);
  }

  // Scores to dropped-out probabilities, over the first `end` entries; fills the query's place in `sums`.
  void softmax_row(int64_t query, int64_t end, C* scores, uint32_t* words, ScoreSums<C> sums) const {
    const int64_t n = visible(query);
    mask_row(n, end, scores);
    Lanes largest = fill_lanes(-kInf);
    for_lanes(end, [&](int64_t j, int l) { largest.at[l] = larger(largest.at[l], scores[j]); });
    const C max = fold_lanes(largest, larger);
    if (max == -kInf) {
      std::fill(scores, scores + end, C(0));
      sums.shifts[query] = kInf, sums.sums[query] = 1;
      return;
    }
    draw_row(query, end, words);
    Lanes parts = fill_lanes(0);
    for_lanes(end, [&](int64_t j, int l) {
      const C e = math::exp_nonpositive(scores[j] - max);
      parts.at[l] += e;
      scores[j] = e;
    });
    const C sum = fold_lanes(parts, plus), scale = static_cast<C>(kept_ / double(sum));
    const uint32_t threshold = threshold_;
    for_lanes(end, [&](int64_t j, int) {
      const C scaled = scores[j] * scale;
      scores[j] = words[j] >= threshold ? scaled : C(0);
    });
    sums.shifts[query] = max, sums.sums[query] = sum;
  }

  // scores: to dropped-out probabilities. cotangents, of those: to those of the scores (before scaling),
  //   dS = P * (dP - <P, dP>),  dP = keep / (1 - p) * cotangents
  void backward_row(int64_t query, int64_t end, ScoreSums<const C> sums, C* scores, C* cotangents,
                    uint32_t* words) const {
    mask_row(visible(query), end, scores);
    std::fill(cotangents + visible(query), cotangents + end, C(0));  // of values that may be NaN
    draw_row(query, end, words);
    const C shift = sums.shifts[query], scale = 1 / sums.sums[query], kept = static_cast<C>(kept_);
    const uint32_t threshold = threshold_;
    Lanes inner = fill_lanes(0);
    for_lanes(end, [&](int64_t j, int l) {
      const C p = math::exp_nonpositive(scores[j] - shift) * scale,
              dp = cotangents[j] * (words[j] >= threshold ? kept : C(0));
      inner.at[l] += p * dp;
      scores[j] = p;
      cotangents[j] = dp;
    });
    const C mean = fold_lanes(inner, plus);
    for_lanes(end, [&](int64_t j, int) {
      const C p = scores[j];
      cotangents[j] = p * (cotangents[j] - mean);
      scores[j] = p * (words[j] >= threshold ? kept : C(0));
    });
  }

  // Values by position in a vector, and loops over whole vectors of a row: SIMD code without a scalar rest.
  struct Lanes {
    alignas(64) C at[kTileLanes<C>];
  };
  static Lanes fill_lanes(C value) {
    Lanes lanes;
    for (C& x : lanes.at) x = value;
    return lanes;
  }
  template <class F> static void for_lanes(int64_t end, F f) {
    for (int64_t j = 0; j < end; j += kTileLanes<C>) {
#pragma omp simd
      for (int l = 0; l < static_cast<int>(kTileLanes<C>); ++l) f(j + l, l);
    }
  }
  template <class F> static C fold_lanes(Lanes& lanes, F combine) {
    for (int64_t width = kTileLanes<C> / 2; width > 0; width /= 2) {
      for (int64_t l = 0; l < width; ++l) lanes.at[l] = combine(lanes.at[l], lanes.at[l + width]);
    }
    return lanes.at[0];
  }

  // A gradient of the keys' rows; those of trailing ignored keys are 0.
  void write(const HeadRows<T>& to, const C* x, int64_t width, C factor, int64_t cols) const {
    if (!to.data) return;
    unpack(x, width, factor, keys_, cols, key(to, 0), to.row);
    for (int64_t i = keys_; i < keys_of_.rows; ++i) std::fill_n(key(to, i), cols, T(0));
  }

  const AttentionProblem& p_;
  int64_t pass_, batch_, head_, sums_at_;
  // Those of this sample: where they stand in memory and in the sample.
  PackedRows::Sample queries_{0, p_.queries, 0}, keys_of_{0, p_.keys, 0};
  int64_t keys_ = p_.keys, width_;  // keys but for those at the end that are ignored
  const bool* ignored_ = nullptr;
  double kept_ = 1;
  uint32_t threshold_ = 0;
};

// Calls body(head) for all of them.
template <class T, class Body> void for_each_head(const AttentionProblem& p, Body body) {
  const int64_t products = 2 * (p.queries + kReadingCosts) * p.keys * (p.dim + p.value_dim);
  const int64_t grain = std::max<int64_t>(1, kChunkProducts / std::max<int64_t>(1, products));
  parallel_for(p.passes * p.batch * p.heads, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(Head<T>(p, i));
  });
}

}  // namespace

template <class T> void attention_on_cpu(const AttentionForward<T>& args) {
  for_each_head<T>(args.problem, [&](Head<T> head) { head.forward(args); });
}
template <class T> void attention_on_cpu(const AttentionBackward<T>& args) {
  for_each_head<T>(args.problem, [&](Head<T> head) { head.backward(args); });
}
template void attention_on_cpu(const AttentionForward<bf16>&);
template void attention_on_cpu(const AttentionForward<float>&);
template void attention_on_cpu(const AttentionForward<double>&);
template void attention_on_cpu(const AttentionBackward<bf16>&);
template void attention_on_cpu(const AttentionBackward<float>&);
template void attention_on_cpu(const AttentionBackward<double>&);

}  // namespace tandem::detail
