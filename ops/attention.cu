// What happens to attention's scores between two products: scale, mask, softmax and dropout in one kernel,
// which reads and writes them once. A team of threads holds a row.
#include <limits>

#include "cuda/divisor.cuh"
#include "cuda/rows.cuh"
#include "ops/attention_kernel.h"

namespace tandem {
namespace {

using namespace detail;
using cuda::Vector;

// The arguments, and the sizes by which rows are divided.
template <class T> struct Rows : AttentionRows<T> {
  explicit Rows(const AttentionRows<T>& args)
      : AttentionRows<T>(args),
        by_queries(args.queries),
        by_heads(args.heads),
        by_batch(args.batch),
        by_sample(args.samples_per_item) {}
  cuda::Divisor by_queries, by_heads, by_batch, by_sample;
};

// Which query a row belongs to, and what of its keys counts.
template <class T> class Query {
  using C = compute_t<T>;

 public:
  // Not `live`: a row of another team, which may be writing to it already; nothing of it is seen.
  __device__ Query(const Rows<T>& a, int64_t row, bool live) : a_(a) {
    int64_t rest = row;
    query_ = a.by_queries.divide(rest);
    head_ = a.first_head + a.by_heads.divide(rest);
    item_ = a.first_item + rest;
    rest = item_;
    batch_ = a.by_batch.divide(rest);
    pass_ = rest;
    visible_ = !live ? 0 : a.causal && query_ + 1 < a.keys ? query_ + 1 : a.keys;
    if (a.ignored.data) ignored_ = a.ignored.data + pass_ * a.ignored.pass + batch_ * a.ignored.batch;
  }

  __device__ int64_t index() const { return query_; }
  // A row of the query's head, by its number, and a column of it.
  template <class U> __device__ U* place(const HeadRows<U>& x, int64_t row, int64_t column) const {
    return x.data + pass_ * x.pass + batch_ * x.batch + head_ * x.head + row * x.row + column * x.col;
  }
  __device__ int64_t sums_at() const { return (item_ * a_.all_heads + head_) * a_.queries + query_; }
  __device__ int64_t visible() const { return visible_; }
  __device__ bool sees(int64_t key) const {
    return key < visible_ && !(ignored_ && ignored_[key * a_.ignored.col]);
  }
  __device__ C kept() const { return a_.drops ? a_.kept[pass_ - a_.first_pass] : C(1); }

  // Which of the keys from i on dropout keeps, V of a block of noise.
  template <int V> __device__ Vector<bool, V> keeps(const DeviceNoise::Draws& draws, int64_t i) const {
    Vector<bool, V> result;
    const uint32_t threshold = a_.drops ? a_.threshold[pass_ - a_.first_pass] : 0;
    std::array<uint32_t, 4> words{};
    if (threshold != 0) {
      int64_t sample = batch_;
      const auto place = static_cast<uint64_t>(a_.by_sample.divide(sample) * a_.all_heads + head_);
      const uint64_t first = (place << 20 | static_cast<uint64_t>(query_)) << 18;
      words = draws.block(static_cast<uint32_t>(pass_), static_cast<uint64_t>(sample),
                          first + static_cast<uint64_t>(i) / 4);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const uint32_t word = V == 4 ? words[v] : i % 4 == 0 ? words[v] : words[v + 4 - V];
      result.at[v] = word >= threshold;
    }
    return result;
  }

 private:
  const Rows<T>& a_;
  int64_t query_, head_, item_, batch_, pass_, visible_;
  const bool* ignored_ = nullptr;
};

// A row of a matrix whose rows are padded to whole vectors: what the query does not see is `hidden`, and not
// read where it comes after all that it sees.
template <class Form, class C> class PaddedRow {
 public:
  using Values = Vector<C, Form::V>;
  template <class Q>
  __device__ PaddedRow(const C* x, const Q& query, C scale, C hidden, char* room) : source_(x) {
    constexpr int V = Form::V;
    if constexpr (Form::kRegisters) {
#pragma unroll
      for (int k = 0; k < Form::K; ++k)
        values_[k] = load(query, (k * Form::Team::kSize + Form::Team::rank()) * V, scale, hidden);
    } else if (room) {
      auto* held = reinterpret_cast<C*>(room);
      Form::Team::for_each((query.visible() + V - 1) / V, [&](int64_t k) {
        *reinterpret_cast<Values*>(held + k * V) = raw(k * V, query.visible());
      });
      source_ = held;
    }
  }

  __device__ Values& held(int k) { return values_[k]; }

  template <class Q> __device__ Values load(const Q& query, int64_t i, C scale, C hidden) const {
    Values values = raw(i, query.visible());
#pragma unroll
    for (int v = 0; v < Form::V; ++v) values.at[v] = query.sees(i + v) ? values.at[v] * scale : hidden;
    return values;
  }

 private:
  __device__ Values raw(int64_t i, int64_t n) const {
    if (i + Form::V <= n) return *reinterpret_cast<const Values*>(source_ + i);
    Values values;
#pragma unroll
    for (int v = 0; v < Form::V; ++v) values.at[v] = i + v < n ? source_[i + v] : C(0);
    return values;
  }

  const C* source_;
  Values values_[Form::kRegisters ? Form::K : 1];
};

// Calls f(i, values...) for the vectors of this thread, at their first key i: read again, or held and
// changed.
template <class Form, class C, class Q, class F>
__device__ void each_score(const Q& query, int64_t n, C scale, PaddedRow<Form, C>& row, F f) {
  constexpr C kHidden = -std::numeric_limits<C>::infinity();
  if constexpr (Form::kRegisters) {
#pragma unroll
    for (int k = 0; k < Form::K; ++k) {
      const int i = (k * Form::Team::kSize + Form::Team::rank()) * Form::V;
      if (i < n) f(k, i, row.held(k));
    }
  } else {
    Form::Team::for_each((n + Form::V - 1) / Form::V, [&](int64_t k) {
      auto values = row.load(query, k * Form::V, scale, kHidden);
      f(0, k * Form::V, values);
    });
  }
}

// All of the team's row has been read, when it may be written over. (Sums wait in a block, but not in a
// warp.)
template <class Team> __device__ void wait_for_reads() {
  if constexpr (Team::kSize <= cuda::kWarp) __syncwarp();
}

template <class T, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock, cuda::kLeastBlocks<Form, T>)
    softmax_rows(Rows<T> a, int room_bytes) {
  using C = compute_t<T>;
  using Team = typename Form::Team;
  constexpr C kInf = std::numeric_limits<C>::infinity();
  const DeviceNoise::Draws draws = a.drops ? a.noise.draws() : DeviceNoise::Draws{};
  char* room = cuda::team_room<Team>(room_bytes);
  Team::for_each_row(a.items * a.heads * a.queries, [&](int64_t row, bool live) {
    const Query<T> query(a, row, live);
    PaddedRow<Form, C> scores(a.scores + row * a.pitch, query, a.scale, -kInf, room);
    const auto each = [&](auto f) { each_score<Form>(query, a.keys, a.scale, scores, f); };
    C max = -kInf, sum = 0;
    each([&](int, int64_t, const auto& s) {
#pragma unroll
      for (C value : s.at) max = cuda::Larger{}(max, value);
    });
    max = Team::max(max);
    const C shift = max == -kInf ? C(0) : max;  // no key is seen: all come out as 0
    each([&](int, int64_t, auto& s) {
#pragma unroll
      for (C& value : s.at) {
        const C e = exp(value - shift);
        sum += e;
        if constexpr (Form::kRegisters) value = e;
      }
    });
    sum = Team::sum(sum);
    wait_for_reads<Team>();
    if (!live) return;
    if (Team::rank() == 0) {
      a.sums.shifts[query.sums_at()] = max == -kInf ? kInf : max;
      a.sums.sums[query.sums_at()] = max == -kInf ? C(1) : sum;
    }
    const C scale = max == -kInf ? C(0) : query.kept() / sum;
    T* out = a.dropped + row * a.out_pitch;
    each([&](int, int64_t i, const auto& s) {
      const Vector<bool, Form::V> keep = query.template keeps<Form::V>(draws, i);
      Vector<C, Form::V> p;
#pragma unroll
      for (int v = 0; v < Form::V; ++v) {
        const C e = Form::kRegisters ? s.at[v] : exp(s.at[v] - shift);
        p.at[v] = keep.at[v] ? e * scale : C(0);
      }
      cuda::store_row<T, Form::V>(out, i, p);
    });
  });
}

template <class T, class Form>
__global__ void __launch_bounds__(Form::Team::kBlock, 1) softmax_grad(Rows<T> a, int room_bytes) {
  using C = compute_t<T>;
  using Team = typename Form::Team;
  constexpr int V = Form::V;
  constexpr C kInf = std::numeric_limits<C>::infinity();
  const DeviceNoise::Draws draws = a.drops ? a.noise.draws() : DeviceNoise::Draws{};
  char* room = cuda::team_room<Team>(room_bytes);
  Team::for_each_row(a.items * a.heads * a.queries, [&](int64_t row, bool live) {
    const Query<T> query(a, row, live);
    PaddedRow<Form, C> scores(a.scores + row * a.pitch, query, a.scale, -kInf, room);
    PaddedRow<Form, C> grads(a.backward + row * a.pitch, query, C(1), C(0),
                             room ? room + room_bytes / 2 : nullptr);
    const C shift = a.sums.shifts[query.sums_at()], kept = query.kept();
    const C by_sum = a.sums.sums ? 1 / a.sums.sums[query.sums_at()] : C(1);
    // Values of P, and of dP as far as it is kept.
    const auto each = [&](auto f) {
      each_score<Form>(query, a.keys, a.scale, scores, [&](int k, int64_t i, auto& s) {
        if constexpr (Form::kRegisters) {
          f(i, s, grads.held(k));
        } else {
          auto g = grads.load(query, i, C(1), C(0));
          f(i, s, g);
        }
      });
    };
    const auto probabilities = [&](int64_t i, auto& s, auto& g) {
      const Vector<bool, V> keep = query.template keeps<V>(draws, i);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        // What is hidden is 0 in a row of NaN, too.
        const C p = s.at[v] == -kInf ? C(0) : exp(s.at[v] - shift) * by_sum;
        s.at[v] = keep.at[v] ? p : -p;  // the sign tells what is dropped
        g.at[v] = keep.at[v] ? g.at[v] * kept : C(0);
      }
    };
    C inner = 0;
    each([&](int64_t i, auto& s, auto& g) {
      probabilities(i, s, g);
#pragma unroll
      for (int v = 0; v < V; ++v) inner += fabs(s.at[v]) * g.at[v];
    });
    inner = Team::sum(inner);
    wait_for_reads<Team>();
    if (!live) return;
    T *dropped = a.dropped + row * a.out_pitch, *out = a.grads + row * a.out_pitch;
    each([&](int64_t i, auto& s, auto& g) {
      if constexpr (!Form::kRegisters) probabilities(i, s, g);
      Vector<C, V> kept_p, ds;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        kept_p.at[v] = s.at[v] <= 0 ? C(0) : s.at[v] * kept;  // NaN stays
        ds.at[v] = s.at[v] == 0 ? C(0) : a.scale * fabs(s.at[v]) * (g.at[v] - inner);
      }
      cuda::store_row<T, V>(dropped, i, kept_p);
      cuda::store_row<T, V>(out, i, ds);
    });
  });
}

