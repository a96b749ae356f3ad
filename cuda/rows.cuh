// Rows held by a team of threads: read from memory once, however often a kernel goes over them. A thread has
// the same elements of a row each time, so going over them again needs no barrier.
#pragma once

#include "cuda/reduce.cuh"

namespace tandem::cuda {

template <class T, int V> __device__ Vector<compute_t<T>, V> widen(const Vector<T, V>& values) {
  Vector<compute_t<T>, V> wide;
#pragma unroll
  for (int v = 0; v < V; ++v) wide.at[v] = static_cast<compute_t<T>>(values.at[v]);
  return wide;
}
template <class T, int V> __device__ Vector<compute_t<T>, V> load_row(const T* x, int64_t i) {
  return widen<T, V>(load_vector<V>(x + i));
}
template <class T, int V> __device__ void store_row(T* y, int64_t i, const Vector<compute_t<T>, V>& values) {
  Vector<T, V> narrow;
#pragma unroll
  for (int v = 0; v < V; ++v) narrow.at[v] = values.at[v];
  store_vector<V>(y + i, narrow);
}

// How a kernel holds rows: V elements are read and written at once. K > 0: in registers, up to K times V
// elements in each thread. K = 0: rows of any length, in shared memory as far as they fit, the rest read
// again.
template <class TeamOf, int V_, int K_> struct RowForm {
  using Team = TeamOf;
  static constexpr int V = V_, K = K_;
  static constexpr bool kRegisters = K > 0;
};

// For __launch_bounds__: blocks on a multiprocessor, at least. 1 keeps the assembler from spilling registers
// for the sake of more, as it does here; 0 leaves it the choice.
template <class Form, class T> inline constexpr int kLeastBlocks = Form::kRegisters && sizeof(T) < 8 ? 0 : 1;

// One row of n values of T; the first `held` of them have room in shared memory.
template <class Form, class T, bool registers = Form::kRegisters> class HeldRow {
 public:
  using Values = Vector<compute_t<T>, Form::V>;
  __device__ HeldRow(const T* x, int64_t n, char*, int64_t) {
#pragma unroll
    for (int k = 0; k < Form::K; ++k) {
      const int i = (k * Form::Team::kSize + Form::Team::rank()) * Form::V;
      if (i < n) values_[k] = load_row<T, Form::V>(x, i);
    }
  }
  __device__ Values& at(int k, int64_t) { return values_[k]; }  // what is written there stays

 private:
  Values values_[Form::K];
};

template <class Form, class T> class HeldRow<Form, T, false> {
 public:
  using Values = Vector<compute_t<T>, Form::V>;
  __device__ HeldRow(const T* x, int64_t, char* room, int64_t held)
      : x_(x), room_(reinterpret_cast<T*>(room)), held_(held) {
    constexpr int V = Form::V;
    Form::Team::for_each(
        held / V, [&](int64_t i) { reinterpret_cast<Vector<T, V>*>(room_)[i] = load_vector<V>(x + i * V); });
  }
  __device__ Values at(int, int64_t i) const { return load_row<T, Form::V>(i < held_ ? room_ : x_, i); }

 private:
  const T* x_;
  T* room_;
  int64_t held_;
};

// How many of a row's n values of T have room in so many bytes.
template <class Form, class T> __device__ int64_t values_in(int64_t n, int64_t bytes) {
  const int64_t fit = bytes / static_cast<int64_t>(sizeof(T) * Form::V) * Form::V;
  return fit < n ? fit : n;
}

// Calls f(i, values...) for the vectors that this thread holds of some rows, at their first element i.
template <class Form, class F, class... Row> __device__ void each_vector(int64_t n, F f, Row&... rows) {
  if constexpr (Form::kRegisters) {
#pragma unroll
    for (int k = 0; k < Form::K; ++k) {
      const int i = (k * Form::Team::kSize + Form::Team::rank()) * Form::V;
      if (i < n) f(i, rows.at(k, i)...);
    }
  } else {
    Form::Team::for_each(n / Form::V, [&](int64_t k) { f(k * Form::V, rows.at(0, k * Form::V)...); });
  }
}

// The sum of f(x...) over the values of held rows, in all threads of the team.
template <class Form, class C, class F, class... Row> __device__ C sum_row(int64_t n, F f, Row&... x) {
  C sum = 0;
  each_vector<Form>(
      n,
      [&](int64_t, const auto& v, const auto&... more) {
#pragma unroll
        for (int l = 0; l < Form::V; ++l) sum += f(v.at[l], more.at[l]...);
      },
      x...);
  return Form::Team::sum(sum);
}

// A block's dynamic shared memory, and this team's part of it, `bytes` for each; null for 0.
__device__ inline char* block_room() {
  extern __shared__ __align__(16) char room[];
  return room;
}
template <class Team> __device__ char* team_room(int bytes) {
  return bytes == 0 ? nullptr : block_room() + threadIdx.x / Team::kSize * bytes;
}

// Calls f.template operator()<Form>() with how rows of n values of T are best held; `vectors`: 16 bytes may
// be read and written at once (takes_row_vectors).
template <class T, class F> void with_row_form(int64_t n, bool vectors, F&& f) {
  constexpr int V = 16 / sizeof(T), K = 4;
  const int64_t pieces = n / V;
  if (!vectors) {
    if (n <= 1024) {
      f.template operator()<RowForm<Team<32>, 1, 0>>();
    } else {
      f.template operator()<RowForm<Team<512>, 1, 0>>();
    }
  } else if (pieces <= 8 * K) {
    f.template operator()<RowForm<Team<8>, V, K>>();
  } else if (pieces <= 32 * K) {
    f.template operator()<RowForm<Team<32>, V, K>>();
  } else if (pieces <= 64 * K) {
    f.template operator()<RowForm<Team<64>, V, K>>();
  } else if (pieces <= 256 * K) {
    f.template operator()<RowForm<Team<256>, V, K>>();
  } else {
    f.template operator()<RowForm<Team<512>, V, 0>>();
  }
}

// Launches kernel(args, room bytes of a team) over rows for whose holding a team wants `bytes` of shared
// memory. If there is less: that much if rows may be held `partly`, or else none.
template <auto kernel, class Form, class Args>
void launch_rows(const char* name, const Args& args, int64_t rows, int64_t bytes, bool partly = false) {
  using Team = typename Form::Team;
  bytes = Form::kRegisters ? 0 : (bytes + 31) / 32 * 32;
  if (bytes * Team::kRows > shared_limit()) bytes = partly ? shared_limit() / Team::kRows / 32 * 32 : 0;
  launch<kernel>(name, Team::blocks_for(rows, bytes * Team::kRows), args, static_cast<int>(bytes));
}

}  // namespace tandem::cuda