template <class T>
__global__ void __launch_bounds__(cuda::kThreads)
    mend_kernel(Rows<T> a, const T* factors, HeadRows<const T> values, HeadRows<T> out,
                cuda::Divisor columns) {
  using C = compute_t<T>;
  cuda::grid_stride_loop(a.items * a.heads * a.queries * columns.size, [&](int64_t i) {
    const int64_t column = columns.divide(i);  // i is the row now
    const Query<T> query(a, i, true);
    T& element = *query.place(out, query.index(), column);
    if (fabs(static_cast<C>(element)) <= std::numeric_limits<C>::max()) return;
    C sum = 0;
    for (int64_t key = 0; key < query.visible(); ++key) {
      if (query.sees(key))
        sum += static_cast<C>(factors[i * a.out_pitch + key]) *
               static_cast<C>(*query.place(values, key, column));
    }
    element = sum;
  });
}

template <class T> void mend(const AttentionMend<T>& m) {
  const int64_t elements = m.rows.items * m.rows.heads * m.rows.queries * m.columns;
  if (elements == 0) return;
  cuda::launch<mend_kernel<T>>("attention", cuda::threads_for(elements), Rows<T>(m.rows), m.factors, m.values,
                               m.out, cuda::Divisor(m.columns));
}

template <class T> void launch(const AttentionRows<T>& args) {
  using C = compute_t<T>;
  const int64_t rows = args.items * args.heads * args.queries;
  if (rows == 0) return;
  const Rows<T> a(args);
  constexpr int V = 16 / sizeof(C);
  const int64_t n = (a.keys + V - 1) / V * V, bytes = n * static_cast<int64_t>(sizeof(C));
  cuda::with_row_form<C>(n, true, [&]<class Form>() {
    if constexpr (Form::V == 1) {
      return;  // rows are padded to vectors
    } else if (a.backward) {
      cuda::launch_rows<softmax_grad<T, Form>, Form>("attention", a, rows, 2 * bytes);
    } else {
      cuda::launch_rows<softmax_rows<T, Form>, Form>("attention", a, rows, bytes);
    }
  });
}

const RegisterKernels registered{[] {
  cuda::for_floats([]<class T>() {
    register_kernel(launch<T>);
    register_kernel(mend<T>);
  });
}};

}  // namespace
}  // namespace tandem
